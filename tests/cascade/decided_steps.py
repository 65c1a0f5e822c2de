"""Steps, votes and demonstrations for tests of what decides."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.runtime.types import (
    Action,
    Agreement,
    Decision,
    Demonstration,
    Reason,
    Retrieved,
    SamplePlan,
    Served,
    Step,
    Turn,
)

UNUSABLE = Agreement(votes=(), samples=3, chosen=None, agreed=False)
UNSAMPLED = Agreement(votes=(), samples=0, chosen=None, agreed=False)
PLAN = SamplePlan(3, 0.7)


def step_after(*served: Served | None, episode_id: str = "e", now: str = "o") -> Step:
    """A step of an episode in which every turn was new and served by these."""
    history = tuple(Turn(f"o{n}", f"act {n}", who) for n, who in enumerate(served))
    return Step("t", episode_id, len(history), "g", now, history)


def voted(key: str, votes: int = 3, samples: int = 3, **features: float) -> Agreement:
    """Votes for one text action."""
    return Agreement(
        votes=((Action("text", key), votes),),
        samples=samples,
        chosen=0,
        agreed=votes == samples,
        features=features,
    )


def shown(action: str, score: float = 0.9, place: int = 0) -> Retrieved:
    """A demonstration of an action."""
    demonstration = Demonstration(
        id=f"d{place}:0",
        tenant="t",
        trajectory_id=f"d{place}",
        step_index=0,
        goal="g",
        window=(Turn("o", "look"), Turn("o", action)),
        source="oracle:test",
    )
    return Retrieved(demonstration, score)


class Fixed:
    """A policy that always says the same, and notes what it was asked."""

    def __init__(
        self, decision: Decision | None = None, plan: SamplePlan | Decision | None = None
    ) -> None:
        self.decision = decision or Decision(served="student", reason=Reason.AGREED, score=0.5)
        self.planned: SamplePlan | Decision = plan or PLAN
        self.asked: list[str] = []

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        self.asked.append("plan")
        return self.planned

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        self.asked.append("decide")
        return self.decision


TEACHER = Decision(served="teacher", reason=Reason.UNCERTAIN, score=0.2)
STUDENT = Decision(served="student", reason=Reason.CERTIFIED, score=0.8)
