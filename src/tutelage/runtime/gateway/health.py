"""Whether this worker can answer requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tutelage.runtime.models.breaker import State
from tutelage.runtime.types import Mode

_STUDENT_MODES: Final = frozenset({"cascade", "route"})
_TEACHER_ONLY_POLICIES: Final = frozenset({"always-teacher"})


@dataclass(frozen=True, slots=True)
class AliasParts:
    """What can answer for one model that clients ask for."""

    mode: Mode
    policy: str
    upstreams: tuple[str, ...]
    """Names of the teacher's upstreams, in the order they are tried."""


def readiness(
    aliases: Mapping[str, AliasParts],
    breakers: Mapping[str, State],
    *,
    has_student: bool,
    is_stopping: bool = False,
) -> tuple[bool, dict[str, str]]:
    """Whether requests can be answered, and why or why not, by part.

    Ready is a worker that has an alias with an upstream whose breaker is not open, or with a
    student that its policy may let answer alone. A database that is gone is no reason: keys are
    remembered and traces are spooled.

    Args:
        aliases: What answers for each model that clients may ask for.
        breakers: State of the breaker of each upstream; one that is not named has none.
        has_student: Whether there is a student.
        is_stopping: Whether the worker takes no more requests.

    Returns:
        Whether it is ready, and a word for each upstream, alias and the worker itself.
    """
    reasons = {f"upstream {name}": f"breaker {state}" for name, state in breakers.items()}
    can_answer = False
    for name, alias in aliases.items():
        answered_by = _answered_by(alias, breakers, has_student=has_student)
        reasons[f"alias {name}"] = answered_by or "nobody: every upstream's breaker is open"
        can_answer = can_answer or answered_by is not None
    if is_stopping:
        reasons["worker"] = "stopping"
    elif not aliases:
        reasons["worker"] = "no alias is configured"
    return can_answer and not is_stopping, reasons


def _answered_by(
    alias: AliasParts, breakers: Mapping[str, State], *, has_student: bool
) -> str | None:
    if any(breakers.get(name, "closed") != "open" for name in alias.upstreams):
        return "teacher"
    may_decide = alias.mode in _STUDENT_MODES and alias.policy not in _TEACHER_ONLY_POLICIES
    return "student" if has_student and may_decide else None
