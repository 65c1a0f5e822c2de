"""The policy that tosses a coin: the control that every cascade must beat."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.cascade.chance import toss, tossed
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Agreement, Decision, Retrieved, SamplePlan, Step


class RandomMix:
    """The teacher serves a step with probability ``p_teacher``, else the student greedily.

    The toss is a hash of seed, episode id and step index: a resumed episode repeats it exactly, and
    the order in which episodes run does not matter.

    Source: the random mix of teacher and student in arXiv 2512.02543.

    Args:
        p_teacher: Share of steps for the teacher, in [0, 1].
        seed: Another seed is another sequence of tosses.
        temperature: Sampling temperature of the student; ``None`` keeps the request's own.

    Raises:
        ConfigError: ``p_teacher`` is outside [0, 1].
    """

    def __init__(self, p_teacher: float, seed: int = 0, temperature: float | None = 0.0) -> None:
        if not 0 <= p_teacher <= 1:
            raise ConfigError(f"p_teacher = {p_teacher}: give a probability between 0 and 1")
        self._p_teacher = p_teacher
        self._seed = seed
        self._plan = SamplePlan(1, temperature)

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The teacher without a sample, or one sample of the student."""
        decision = self._toss(step)
        return decision if decision.served == "teacher" else self._plan

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The same toss as in ``plan``; its score is the uniform number that was drawn."""
        return self._toss(step)

    def _toss(self, step: Step) -> Decision:
        drawn = toss(self._seed, step.episode_id, step.index)
        return tossed(drawn, self._p_teacher)
