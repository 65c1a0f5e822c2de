"""The policy that defers where the teacher is worth its price."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tutelage.cascade.scores import ScoreModel
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Agreement, Decision, Reason, Retrieved, SamplePlan, Step


class Benefit:
    """Defers iff the expected gain of the teacher exceeds the extra cost of this very call.

    ``(p_teacher - p_student) * value_usd > teacher_cost_usd(step)``: where the teacher would fail
    as well, or its answer is dear, the student acts. The score of a decision is the gain less the
    cost in USD.

    Source: deferral by benefit instead of uncertainty (arXiv 2604.14251, and the theory of deferral
    of Jitkrittum et al., NeurIPS 2023).

    Args:
        plan: How the student is sampled.
        student: P(the student's action is right) from the features of the step.
        p_teacher: P(the teacher's action is right), in [0, 1].
        value_usd: What a right action instead of a wrong one is worth.
        teacher_cost_usd: What the teacher would cost in a step, with the cached part of its prompt
            at its own price.

    Raises:
        ConfigError: ``p_teacher`` is outside [0, 1], or ``value_usd`` is negative.
    """

    def __init__(
        self,
        plan: SamplePlan,
        student: ScoreModel,
        *,
        p_teacher: float,
        value_usd: float,
        teacher_cost_usd: Callable[[Step], float],
    ) -> None:
        if not 0 <= p_teacher <= 1:
            raise ConfigError(f"p_teacher = {p_teacher}: give a probability between 0 and 1")
        if value_usd < 0:
            raise ConfigError(f"value_usd = {value_usd}: give 0 or more")
        self._plan = plan
        self._student = student
        self._p_teacher = p_teacher
        self._value_usd = value_usd
        self._teacher_cost_usd = teacher_cost_usd

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The same plan at every step."""
        return self._plan

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The teacher where its gain exceeds its cost; always where the student names no action."""
        # A step that could not be described would be scored by the means of all features.
        if agreement.modal is None or not agreement.features:
            return Decision(served="teacher", reason=Reason.UNUSABLE)
        gain = max(0.0, self._p_teacher - self._student.score(agreement.features))
        net_usd = gain * self._value_usd - self._teacher_cost_usd(step)
        if net_usd > 0:
            return Decision(served="teacher", reason=Reason.BENEFIT, score=net_usd)
        return Decision(served="student", reason=Reason.NO_BENEFIT, score=net_usd)
