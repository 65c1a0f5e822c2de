from __future__ import annotations

import pytest

from tutelage.runtime.gateway.health import AliasParts, readiness
from tutelage.runtime.models.breaker import State
from tutelage.runtime.types import Mode

CASCADE = AliasParts("cascade", "paper", ("teacher", "backup"))


def test_a_worker_with_a_living_upstream_is_ready() -> None:
    ready, reasons = readiness(
        {"*": CASCADE}, {"teacher": "open", "backup": "closed"}, has_student=False
    )

    assert ready
    assert reasons == {
        "upstream teacher": "breaker open",
        "upstream backup": "breaker closed",
        "alias *": "teacher",
    }


@pytest.mark.parametrize("state", ["closed", "half-open"])
def test_an_upstream_that_may_be_tried_counts_as_living(state: State) -> None:
    assert readiness({"*": CASCADE}, {"teacher": "open", "backup": state}, has_student=False)[0]


def test_an_upstream_without_a_breaker_counts_as_living() -> None:
    assert readiness({"*": CASCADE}, {}, has_student=False)[0]


@pytest.mark.parametrize(
    ("mode", "policy", "has_student", "is_ready"),
    [
        ("cascade", "paper", True, True),
        ("cascade", "always-student", True, True),
        ("route", "random", True, True),
        ("cascade", "paper", False, False),
        ("cascade", "always-teacher", True, False),
        ("passthrough", "paper", True, False),
        ("shadow", "paper", True, False),
    ],
)
def test_without_a_teacher_only_a_student_that_may_answer_makes_it_ready(
    mode: Mode, policy: str, has_student: bool, is_ready: bool
) -> None:
    alias = AliasParts(mode, policy, ("teacher",))

    ready, reasons = readiness({"agent": alias}, {"teacher": "open"}, has_student=has_student)

    assert ready is is_ready
    nobody = "nobody: every upstream's breaker is open"
    assert reasons["alias agent"] == ("student" if is_ready else nobody)


def test_one_alias_that_can_be_answered_is_enough() -> None:
    dead = AliasParts("passthrough", "paper", ("teacher",))

    ready, reasons = readiness(
        {"dead": dead, "alive": CASCADE}, {"teacher": "open"}, has_student=False
    )

    assert ready
    assert reasons["alias dead"].startswith("nobody")
    assert reasons["alias alive"] == "teacher"


def test_a_worker_that_stops_or_serves_nothing_is_not_ready() -> None:
    assert readiness({"*": CASCADE}, {}, has_student=False, is_stopping=True) == (
        False,
        {"alias *": "teacher", "worker": "stopping"},
    )
    assert readiness({}, {}, has_student=True) == (False, {"worker": "no alias is configured"})
