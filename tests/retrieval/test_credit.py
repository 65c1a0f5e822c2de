from __future__ import annotations

from tutelage.retrieval.credit import credit_steps
from tutelage.runtime.types import Decision, Reason, Served, Trace


def trace(
    index: int, observation: str, answer: str, served: Served, reason: Reason = Reason.ALWAYS
) -> Trace:
    return Trace(
        id=f"x{index}",
        tenant="acme",
        episode_id="e",
        step_index=index,
        created_at_s=float(index),
        model="agent",
        goal="put a mug away",
        observation=observation,
        answer=answer,
        decision=Decision(served=served, reason=reason),
    )


def test_each_step_has_the_credit_that_it_earned() -> None:
    steps = [
        trace(0, "a room", "go to shelf 9", "student"),
        trace(1, " nothing HAPPENS", "open box", "teacher"),
        trace(2, "a mug", "look", "teacher"),
        trace(3, "a mug ", "fly", "teacher"),
        trace(4, "Nothing happens.", " ", "teacher"),
        trace(5, "a mug on the floor", "wait", "student"),
        trace(6, "the same floor", "take mug", "teacher", Reason.LOOP),
        trace(7, "a mug in the hand", "wait", "student"),
        trace(8, "a room again", "leave", "teacher", Reason.DISAGREED),
    ]

    found = credit_steps(steps, ["Nothing happens"])

    assert [(one.credit, one.reason) for one in found] == [
        ("context", "the student took it"),
        ("recovery", ""),
        ("none", "it changed nothing"),
        ("none", "the environment refused it"),
        ("none", "it names no action"),
        ("context", "the student took it"),
        ("recovery", ""),
        ("context", "the student took it"),
        ("teacher", ""),
    ]


def test_without_marks_nothing_counts_as_refused() -> None:
    steps = [
        trace(0, "a room", "go", "teacher"),
        trace(1, "Nothing happens.", "go on", "teacher"),
    ]

    assert [one.credit for one in credit_steps(steps, [])] == ["teacher", "teacher"]
