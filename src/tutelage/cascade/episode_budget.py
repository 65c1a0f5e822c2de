"""Budgets of one episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.runtime.errors import ConfigError
from tutelage.runtime.protocols import DeferralPolicy
from tutelage.runtime.types import Agreement, Decision, Reason, Retrieved, SamplePlan, Step


@dataclass(frozen=True, slots=True)
class EpisodeLimits:
    """What the teacher may take of one episode; ``None``: as much as it needs.

    Raises:
        ConfigError: A limit is negative.
    """

    cost_usd: float | None = None
    """Of both roles, as billed, in this process."""
    steps: int | None = None
    """Steps of the episode, whoever served them."""
    deferrals: int | None = None
    """Steps that the teacher served."""

    def __post_init__(self) -> None:
        for name in ("cost_usd", "steps", "deferrals"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"episode {name} = {value}: give 0 or more, or leave it out")

    def are_spent(self, step: Step) -> bool:
        """Whether nothing more may be spent on the teacher in this step."""
        return (
            (self.cost_usd is not None and step.spent_usd >= self.cost_usd)
            or (self.steps is not None and step.index >= self.steps)
            or (self.deferrals is not None and _deferrals(step) >= self.deferrals)
        )


class EpisodeBudget:
    """When an episode has had its share of the teacher, the student serves the rest of it.

    The teacher still takes a step in which the student names no action: there is nothing else to
    serve. A budget trades success for cost, so no calibration covers what is beyond it.

    Args:
        policy: The policy within the budget, guards included.
        limits: The budget.
    """

    def __init__(self, policy: DeferralPolicy, limits: EpisodeLimits) -> None:
        self._policy = policy
        self._limits = limits

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The wrapped policy's plan; one greedy sample where it wants a teacher beyond budget."""
        plan = self._policy.plan(step, demonstrations)
        if isinstance(plan, SamplePlan) or not self._limits.are_spent(step):
            return plan
        return SamplePlan(1, 0.0)

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The wrapped policy's decision, or the student where the budget is spent."""
        decision = self._policy.decide(step, agreement, demonstrations)
        is_spent = decision.served == "teacher" and self._limits.are_spent(step)
        # Without any sample the step is decided beforehand, as in the mode ``route``.
        is_unusable = agreement.samples > 0 and agreement.modal is None
        if not is_spent or is_unusable:
            return decision
        return Decision(served="student", reason=Reason.BUDGET, score=decision.score)


def _deferrals(step: Step) -> int:
    return sum(turn.served == "teacher" for turn in step.history)
