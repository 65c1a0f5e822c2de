"""Which steps of an episode may be imitated: credit step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tutelage.runtime.types import Reason, Trace

Credit = Literal["teacher", "recovery", "context", "none"]
"""To be imitated; to be imitated, and it mends a student's error; shown before what is imitated;
left out."""

_STUDENT_ERRORS = frozenset({Reason.LOOP, Reason.REJECTED, Reason.STALL})


@dataclass(frozen=True, slots=True)
class CreditedStep:
    """A step of an episode and what it is good for."""

    trace: Trace
    credit: Credit
    reason: str
    """Why it has no more credit; empty for a teacher's step."""


def credit_steps(traces: Sequence[Trace], refusals: Sequence[str]) -> list[CreditedStep]:
    """The credit of each step of a successful episode.

    A student's step is never imitated. A teacher's step is not where the environment refused it,
    or where what is seen after it is what was seen before it: success came in spite of it.

    Args:
        traces: One a step, in their order.
        refusals: Openings of an observation that says that the last action was refused.
    """
    marks = tuple(mark.casefold() for mark in refusals)
    credited = []
    for position, trace in enumerate(traces):
        after = traces[position + 1] if position + 1 < len(traces) else None
        before = traces[position - 1] if position else None
        credited.append(_credit(trace, before, after, marks))
    return credited


def _credit(
    trace: Trace, before: Trace | None, after: Trace | None, marks: tuple[str, ...]
) -> CreditedStep:
    if trace.decision.served == "student":
        return CreditedStep(trace, "context", "the student took it")
    if not trace.answer.strip():
        return CreditedStep(trace, "none", "it names no action")
    if after is not None and is_refused(after.observation, marks):
        return CreditedStep(trace, "none", "the environment refused it")
    if after is not None and after.observation.strip() == trace.observation.strip():
        return CreditedStep(trace, "none", "it changed nothing")
    follows_student = before is not None and before.decision.served == "student"
    failed = is_refused(trace.observation, marks) or trace.decision.reason in _STUDENT_ERRORS
    if follows_student and failed:
        return CreditedStep(trace, "recovery", "")
    return CreditedStep(trace, "teacher", "")


def is_refused(observation: str, marks: tuple[str, ...]) -> bool:
    """Whether an observation says that the last action was refused; ``marks`` in lower case."""
    return observation.lstrip().casefold().startswith(marks) if marks else False
