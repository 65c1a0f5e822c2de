"""The policy that gathers evidence: it always samples, and chance decides who serves."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.cascade.chance import toss, tossed
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Agreement, Decision, Reason, Retrieved, SamplePlan, Step


class Explore:
    """Samples the student at every step, and lets it serve with a fixed probability.

    So the episodes visit states after the student's own errors as well as after the teacher's
    steps, and what is fitted on them knows both. A teacher that labels every step beside it makes
    the rows that scores are fitted on.

    Args:
        plan: How the student is sampled.
        p_teacher: Share of steps for the teacher, in [0, 1].
        seed: Another seed is another sequence of tosses.

    Raises:
        ConfigError: ``p_teacher`` is outside [0, 1].
    """

    def __init__(self, plan: SamplePlan, p_teacher: float = 0.5, seed: int = 0) -> None:
        if not 0 <= p_teacher <= 1:
            raise ConfigError(f"p_teacher = {p_teacher}: give a probability between 0 and 1")
        self._plan = plan
        self._p_teacher = p_teacher
        self._seed = seed

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The same plan at every step."""
        return self._plan

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """By a toss; the teacher where the student names no action."""
        if agreement.modal is None:
            return Decision(served="teacher", reason=Reason.UNUSABLE)
        # By task where there is one: an episode that is played again is given a new id.
        drawn = toss(self._seed, "explore", step.task_id or step.episode_id, step.index)
        return tossed(drawn, self._p_teacher)
