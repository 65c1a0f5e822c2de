from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.benchmarks.household.goals import LOOK, PICK_TWO, WORDINGS, Goal, read_goal
from tutelage.benchmarks.household.vocabulary import LIKELY_PLACES
from tutelage.runtime.errors import BenchmarkError


@pytest.mark.parametrize(
    ("category", "wording"), [(c, w) for c, wordings in WORDINGS.items() for w in wordings]
)
@given(thing=st.sampled_from(sorted(LIKELY_PLACES)))
def test_every_wording_reads_back_as_its_goal(category: str, wording: str, thing: str) -> None:
    place = None if category == LOOK else "countertop"
    goal = read_goal(wording.format(thing=thing, place=place))
    assert goal == Goal(category, thing, place)


@pytest.mark.parametrize("text", ["", "make tea.", "put a mug in desk", "put three mug in desk."])
def test_another_wording_is_refused_by_name(text: str) -> None:
    with pytest.raises(BenchmarkError, match=f"no goal '{text}'"):
        read_goal(text)


def test_a_goal_says_what_it_takes() -> None:
    assert read_goal("put a hot mug in shelf.").treatment == "heat"
    assert read_goal("cool some mug and put it in shelf.").treatment == "cool"
    assert read_goal("put a mug in shelf.").treatment is None
    assert [Goal(category, "mug").count for category in WORDINGS] == [1, 1, 1, 1, 1, 2]
    assert Goal(PICK_TWO, "mug").count == 2
