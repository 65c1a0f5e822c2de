"""The gate before sampling: where the student is unlikely to be served, it is not asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tutelage.cascade.scores import ScoreModel
from tutelage.runtime.protocols import DeferralPolicy, Describer
from tutelage.runtime.types import Agreement, Decision, Reason, Retrieved, SamplePlan, Step

_NO_VOTES = Agreement(votes=(), samples=0, chosen=None, agreed=False)


class Gate:
    """The teacher takes a step at once if its prior is below a floor: no sample is paid for.

    The prior is P(right) from what is known before sampling: the demonstrations and the episode.
    The floor trades the price of samples that would not be served against the teacher's steps that
    they could have saved; a calibration holds for policy and gate together.

    Source: routing and cascading jointly (arXiv 2410.10347).

    Args:
        policy: The policy of all other steps.
        describer: Reads the features of a step.
        prior: The prior.
        floor: Least prior with which the student is asked.
    """

    def __init__(
        self, policy: DeferralPolicy, describer: Describer, prior: ScoreModel, floor: float
    ) -> None:
        self._policy = policy
        self._describer = describer
        self._prior = prior
        self._floor = floor

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The teacher below the floor, else the wrapped policy's plan."""
        plan = self._policy.plan(step, demonstrations)
        if isinstance(plan, Decision):
            return plan
        if demonstrations is None:
            return replace(plan, waits=True)
        prior = self._prior.score(self._describer.describe(step, _NO_VOTES, demonstrations))
        if prior < self._floor:
            return Decision(served="teacher", reason=Reason.UNLIKELY, score=prior)
        return plan

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The wrapped policy's decision."""
        return self._policy.decide(step, agreement, demonstrations)
