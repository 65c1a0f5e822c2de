"""The noisy views of a batch that one optimizer step learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from tutelage.training.diffusion.canvas import Canvas
from tutelage.training.diffusion.masking import (
    Masked,
    drawn_blocks,
    drawn_noise,
    drawn_ratio,
    semi_autoregressive,
    whole_response,
)


class Views(Protocol):
    """Makes the views of a batch; each is one forward, and their losses are summed."""

    def views(self, canvas: Canvas, progress: float, random: torch.Generator) -> tuple[Masked, ...]:
        """Hides tokens.

        Args:
            canvas: Prompts and answers.
            progress: Share of the run that is over, from 0 to below 1.
            random: Chance.
        """
        ...


@dataclass(frozen=True, slots=True)
class BlockViews:
    """One block of each row, half of it masked and then the other half (dParallel for LLaDA)."""

    mask_token: int
    ratio: tuple[float, float] = (0.5, 0.5)
    """Bounds of the share that the first view masks, drawn for each row; equal bounds fix it."""

    def views(self, canvas: Canvas, progress: float, random: torch.Generator) -> tuple[Masked, ...]:
        """Both halves."""
        chosen, noise = drawn_blocks(canvas, random), drawn_noise(canvas, random)
        ratio = drawn_ratio(canvas, *self.ratio, random)
        halves = semi_autoregressive(canvas, chosen, noise, ratio, self.mask_token)
        return halves.first, halves.second


@dataclass(frozen=True, slots=True)
class ResponseViews:
    """A share of the whole answer, and, if wanted, the rest of it (dParallel for Dream; A2D)."""

    mask_token: int
    ratio: tuple[float, float] = (0.2, 1.0)
    complement: bool = False

    def views(self, canvas: Canvas, progress: float, random: torch.Generator) -> tuple[Masked, ...]:
        """One view, or both halves."""
        noise, ratio = drawn_noise(canvas, random), drawn_ratio(canvas, *self.ratio, random)
        halves = whole_response(canvas, noise, ratio, self.mask_token)
        return (halves.first, halves.second) if self.complement else (halves.first,)


@dataclass(frozen=True, slots=True)
class MixedViews:
    """Half of the steps by one way of masking, half by another."""

    one: Views
    other: Views

    def views(self, canvas: Canvas, progress: float, random: torch.Generator) -> tuple[Masked, ...]:
        """The views of either."""
        heads = bool(torch.rand(1, generator=random) < 0.5)
        return (self.one if heads else self.other).views(canvas, progress, random)
