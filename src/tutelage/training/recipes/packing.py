"""Which chats share a row, a batch and an optimizer step."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tutelage.training.recipes.tokenized import TokenizedChat

if TYPE_CHECKING:
    from torch import Tensor

Batching = Literal["packed", "sorted"]
"""``packed``: several chats in a row, each blind to the others. ``sorted``: one chat a row, with
those of like length in a batch."""
Order = Literal["shuffled", "given"]
Rows = tuple[tuple[int, ...], ...]
"""Indexes of the chats in each row of a batch."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How chats are put together.

    A batch is what goes through the model at once: at most ``tokens_per_batch`` with its padding,
    and at least one row. The same seed gives the same plan.
    """

    tokens_per_batch: int
    batches_per_step: int = 1
    batching: Batching = "sorted"
    order: Order = "shuffled"
    row_tokens: int = 1024
    """Longest row of packed chats; a longer chat has a row to itself."""
    seed: int = 0

    def plan(
        self, lengths: Sequence[int], epochs: int, steps: int | None = None
    ) -> list[list[Rows]]:
        """The batches of each optimizer step.

        Args:
            lengths: Tokens of each chat.
            epochs: Times that each chat is seen.
            steps: Ends the plan early.
        """
        plan: list[list[Rows]] = []
        for epoch in range(epochs):
            rng = random.Random(f"{self.seed}/{epoch}")
            batches = self._batches(lengths, rng)
            plan += [
                batches[start : start + self.batches_per_step]
                for start in range(0, len(batches), self.batches_per_step)
            ]
        return plan[:steps]

    def _batches(self, lengths: Sequence[int], rng: random.Random) -> list[Rows]:
        indexes = list(range(len(lengths)))
        if self.order == "shuffled":
            rng.shuffle(indexes)
        rows = [[index] for index in indexes]
        if self.batching == "packed":
            rows = self._filled(indexes, lengths)
        elif self.order == "shuffled":
            # Stable: chats of one length stay shuffled.
            rows.sort(key=lambda row: lengths[row[0]])
        widths = [sum(lengths[index] for index in row) for row in rows]
        batches: list[list[tuple[int, ...]]] = []
        widest = 0
        for row, width in zip(rows, widths, strict=True):
            widest = max(widest, width)
            if not batches or widest * (len(batches[-1]) + 1) > self.tokens_per_batch:
                batches.append([])
                widest = width
            batches[-1].append(tuple(row))
        if self.order == "shuffled":
            rng.shuffle(batches)
        return [tuple(batch) for batch in batches]

    def _filled(self, indexes: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
        """First fit, but only among the newest rows, so that a given order is roughly kept."""
        rows: list[list[int]] = []
        room: list[int] = []
        for index in indexes:
            needed = lengths[index]
            start = max(0, len(rows) - 16)
            fits = [at for at in range(start, len(rows)) if room[at] >= needed]
            if fits:
                rows[fits[0]].append(index)
                room[fits[0]] -= needed
            else:
                rows.append([index])
                room.append(self.row_tokens - needed)
        return rows


def step_totals(plan: Sequence[Sequence[Rows]], amounts: Sequence[int]) -> list[int]:
    """Sums an amount of each chat, such as its tokens, over the chats of each step."""
    return [sum(amounts[i] for rows in step for row in rows for i in row) for step in plan]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows of chats, padded to the right; n supervised tokens, in the order of chats and time."""

    tokens: Tensor
    """(rows, width), int64."""
    positions: Tensor
    """(rows, width), int64: place of each token in its own chat."""
    attention: Tensor | None
    """(rows, 1, width, width), bool: who sees whom; ``None``: each what is before it."""
    predicting: Tensor
    """(rows, width), bool: the n positions whose next token is supervised."""
    targets: Tensor
    """(n,), int64: these next tokens."""
    weights: Tensor
    """(n,), float32."""
    chats: Tensor
    """(n,), int64: number of the chat in this batch, from 0."""

    def to(self, device: str) -> Batch:
        """This batch on a device."""
        attention = None if self.attention is None else self.attention.to(device)
        return Batch(
            self.tokens.to(device),
            self.positions.to(device),
            attention,
            self.predicting.to(device),
            self.targets.to(device),
            self.weights.to(device),
            self.chats.to(device),
        )


def collate(rows: Rows, chats: Sequence[TokenizedChat], pad: int = 0) -> Batch:
    """Builds a batch; padding is to the right, where causal attention never sees it."""
    import torch

    width = max(sum(len(chats[index].tokens) for index in row) for row in rows)
    shape = (len(rows), width)
    tokens = torch.full(shape, pad, dtype=torch.int64)
    positions = torch.zeros(shape, dtype=torch.int64)
    owner = torch.full(shape, -1, dtype=torch.int64)
    predicting = torch.zeros(shape, dtype=torch.bool)
    targets: list[int] = []
    weights: list[float] = []
    owners: list[int] = []
    number = 0
    for at, row in enumerate(rows):
        start = 0
        for index in row:
            chat = chats[index]
            end = start + len(chat.tokens)
            tokens[at, start:end] = torch.tensor(chat.tokens)
            positions[at, start:end] = torch.arange(len(chat.tokens))
            owner[at, start:end] = number
            # A chat's first token has nothing before it to be predicted from.
            learned = torch.tensor(chat.supervised[1:], dtype=torch.bool)
            predicting[at, start : end - 1] = learned
            wanted = [t for t, on in zip(chat.tokens[1:], chat.supervised[1:], strict=True) if on]
            targets += wanted
            weights += [chat.weight] * len(wanted)
            owners += [number] * len(wanted)
            start, number = end, number + 1
    attention = None
    if any(len(row) > 1 for row in rows):
        same = owner[:, :, None] == owner[:, None, :]
        causal = torch.ones((width, width), dtype=torch.bool).tril()
        attention = (same & causal)[:, None]
    return Batch(
        tokens,
        positions,
        attention,
        predicting,
        torch.tensor(targets, dtype=torch.int64),
        torch.tensor(weights, dtype=torch.float32),
        torch.tensor(owners, dtype=torch.int64),
    )
