"""TAID: a target that moves from the student to the teacher as training goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from tutelage.runtime.errors import TrainingError
from tutelage.training.objectives.divergences import kl
from tutelage.training.objectives.given import Given
from tutelage.training.objectives.objective import Limit, Loss, Objective, part
from tutelage.training.objectives.signal import Need, Signal
from tutelage.training.objectives.tokens import figure, log_probs, masked_mean

Form = Literal["cross-entropy", "kl"]
"""The two differ by the target's entropy, which has no gradient."""


def taid_loss(
    student: Tensor, teacher: Tensor, mask: Tensor, t: float, form: Form = "cross-entropy"
) -> Tensor:
    """Matches ``p_t = softmax((1 - t) sg(z_s) + t z_t)``: the logits are interpolated.

    The gradient by the student's logits is ``q - p_t``; at t = 1 that of the forward KL, at t = 0
    none at all. Source: Shing et al., TAID, arXiv 2501.16937.

    Args:
        student: (batch, seq, vocab), logits.
        teacher: (batch, seq, vocab), logits of the same vocabulary.
        mask: (batch, seq), bool.
        t: From 0 (the student itself) to 1 (the teacher).
        form: What is returned; the gradient is the same.

    Returns:
        Scalar, nats a token.
    """
    own, theirs = log_probs(student.detach()), log_probs(teacher.detach())
    target = log_probs((1 - t) * own + t * theirs)
    learned = log_probs(student)
    if form == "kl":
        return masked_mean(kl(target, learned), mask)
    return masked_mean(-(target.exp() * learned).sum(-1), mask)


@dataclass
class TaidState:
    """Where the target is; advanced once an optimizer step."""

    steps: int
    """Optimizer steps of the whole run."""
    start: float
    end: float
    pace: float
    """``alpha``: the most that the adaptive branch adds in a step; 0 leaves the linear one."""
    momentum: float
    t: float
    mu: float = 0.0
    previous: float | None = None
    step: int = 0
    adaptive_steps: int = 0
    """Steps in which the adaptive branch was ahead of the linear one."""

    @property
    def adaptive_share(self) -> float:
        """Share of the steps so far in which the adaptive branch was ahead."""
        return self.adaptive_steps / max(1, self.step)

    def stepped(self, loss: float) -> None:
        """Moves the target on: by the linear schedule, or faster where the loss falls.

        Args:
            loss: Mean over the micro-batches of the step, in the form that is trained.
        """
        self.step += 1
        if self.previous is None:
            self.previous = loss
            return
        fall = (self.previous - loss) / (self.previous + 1e-15)
        self.mu = self.momentum * self.mu + (1 - self.momentum) * fall
        adaptive = self.t + self.pace / (1 + math.exp(-self.mu)) * (1 - self.t)
        linear = self.start + (self.end - self.start) * min(1.0, self.step / self.steps)
        self.adaptive_steps += self.pace > 0 and adaptive > linear
        self.t = min(self.end, max(linear, adaptive if self.pace > 0 else self.t))
        self.previous = loss

    def state_dict(self) -> dict[str, float | int | None]:
        """Position, momentum, last loss and counts."""
        return {
            "t": self.t,
            "mu": self.mu,
            "previous": self.previous,
            "step": self.step,
            "adaptive_steps": self.adaptive_steps,
        }

    def load_state_dict(self, state: Mapping[str, float | int | None]) -> None:
        """Goes on from there."""
        previous = state["previous"]
        self.t = float(state["t"] or 0.0)
        self.mu = float(state["mu"] or 0.0)
        self.previous = None if previous is None else float(previous)
        self.step = int(state["step"] or 0)
        self.adaptive_steps = int(state["adaptive_steps"] or 0)


def taid_objective(
    steps: int = 1000,
    start: float = 0.2,
    end: float = 1.0,
    pace: float | None = None,
    momentum: float = 0.99,
    form: Form = "cross-entropy",
) -> Objective:
    """Needs the logits of a teacher of the same vocabulary.

    Args:
        steps: Optimizer steps of the run.
        start: ``t`` at the beginning; 0 would have no gradient there.
        end: ``t`` at the end.
        pace: ``alpha``. ``None``: ``5 (end - start) / steps``, because the paper's 5e-4 is never
            ahead of the linear schedule in runs below about 4,000 steps.
        momentum: Of the relative fall of the loss.
        form: What is reported as loss.

    Raises:
        TrainingError: An option is out of range.
    """
    if steps < 1:
        raise TrainingError(f"steps is {steps}: give the optimizer steps of the run")
    if not 0 <= start <= end <= 1:
        raise TrainingError(f"start is {start} and end {end}: give 0 <= start <= end <= 1")
    state = TaidState(
        steps=steps,
        start=start,
        end=end,
        pace=5 * (end - start) / steps if pace is None else pace,
        momentum=momentum,
        t=start,
    )

    def formula(given: Given) -> Loss:
        teacher = part("logits of the teacher", given.teacher.logits)
        loss = taid_loss(given.chosen.logits, teacher, given.chosen.mask, state.t, form)
        figures = {"t": state.t, "adaptive_share": state.adaptive_share, "loss": figure(loss)}
        return loss, figures

    return Objective(
        "taid",
        Signal.LOGITS,
        formula,
        needs=frozenset({Need.SAME_VOCABULARY}),
        state=state,
        limits=(
            Limit({"start": 1.0, "end": 1.0}, "fkl", compare="gradient"),
            Limit({"start": 1.0, "end": 1.0, "form": "kl"}, "fkl"),
            Limit({"start": 0.0, "form": "kl"}, 0.0),
        ),
    )
