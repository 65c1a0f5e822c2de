"""The guard against a student that guesses on after a refusal."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.cascade.guards.observation import same_form
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.protocols import DeferralPolicy
from tutelage.runtime.types import Agreement, Decision, Reason, Retrieved, SamplePlan, Step

REFUSALS: tuple[str, ...] = ("nothing happens",)
_MOST_REMEMBERED = 32_768


class RefusalMarks:
    """Tells by its parts whether an observation is a refusal, and remembers what it told.

    Args:
        markers: Parts of an observation by which the world refuses, in any case.
    """

    def __init__(self, markers: Sequence[str]) -> None:
        self._markers = tuple(same_form(marker) for marker in markers)
        # By hash: an observation may be a whole page.
        self._remembered: dict[int, bool] = {}

    @property
    def match_everything(self) -> bool:
        """Whether a marker is empty."""
        return not all(self._markers)

    def are_in(self, observation: str) -> bool:
        """Whether the world refuses."""
        name = hash(observation)
        if name not in self._remembered:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            form = same_form(observation)
            self._remembered[name] = any(marker in form for marker in self._markers)
        return self._remembered[name]


class RejectionGuard:
    """The teacher takes the step after the world has refused an action that was not the teacher's.

    Decided before sampling, so the student costs nothing there. Source: our first measurement on
    ALFWorld, where after one refusal no demonstration resembled the state and the student counted
    through absent objects to the step limit.

    Args:
        policy: The policy that decides all other steps.
        refusals: Parts of an observation by which the world refuses, in any case.

    Raises:
        ConfigError: A marker is empty and so would match every observation.
    """

    def __init__(self, policy: DeferralPolicy, refusals: Sequence[str] = REFUSALS) -> None:
        self._policy = policy
        self._marks = RefusalMarks(refusals)
        if self._marks.match_everything:
            raise ConfigError("refusals: an empty marker matches every observation; remove it")

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The teacher after a refusal, else the wrapped policy's plan."""
        plan = self._policy.plan(step, demonstrations)
        if isinstance(plan, SamplePlan) and self._refused(step):
            return Decision(served="teacher", reason=Reason.REJECTED)
        return plan

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The teacher after a refusal, else the wrapped policy's decision."""
        decision = self._policy.decide(step, agreement, demonstrations)
        if decision.served == "student" and self._refused(step):
            return Decision(served="teacher", reason=Reason.REJECTED, score=decision.score)
        return decision

    def _refused(self, step: Step) -> bool:
        if not step.history or step.history[-1].served == "teacher":
            return False
        return self._marks.are_in(step.observation)
