"""Goals said in other words, and the filters that a paraphrase has to pass."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tutelage.training.data.example import TrainingExample

Entailment = Callable[[str, str], float]
"""Probability in [0, 1] that the first text implies the second."""

_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


class ParaphraseReject(StrEnum):
    """Why a candidate was not taken; the first filter that fails, in this order."""

    EMPTY = "empty"
    LENGTH = "length"
    NUMBERS = "numbers"
    OVERLAP = "overlap"
    ENTAILMENT = "entailment"
    REVERSE_ENTAILMENT = "reverse_entailment"
    SOURCE_TAKEN = "source_taken"
    """Another candidate of the same goal overlaps less."""


@dataclass(frozen=True, slots=True)
class ParaphraseRules:
    """The filters of Jung et al., Impossible Distillation, arXiv 2305.16635."""

    least_length_ratio: float = 0.8
    """Words of the candidate over words of the goal."""
    most_length_ratio: float = 1.5
    most_overlap: float = 0.75
    """Highest ROUGE-L; a copy has 1."""
    least_entailment: float = 0.75
    """In both directions: a goal that asks for more or for less is another goal."""


@dataclass(frozen=True, slots=True)
class RejectedParaphrase:
    """A candidate that was not taken."""

    goal: str
    candidate: str
    reason: ParaphraseReject


@dataclass(frozen=True, slots=True)
class Paraphrases:
    """What passed, and the log of what did not."""

    chosen: Mapping[str, str]
    """At most one paraphrase for each goal."""
    rejected: tuple[RejectedParaphrase, ...]

    @property
    def counts(self) -> Mapping[ParaphraseReject, int]:
        """Rejects by reason."""
        return Counter(one.reason for one in self.rejected)


def choose_paraphrases(
    candidates: Mapping[str, Sequence[str]],
    entails: Entailment,
    rules: ParaphraseRules | None = None,
) -> Paraphrases:
    """Filters candidates; of those of one goal that pass, the one that overlaps least stays.

    Args:
        candidates: By goal.
        entails: Scores entailment; asked only of what passed the filters before it.
        rules: The filters.
    """
    rules = rules or ParaphraseRules()
    chosen: dict[str, str] = {}
    rejected: list[RejectedParaphrase] = []
    for goal in sorted(candidates):
        passed = []
        for candidate in sorted(set(candidates[goal])):
            reason = reject_reason(goal, candidate, entails, rules)
            if reason is None:
                passed.append(candidate)
            else:
                rejected.append(RejectedParaphrase(goal, candidate, reason))
        passed.sort(key=lambda one: (rouge_l(goal, one), one))
        if passed:
            chosen[goal] = passed[0]
        rejected += [
            RejectedParaphrase(goal, one, ParaphraseReject.SOURCE_TAKEN) for one in passed[1:]
        ]
    return Paraphrases(chosen, tuple(rejected))


def reject_reason(
    goal: str, candidate: str, entails: Entailment, rules: ParaphraseRules
) -> ParaphraseReject | None:
    """The first filter that a candidate fails."""
    words, said = _words(goal), _words(candidate)
    if not words or not said:
        return ParaphraseReject.EMPTY
    if not rules.least_length_ratio <= len(said) / len(words) <= rules.most_length_ratio:
        return ParaphraseReject.LENGTH
    if not same_numbers(goal, candidate):
        return ParaphraseReject.NUMBERS
    if rouge_l(goal, candidate) > rules.most_overlap:
        return ParaphraseReject.OVERLAP
    if entails(goal, candidate) < rules.least_entailment:
        return ParaphraseReject.ENTAILMENT
    if entails(candidate, goal) < rules.least_entailment:
        return ParaphraseReject.REVERSE_ENTAILMENT
    return None


def same_numbers(one: str, other: str) -> bool:
    """Whether both name the same numbers equally often, as digits, in any order."""
    return Counter(_NUMBER.findall(one)) == Counter(_NUMBER.findall(other))


def rouge_l(reference: str, candidate: str) -> float:
    """F1 of the longest common subsequence of words, without case, in [0, 1] (Lin 2004)."""
    ours, theirs = _words(reference), _words(candidate)
    if not ours or not theirs:
        return 0.0
    row = [0] * (len(theirs) + 1)
    for word in ours:
        above = row
        row = [0]
        for column, other in enumerate(theirs):
            longer = above[column] + 1 if word == other else max(above[column + 1], row[column])
            row.append(longer)
    return 2 * row[-1] / (len(ours) + len(theirs))


def with_goal(example: TrainingExample, paraphrase: str) -> TrainingExample | None:
    """A synthetic copy whose chat asks for the goal in other words.

    Returns:
        ``None`` if the goal does not stand word for word in a message of the user, or stands in an
        answer, too, which would then name a goal that nobody gave.
    """
    users = [m for m in example.messages if m.get("role") == "user"]
    others = [m for m in example.messages if m.get("role") not in ("user", "system", "developer")]
    if not example.goal or not any(example.goal in _content(message) for message in users):
        return None
    if any(example.goal in _content(message) for message in others):
        return None
    messages = tuple(
        {**message, "content": _content(message).replace(example.goal, paraphrase)}
        if message.get("role") == "user" and isinstance(message.get("content"), str)
        else message
        for message in example.messages
    )
    return example.model_copy(
        update={
            "id": f"{example.id}:paraphrase",
            "messages": messages,
            "goal": paraphrase,
            "origin": "synthetic",
        }
    )


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
