"""Escalation that sticks: an episode that needs the teacher often is the teacher's."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.runtime.errors import ConfigError
from tutelage.runtime.protocols import DeferralPolicy
from tutelage.runtime.types import Agreement, Decision, Reason, Retrieved, SamplePlan, Step


class Sticky:
    """After ``deferrals`` teacher steps among the last ``window`` the teacher keeps the episode.

    It then acts by one plan, on a warm prompt cache, and the student costs nothing. Decided before
    sampling.

    Args:
        policy: The policy until then.
        deferrals: Teacher steps that make it stick.
        window: Latest steps that are looked at.

    Raises:
        ConfigError: ``deferrals`` is not between 1 and ``window``.
    """

    def __init__(self, policy: DeferralPolicy, deferrals: int, window: int) -> None:
        if not 1 <= deferrals <= window:
            raise ConfigError(
                f"sticky_deferrals = {deferrals}: give a number between 1 and the window of "
                f"{window} steps"
            )
        self._policy = policy
        self._deferrals = deferrals
        self._window = window

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The teacher where it sticks, else the wrapped policy's plan."""
        if self._sticks(step):
            return Decision(served="teacher", reason=Reason.STICKY)
        return self._policy.plan(step, demonstrations)

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The teacher where it sticks, else the wrapped policy's decision."""
        if self._sticks(step):
            return Decision(served="teacher", reason=Reason.STICKY)
        return self._policy.decide(step, agreement, demonstrations)

    def _sticks(self, step: Step) -> bool:
        deferred = 0
        # Wherever in the episode it happened: what once stuck does not let go.
        for place, turn in enumerate(step.history):
            deferred += turn.served == "teacher"
            left = place - self._window
            if left >= 0:
                deferred -= step.history[left].served == "teacher"
            if deferred >= self._deferrals:
                return True
        return False
