"""The guard against an episode that has stopped seeing anything new."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.cascade.guards.observation import ObservationForms
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.protocols import DeferralPolicy
from tutelage.runtime.types import Agreement, Decision, Reason, Retrieved, SamplePlan, Step


class StallGuard:
    """The teacher takes steps while the last ``window`` observations all occurred before them.

    It catches what the loop guard cannot: different actions that lead nowhere. It lets go at the
    first new observation. Decided before sampling. Source: no-progress detection, our own; the
    paper (arXiv 2512.02543) has no guard.

    Args:
        policy: The policy that decides all other steps.
        window: Observations without news, the current one included, that count as a stall.

    Raises:
        ConfigError: ``window`` is below 1.
    """

    def __init__(self, policy: DeferralPolicy, window: int = 6) -> None:
        if window < 1:
            raise ConfigError(f"window = {window}: the stall guard needs at least 1 turn")
        self._policy = policy
        self._window = window
        self._forms = ObservationForms()

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The teacher in a stall, else the wrapped policy's plan."""
        plan = self._policy.plan(step, demonstrations)
        if isinstance(plan, SamplePlan) and self._stalled(step):
            return Decision(served="teacher", reason=Reason.STALL)
        return plan

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The teacher in a stall, else the wrapped policy's decision."""
        decision = self._policy.decide(step, agreement, demonstrations)
        if decision.served == "student" and self._stalled(step):
            return Decision(served="teacher", reason=Reason.STALL, score=decision.score)
        return decision

    def _stalled(self, step: Step) -> bool:
        seen = [self._forms.of(turn.observation) for turn in step.history]
        seen.append(self._forms.of(step.observation))
        earlier, recent = set(seen[: -self._window]), seen[-self._window :]
        return earlier.issuperset(recent)
