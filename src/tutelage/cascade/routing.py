"""Decisions before sampling: what no demonstration covers, and what all demonstrations show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tutelage.cascade.canonical.protocol import Canonicalizer
from tutelage.cascade.canonical.tool_canonicalizer import canonicalizer_for
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.protocols import DeferralPolicy
from tutelage.runtime.types import (
    Action,
    Agreement,
    Decision,
    Reason,
    Retrieved,
    SamplePlan,
    Step,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """The action that most of the retrieved demonstrations show."""

    action: Action
    text: str
    """As the best demonstration has it, with the names of the step at hand."""
    votes: int
    demonstrations: int

    @property
    def is_unanimous(self) -> bool:
        """Whether all demonstrations show it."""
        return self.votes == self.demonstrations


@dataclass(frozen=True, slots=True)
class Radius:
    """How near and how united demonstrations must be.

    Raises:
        ConfigError: ``votes`` is below 2: one demonstration always agrees with itself.
    """

    similarity: float
    """Least score of the best demonstration."""
    votes: int = 2
    """Least number of demonstrations, all of which show one action."""

    def __post_init__(self) -> None:
        if self.votes < 2:
            raise ConfigError(f"votes = {self.votes}: demonstrations agree from 2 on")


class Routed:
    """Decides from the demonstrations alone where they are clear, before the student is sampled.

    Out of coverage, where the best demonstration is less similar than ``coverage``: the teacher.
    Within the radius ``recall``: the action that all demonstrations show is the answer, and no
    model is called; not for an action that may change the world, unless ``recall_mutating``. Within
    the radius ``easy``: one greedy sample, which is served if it is that action. All else goes the
    policy's way.

    Source: routing and cascading jointly (arXiv 2410.10347); that a vote of three retrieved actions
    equals an untuned student is our first measurement on ALFWorld.

    Args:
        policy: The policy of all other steps.
        canonicalizer: Compares actions.
        coverage: Least similarity; ``None``: nothing is out of coverage.
        recall: Radius within which no model is called; ``None``: never.
        easy: Radius within which one sample is enough; ``None``: never.
        is_mutating: Whether an action may change the world; absent: all may.
        recall_mutating: Whether such an action may be recalled.
    """

    def __init__(
        self,
        policy: DeferralPolicy,
        canonicalizer: Canonicalizer,
        *,
        coverage: float | None = None,
        recall: Radius | None = None,
        easy: Radius | None = None,
        is_mutating: Callable[[Action], bool] | None = None,
        recall_mutating: bool = False,
    ) -> None:
        self._policy = policy
        self._canonicalizer = canonicalizer
        self._coverage = coverage
        self._recall = recall
        self._easy = easy
        self._is_mutating = is_mutating
        self._recall_mutating = recall_mutating

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The teacher, the recalled action, one sample, or the wrapped policy's plan."""
        plan = self._policy.plan(step, demonstrations)
        if isinstance(plan, Decision):
            return plan
        if demonstrations is None:
            return replace(plan, waits=True)
        similarity = max((one.score for one in demonstrations), default=float("-inf"))
        if self._coverage is not None and similarity < self._coverage:
            score = similarity if demonstrations else None
            return Decision(served="teacher", reason=Reason.UNCOVERED, score=score)
        shown = self._shown(step, demonstrations)
        if shown is None:
            return plan
        if _is_within(self._recall, similarity, shown) and self._may_recall(shown.action):
            votes = (shown.votes, shown.demonstrations)
            return SamplePlan(1, recalled=shown.text, votes=votes)
        if _is_within(self._easy, similarity, shown):
            return SamplePlan(1, 0.0)
        return plan

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The student for what was recalled or is confirmed, else the wrapped policy's decision."""
        if agreement.recalled:
            return self._recalled(step, agreement, demonstrations)
        if agreement.samples == 1 and self._easy is not None and demonstrations:
            similarity = max(one.score for one in demonstrations)
            shown = self._shown(step, demonstrations)
            if shown is not None and _is_within(self._easy, similarity, shown):
                return self._confirmed(agreement, shown)
        return self._policy.decide(step, agreement, demonstrations)

    def _shown(self, step: Step, demonstrations: Sequence[Retrieved]) -> Shown | None:
        return most_shown(canonicalizer_for(self._canonicalizer, step.tools), demonstrations)

    def _recalled(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        shown = self._shown(step, demonstrations)
        # Tool calls of a foreign shape would go out as a text that says what they are.
        if shown is None or agreement.modal != shown.action:
            return Decision(served="teacher", reason=Reason.UNUSABLE, score=0.0)
        return Decision(served="student", reason=Reason.RECALLED, score=agreement.share)

    def _confirmed(self, agreement: Agreement, shown: Shown) -> Decision:
        if agreement.modal is None:
            return Decision(served="teacher", reason=Reason.UNUSABLE, score=0.0)
        if agreement.modal == shown.action:
            return Decision(served="student", reason=Reason.AGREED, score=1.0)
        return Decision(served="teacher", reason=Reason.DISAGREED, score=0.0)

    def _may_recall(self, action: Action) -> bool:
        if self._recall_mutating:
            return True
        return self._is_mutating is not None and not self._is_mutating(action)


def most_shown(canonicalizer: Canonicalizer, demonstrations: Sequence[Retrieved]) -> Shown | None:
    """What most demonstrations show, of equals the better scored; ``None`` if none is usable.

    Args:
        canonicalizer: Compares actions.
        demonstrations: In any order: a prompt has the best one last.
    """
    ranked = sorted(demonstrations, key=lambda one: -one.score)
    texts = [one.demonstration.action for one in ranked]
    actions = [canonicalizer.past(text) for text in texts]
    counts = Counter(action for action in actions if action is not None)
    if not counts:
        return None
    action, votes = counts.most_common(1)[0]
    return Shown(action, texts[actions.index(action)], votes, len(ranked))


def _is_within(radius: Radius | None, similarity: float, shown: Shown) -> bool:
    return (
        radius is not None
        and similarity >= radius.similarity
        and shown.votes >= radius.votes
        and shown.is_unanimous
    )
