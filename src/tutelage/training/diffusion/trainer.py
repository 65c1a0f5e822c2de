"""The training loop of a masked-diffusion student."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tutelage.runtime.errors import NoExamples, TrainingError
from tutelage.training.diffusion.canvas import Canvas, lay_out
from tutelage.training.diffusion.masking import Masked
from tutelage.training.diffusion.model import DiffusionTransformer
from tutelage.training.diffusion.objective import MaskedLoss, masked_cross_entropy
from tutelage.training.diffusion.own_errors import with_own_predictions
from tutelage.training.diffusion.trajectory_order import TrajectoryViews
from tutelage.training.diffusion.views import Views
from tutelage.training.recipes.recipe import TrainingProgress, Watch


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and its answer, as token ids; the answer has no end token."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DiffusionTraining:
    """How long and how fast."""

    steps: int = 500
    batch: int = 32
    learning_rate: float = 1e-3
    warmup: float = 0.05
    """Share of the steps in which the rate rises."""
    decays: bool = True
    """Whether the rate falls to zero along a cosine; else it stays."""
    weight_decay: float = 0.01
    clip: float = 1.0
    own_errors: float = 0.0
    """Share of the masks that are replaced by the student's own predictions."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} = {getattr(self, name)}: use at least 1")
        if not self.learning_rate > 0:
            raise TrainingError(f"learning_rate = {self.learning_rate}: use more than 0")

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        if not self.decays:
            return self.learning_rate
        over = (step - rising) / max(1, self.steps - rising)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * over))


class Source(Protocol):
    """Where batches come from."""

    def batch(self, size: int, random: torch.Generator) -> tuple[Canvas, Tensor]:
        """Some examples, and their numbers (batch,)."""
        ...


class Pairs:
    """Batches drawn from a list of pairs.

    Args:
        pairs: Not empty.
        model: The student, for its canvas.
        slots: A shorter canvas, of one block, for short answers; ``None``: the student's own.

    Raises:
        NoExamples: There are none.
    """

    def __init__(
        self, pairs: Sequence[Pair], model: DiffusionTransformer, *, slots: int | None = None
    ) -> None:
        if not pairs:
            raise NoExamples("there is nothing to train on: give at least one prompt and answer")
        self._pairs = pairs
        self._model = model
        self._slots = slots

    def batch(self, size: int, random: torch.Generator) -> tuple[Canvas, Tensor]:
        """Pairs drawn with replacement."""
        numbers = torch.randint(len(self._pairs), (size,), generator=random)
        chosen = [self._pairs[number] for number in numbers.tolist()]
        canvas = lay_out(
            [pair.prompt for pair in chosen],
            [pair.answer for pair in chosen],
            self._model.shape,
            block_length=self._slots,
            slots=self._slots,
        )
        return canvas, numbers


def train_diffusion(
    model: DiffusionTransformer,
    source: Source,
    views: Views,
    training: DiffusionTraining,
    *,
    loss: MaskedLoss = masked_cross_entropy,
    watch: Watch | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[float]:
    """Trains a student in place, and returns the loss of every step.

    Args:
        model: The student.
        source: Of batches.
        views: How tokens are hidden.
        training: How long and how fast.
        loss: Of one view; those of a step are summed.
        watch: Called after each step.
        clock: Seconds.

    Raises:
        TrainingError: The loss is no number any more.
    """
    random = torch.Generator().manual_seed(training.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    losses: list[float] = []
    tokens, started_s = 0, clock()
    model.train()
    for step in range(training.steps):
        for group in optimizer.param_groups:
            group["lr"] = training.rate_at(step)
        canvas, numbers = source.batch(training.batch, random)
        hidden = views.of(numbers) if isinstance(views, TrajectoryViews) else views
        total = 0.0
        for view in hidden.views(canvas, step / training.steps, random):
            made = _loss(model, canvas, view, training.own_errors, loss, random)
            made.backward()
            total += float(made.detach())
            tokens += view.tokens.numel()
        if not math.isfinite(total):
            raise TrainingError(
                f"the loss is {total} after {step} steps: lower learning_rate, now "
                f"{training.learning_rate:g}"
            )
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(total)
        if watch is not None:
            spent_s = max(clock() - started_s, 1e-9)
            left_s = spent_s / (step + 1) * (training.steps - step - 1)
            watch(
                TrainingProgress(step + 1, training.steps, total, tokens, tokens / spent_s, left_s)
            )
    model.eval()
    return losses


def _loss(
    model: DiffusionTransformer,
    canvas: Canvas,
    view: Masked,
    own_errors: float,
    loss: MaskedLoss,
    random: torch.Generator,
) -> Tensor:
    placed, shown = canvas.to(model.device), view.to(model.device)
    if own_errors:
        shown = with_own_predictions(model, placed, shown, own_errors, random)
    return loss(model.score(placed, shown.tokens), placed.answers, shown.scored)
