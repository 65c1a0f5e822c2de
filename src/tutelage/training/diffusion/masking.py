"""Which tokens of an answer are hidden from the student while it learns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.training.diffusion.canvas import Canvas

LEAST_RATIO = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Masked:
    """One noisy view of a canvas."""

    tokens: Tensor
    """(batch, columns), int64."""
    scored: Tensor
    """(batch, slots), bool: the masked slots that carry loss."""

    def to(self, device: torch.device) -> Masked:
        """The same on another device."""
        return Masked(self.tokens.to(device), self.scored.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class MaskedHalves:
    """A view and its complement: what one hides of the active part, the other shows."""

    first: Masked
    second: Masked


def semi_autoregressive(
    canvas: Canvas, chosen: Tensor, noise: Tensor, ratio: Tensor | float, mask_token: int
) -> MaskedHalves:
    """Blocks before the chosen one clean, part of it masked, all after it masked.

    dParallel's forward masking (arXiv 2509.26488), with a block of its own for every row.

    Args:
        canvas: Prompts and answers.
        chosen: (batch,), int64: the active block of each row, from 0.
        noise: (batch, slots), uniform in [0, 1): a slot is masked where it is below the ratio.
        ratio: Share of the active block that the first half masks; a number, or (batch, 1).
        mask_token: Id of the mask.
    """
    numbers = canvas.block_numbers()[canvas.prompt_columns :] - 1
    active = numbers[None, :] == chosen[:, None]
    later = numbers[None, :] > chosen[:, None]
    return _halves(canvas, active, later, noise < ratio, mask_token)


def whole_response(
    canvas: Canvas, noise: Tensor, ratio: Tensor | float, mask_token: int
) -> MaskedHalves:
    """Part of the whole answer masked, without blocks (Dream's variant of dParallel).

    Args:
        canvas: Prompts and answers.
        noise: (batch, slots), uniform in [0, 1).
        ratio: Share that the first half masks; a number, or (batch, 1).
        mask_token: Id of the mask.
    """
    active = torch.ones_like(canvas.answers, dtype=torch.bool)
    return _halves(canvas, active, ~active, noise < ratio, mask_token)


def from_order(
    canvas: Canvas,
    order: Tensor,
    start: Tensor,
    window: int,
    ratio: Tensor | float,
    mask_token: int,
) -> Masked:
    """The state that the student's own decoding went through (d3LLM, arXiv 2601.07568).

    Before the window everything is clean, after it everything masked; within it the share
    ``ratio`` that was committed last is masked, at least one slot.

    Args:
        canvas: Prompts and answers.
        order: (batch, slots), int64: the forward in which each slot was committed.
        start: (batch,), int64: first slot of each row's window.
        window: Slots of the window.
        ratio: Share masked; a number, or (batch, 1).
        mask_token: Id of the mask.
    """
    slots = torch.arange(canvas.slots, device=order.device)
    inside = (slots >= start[:, None]) & (slots < start[:, None] + window)
    later = slots >= start[:, None] + window
    # Of slots committed in one forward the later ones count as last.
    keys = torch.where(inside, order * canvas.slots + slots, -1)
    latest_first = keys.argsort(-1, descending=True).argsort(-1)
    sizes = inside.sum(-1, keepdim=True)
    count = (sizes * ratio).ceil().clamp(min=1)
    scored = inside & (latest_first < count)
    return Masked(_with_masks(canvas, scored | later, mask_token), scored)


def drawn_blocks(canvas: Canvas, random: torch.Generator) -> Tensor:
    """(batch,): a block of the answer for each row, uniform."""
    return torch.randint(canvas.blocks, (canvas.tokens.shape[0],), generator=random)


def drawn_noise(canvas: Canvas, random: torch.Generator) -> Tensor:
    """(batch, slots): uniform in [0, 1)."""
    return torch.rand(canvas.answers.shape, generator=random)


def drawn_ratio(canvas: Canvas, low: float, high: float, random: torch.Generator) -> Tensor:
    """(batch, 1): a ratio for each row, uniform between two bounds; equal bounds fix it."""
    drawn = torch.rand((canvas.tokens.shape[0], 1), generator=random)
    return (low + (high - low) * drawn).clamp(min=LEAST_RATIO)


def _halves(
    canvas: Canvas, active: Tensor, later: Tensor, below: Tensor, mask_token: int
) -> MaskedHalves:
    first, second = active & below, active & ~below
    return MaskedHalves(
        Masked(_with_masks(canvas, first | later, mask_token), first),
        Masked(_with_masks(canvas, second | later, mask_token), second),
    )


def _with_masks(canvas: Canvas, hidden: Tensor, mask_token: int) -> Tensor:
    tokens = canvas.tokens.clone()
    tokens[:, canvas.prompt_columns :] = canvas.answers.masked_fill(hidden, mask_token)
    return tokens
