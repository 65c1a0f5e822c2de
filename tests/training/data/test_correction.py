from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training.data.episodes import MIXED, TAUGHT, Row, played

from tutelage.training.data.correction import (
    ComparedStep,
    bad_step,
    compared_steps,
    first_correction,
    revise,
)

STEPS = st.lists(
    st.builds(
        ComparedStep,
        st.sampled_from("ab"),
        st.sampled_from(["a", "b", None]),
        st.floats(0, 9),
    ),
    max_size=7,
)


async def onwards(kept: Sequence[str]) -> Sequence[str]:
    return ["anew"] * 2


async def test_where_both_agree_nothing_changes() -> None:
    steps = [ComparedStep("a", "a"), ComparedStep("b", None)]
    revised = await revise(steps, onwards)
    assert (revised.step, revised.actions) == (None, ("a", "b"))


@given(STEPS)
async def test_exactly_one_step_changes_and_all_after_it_is_the_students(
    steps: list[ComparedStep],
) -> None:
    revised = await revise(steps, onwards)
    own = [step.student for step in steps]
    index = revised.step
    if index is None:
        assert revised.actions == tuple(own)
        assert all(step.teacher in (None, step.student) for step in steps)
        return
    assert list(revised.actions[:index]) == own[:index]
    assert revised.actions[index] == steps[index].teacher != own[index]
    assert revised.actions[index + 1 :] == ("anew", "anew")


def test_the_first_or_the_gravest_difference_is_mended() -> None:
    steps = [
        ComparedStep("a", "a", 9.0),
        ComparedStep("a", "b", 1.0),
        ComparedStep("a", "c", 4.0),
        ComparedStep("a", "d", 4.0),
    ]
    assert bad_step(steps) == 1
    assert bad_step(steps, "gravest") == 2
    assert bad_step([], "gravest") is None


def test_samples_and_audits_say_what_the_student_would_have_done() -> None:
    recorded = played(MIXED, samples=["look", "take mug", "look"], audits=[(3, "sit", False)])
    compared = compared_steps(recorded)
    assert compared[0] == ComparedStep("look", "open box")
    assert compared[1] == ComparedStep("go to shelf 9", None)
    assert compared[3] == ComparedStep("go to shelf", "sit")
    assert compared_steps(played(TAUGHT))[0] == ComparedStep("open box", "open box")


def test_the_first_bad_step_becomes_an_example() -> None:
    example = first_correction(played(MIXED, audits=[(3, "sit", False)]))
    assert example is not None
    assert example.id == "e1:3"
    assert example.origin == "correction"
    assert example.supervised == (len(example.messages) - 1,)
    assert example.messages[-1]["content"] == "sit"
    assert example.messages[-3]["content"] == "take mug"


def test_a_deferred_step_that_the_student_had_wrong_is_the_bad_one() -> None:
    rows: list[Row] = [("a room", "Open box", "teacher")]
    example = first_correction(played(rows, samples=["look"]))
    assert example is not None
    assert example.messages[-1]["content"] == "Open box"
    assert example.actions == ("open box",)


@pytest.mark.parametrize("rows", [TAUGHT, []])
def test_without_a_difference_there_is_no_correction(rows: list[Row]) -> None:
    assert first_correction(played(rows)) is None
