"""The self-consistency cascade as its paper has it."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Agreement, Decision, Draw, Reason, Retrieved, SamplePlan, Step


class Paper:
    """Samples that agree are acted on; else the teacher takes this one step.

    Source: arXiv 2512.02543: N = 3, consistent = 1 iff all N actions are identical, control returns
    to the student after the teacher's step. What "agree" means is the agreement rule's; with
    ``Unanimous`` it is the paper's. A digest of the paper gives 0.1 as its temperature; 0.7 here,
    as near-greedy samples agree whether or not they are right.

    Args:
        samples: N.
        temperature: Sampling temperature; ``None`` keeps the request's own.
        draw: In one call, one by one, or in a race.
        greedy_first: Whether the first sample is the greedy one.

    Raises:
        ConfigError: ``samples`` is below 2: a single sample always agrees with itself.
    """

    def __init__(
        self,
        samples: int = 3,
        temperature: float | None = 0.7,
        draw: Draw = "together",
        greedy_first: bool = False,
    ) -> None:
        if samples < 2:
            raise ConfigError(f"samples = {samples}: agreement needs at least 2 samples a step")
        self._plan = SamplePlan(samples, temperature, draw, greedy_first)

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """N samples at every step."""
        return self._plan

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The student if its samples agree; the score is the share of the modal action."""
        score = agreement.share
        if agreement.agreed:
            return Decision(served="student", reason=Reason.AGREED, score=score)
        reason = Reason.DISAGREED if agreement.votes else Reason.UNUSABLE
        return Decision(served="teacher", reason=reason, score=score)
