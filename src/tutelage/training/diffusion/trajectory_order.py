"""Pseudo-trajectory distillation: learn from the states that the student's own decoding was in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.runtime.errors import TrainingError
from tutelage.training.diffusion.canvas import Canvas
from tutelage.training.diffusion.masking import Masked, from_order


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Grows the masked share and the window over a run (d3LLM, arXiv 2601.07568)."""

    ratio: tuple[float, float] = (0.0, 0.8)
    """Share of the window that is masked, at the start and at the end of the run."""
    window: tuple[int, int] = (16, 32)
    """Slots of the window, at the start and at the end."""

    def ratio_at(self, progress: float) -> float:
        """The masked share after a share of the run."""
        low, high = self.ratio
        return low + (high - low) * progress

    def window_at(self, progress: float) -> int:
        """The window after a share of the run, slots."""
        low, high = self.window
        return round(low + (high - low) * progress)


class TrajectoryViews:
    """Two windows a row, in each of which masked is what the student wrote last.

    Args:
        order: (answers, slots), int64: the forward in which each slot of each answer was written.
        mask_token: Id of the mask.
        curriculum: Of share and window.
    """

    def __init__(
        self, order: Tensor, mask_token: int, curriculum: Curriculum | None = None
    ) -> None:
        self._order = order
        self._mask_token = mask_token
        self._curriculum = curriculum or Curriculum()

    def of(self, rows: Tensor) -> TrajectoryViews:
        """The views of some of the answers, as they were batched."""
        return TrajectoryViews(self._order[rows], self._mask_token, self._curriculum)

    def views(self, canvas: Canvas, progress: float, random: torch.Generator) -> tuple[Masked, ...]:
        """Two states of each row's own trajectory.

        Raises:
            TrainingError: The batch is not the one that the order belongs to.
        """
        if self._order.shape != canvas.answers.shape:
            raise TrainingError(
                f"the order is of {tuple(self._order.shape)} slots and the batch of "
                f"{tuple(canvas.answers.shape)}: take the views of the batch's rows"
            )
        window = min(self._curriculum.window_at(progress), canvas.slots)
        ratio = self._curriculum.ratio_at(progress)
        made = []
        for _ in range(2):
            windows = -(-canvas.slots // window)
            start = window * torch.randint(windows, (canvas.tokens.shape[0],), generator=random)
            made.append(from_order(canvas, self._order, start, window, ratio, self._mask_token))
        return tuple(made)


def completed_order(order: Tensor) -> Tensor:
    """Counts slots that an early end left unwritten as written in one last forward.

    Args:
        order: (answers, slots), int64; -1 where a slot was never written.
    """
    last = order.amax(-1, keepdim=True) + 1
    return torch.where(order < 0, last, order)
