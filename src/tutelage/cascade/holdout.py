"""The holdout: a random share of episodes that the teacher plays alone."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.cascade.chance import toss
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.protocols import DeferralPolicy
from tutelage.runtime.types import Agreement, Decision, Reason, Retrieved, SamplePlan, Step


class Holdout:
    """A share of episodes goes to the teacher alone, so that what the cascade saves is measured.

    Whole episodes, because an action changes what is seen later. The others go the usual way. The
    chance with which an episode was held out, or was not, is in each of its decisions.

    Source: a randomised control group; without one, savings are a guess about what the teacher
    would have done.

    Args:
        policy: The policy of all other episodes.
        share: Probability in [0, 1) that an episode is held out.
        seed: Another seed holds out other episodes.

    Raises:
        ConfigError: ``share`` is outside [0, 1).
    """

    def __init__(self, policy: DeferralPolicy, share: float, seed: int = 0) -> None:
        if not 0 <= share < 1:
            raise ConfigError(f"holdout = {share}: give a share from 0 to below 1, such as 0.05")
        self._policy = policy
        self._share = share
        self._seed = seed

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The teacher in a held-out episode, else the wrapped policy's plan."""
        if self._is_held_out(step):
            return self._decision()
        plan = self._policy.plan(step, demonstrations)
        return self._marked(plan) if isinstance(plan, Decision) else plan

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The teacher in a held-out episode, else the wrapped policy's decision."""
        if self._is_held_out(step):
            return self._decision()
        return self._marked(self._policy.decide(step, agreement, demonstrations))

    def _is_held_out(self, step: Step) -> bool:
        return toss(self._seed, "holdout", step.tenant, step.episode_id) < self._share

    def _marked(self, decision: Decision) -> Decision:
        """The decision with the chance that its episode was not held out."""
        return decision.model_copy(update={"propensity": 1 - self._share})

    def _decision(self) -> Decision:
        return Decision(served="teacher", reason=Reason.HOLDOUT, propensity=self._share)
