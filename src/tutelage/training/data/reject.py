"""Why something may not be learnt, and the account of a gate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class RejectReason(StrEnum):
    """A closed list; what fails in several ways is counted under the first that holds."""

    # Of a trace.
    TENANT = "tenant"
    """Its tenant is not one of those that are allowed, or not that of its episode."""
    NO_TRAIN = "no_train"
    """A client forbade to learn from it, or from another step of its episode."""
    REVOKED_WRITER = "revoked_writer"
    """It came with a key that was revoked, or another step of its episode did."""
    NOT_SUCCESSFUL = "not_successful"
    """Its episode failed, or nobody said how it ended."""
    EVALUATION_TASK = "evaluation_task"
    """Its task is one that measures."""
    UNFINISHED = "unfinished"
    """Its answer broke off."""
    SUPERSEDED = "superseded"
    """The step was asked again later."""
    INCOMPLETE = "incomplete"
    """Another step of its episode is missing or broke off, so that the chat is not known."""
    STUDENT_TEXT = "student_text"
    """The student's own answer, with which no teacher disagreed."""
    EMPTY_ACTION = "empty_action"
    """It names no action."""
    ODD_UNICODE = "odd_unicode"
    """Too many control, private, unassigned or replacement characters."""
    REFUSED_ACTION = "refused_action"
    """The environment refused the action."""
    UNKNOWN_TOOLS = "unknown_tools"
    """The definitions of the tools that were offered are not stored, so the prompt is not known."""
    # Of an example.
    TOO_LONG = "too_long"
    """More tokens than the student is trained on."""
    REPEATED_NGRAM = "repeated_ngram"
    """The answer goes round in circles."""
    SIMILAR_TO_EVALUATION = "similar_to_evaluation"
    """It reads like a task that measures."""
    DUPLICATE = "duplicate"
    """Another example is the same chat."""


@dataclass(frozen=True, slots=True, order=True)
class Reject:
    """One trace or example that did not pass."""

    id: str
    reason: RejectReason


class GateReport(BaseModel):
    """How many passed, how many did not and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seen: int
    passed: int
    counts: Mapping[RejectReason, int]
    """Rejects by reason; a reason without any is left out."""
    samples: Mapping[RejectReason, tuple[str, ...]]
    """The first ids of each reason, sorted."""

    def lines(self) -> list[str]:
        """The account for a person, most frequent reason first."""
        ordered = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return [f"{self.passed} of {self.seen} passed"] + [
            f"{count} {reason.value}: {', '.join(self.samples[reason])}"
            for reason, count in ordered
        ]


def report_of(seen: int, rejects: Iterable[Reject], samples: int = 5) -> GateReport:
    """Counts rejects, whatever their order.

    Args:
        seen: How many were looked at.
        rejects: Those that did not pass.
        samples: Ids that are kept for each reason.
    """
    by_reason: dict[RejectReason, list[str]] = defaultdict(list)
    for reject in sorted(rejects):
        by_reason[reject.reason].append(reject.id)
    reasons = [reason for reason in RejectReason if reason in by_reason]
    return GateReport(
        seen=seen,
        passed=seen - sum(map(len, by_reason.values())),
        counts={reason: len(by_reason[reason]) for reason in reasons},
        samples={reason: tuple(by_reason[reason][:samples]) for reason in reasons},
    )
