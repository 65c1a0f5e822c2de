"""Prompts and answers as one rectangle: prompts end, and answers begin, at one column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.runtime.errors import TrainingError
from tutelage.training.diffusion.shape import StudentShape

PROMPT_BLOCK = 0
"""Number of the block that a prompt makes; those of the answer count from 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """A batch; what stands before a short prompt is padding that nothing looks at."""

    tokens: Tensor
    """(batch, columns), int64."""
    prompt_lengths: Tensor
    """(batch,), int64."""
    prompt_columns: int
    """Column at which all answers begin."""
    block_length: int

    @property
    def slots(self) -> int:
        """Columns of the answer."""
        return int(self.tokens.shape[1]) - self.prompt_columns

    @property
    def blocks(self) -> int:
        """Blocks of the answer; the last may be shorter."""
        return -(-self.slots // self.block_length)

    @property
    def answers(self) -> Tensor:
        """(batch, slots): the tokens of the answers."""
        return self.tokens[:, self.prompt_columns :]

    def positions(self) -> Tensor:
        """(batch, columns), int64: 0 at the first token of each prompt, and at padding."""
        columns = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        padding = self.prompt_columns - self.prompt_lengths
        return (columns - padding[:, None]).clamp(min=0)

    def valid(self) -> Tensor:
        """(batch, columns), bool: no padding."""
        columns = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        return columns >= self.prompt_columns - self.prompt_lengths[:, None]

    def block_numbers(self) -> Tensor:
        """(columns,), int64: the block that each column is in."""
        columns = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        within = columns - self.prompt_columns
        numbers = torch.div(within, self.block_length, rounding_mode="floor") + 1
        return torch.where(within < 0, PROMPT_BLOCK, numbers)

    def with_tokens(self, tokens: Tensor) -> Canvas:
        """The same layout with other tokens (batch, columns)."""
        return Canvas(tokens, self.prompt_lengths, self.prompt_columns, self.block_length)

    def to(self, device: torch.device) -> Canvas:
        """The same on another device."""
        return Canvas(
            self.tokens.to(device),
            self.prompt_lengths.to(device),
            self.prompt_columns,
            self.block_length,
        )

    def rows(self, chosen: Sequence[int] | Tensor) -> Canvas:
        """Some of the rows."""
        index = torch.as_tensor(chosen, dtype=torch.int64, device=self.tokens.device)
        return Canvas(
            self.tokens[index], self.prompt_lengths[index], self.prompt_columns, self.block_length
        )


def lay_out(
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]] | None,
    shape: StudentShape,
    *,
    block_length: int | None = None,
    slots: int | None = None,
) -> Canvas:
    """Places prompts and answers; an answer ends with, and is filled up by, the end token.

    Args:
        prompts: Token ids; at least one row, each with at least one token.
        answers: Token ids without the end token; ``None`` leaves every slot masked.
        shape: Of the student.
        block_length: Another one than the shape's.
        slots: Another length of the canvas than the shape's.

    Raises:
        TrainingError: A prompt is empty or too long, or an answer does not fit the canvas.
    """
    length = slots or shape.slots
    columns = max(map(len, prompts))
    if not min(map(len, prompts)) or columns + length > shape.max_positions:
        raise TrainingError(
            f"a prompt has {columns if columns else 0} tokens: prompts take 1 to "
            f"{shape.max_positions - length}, so shorten it or raise max_positions"
        )
    tokens = torch.full((len(prompts), columns + length), shape.mask_token, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        tokens[row, : columns - len(prompt)] = shape.end_token
        tokens[row, columns - len(prompt) : columns] = torch.tensor(list(prompt))
    for row, answer in enumerate(answers or ()):
        if len(answer) > length:
            raise TrainingError(
                f"an answer has {len(answer)} tokens and the canvas {length} slots: shorten the "
                "answer or raise slots"
            )
        tokens[row, columns:] = shape.end_token
        tokens[row, columns : columns + len(answer)] = torch.tensor(list(answer), dtype=torch.int64)
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    return Canvas(tokens, lengths, columns, block_length or shape.block_length)
