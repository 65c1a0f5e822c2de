from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cascade.decided_steps import PLAN, STUDENT, Fixed, step_after, voted

from tutelage.cascade.sticky import Sticky
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Decision, Reason, Served

STUCK = Decision(served="teacher", reason=Reason.STICKY)
Turns = st.lists(st.sampled_from(["student", "teacher", None]), max_size=14)


def sticks(served: Sequence[Served | None], deferrals: int = 2, window: int = 4) -> bool:
    """Whether it sticks, the same before and after sampling."""
    sticky = Sticky(Fixed(STUDENT), deferrals, window)
    step = step_after(*served)
    planned, decided = sticky.plan(step), sticky.decide(step, voted("look"), [])
    if planned == STUCK:
        assert decided == STUCK
        return True
    assert (planned, decided) == (PLAN, STUDENT)
    return False


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        ([], False),
        (["teacher"], False),
        (["teacher", "teacher"], True),
        (["teacher", "student", "student", "teacher"], True),
        (["teacher", "student", "student", "student", "teacher"], False),
        (["teacher", None, "teacher"], True),
        ([None, None, None], False),
    ],
)
def test_enough_deferrals_within_the_window_make_it_stick(
    served: list[Served | None], expected: bool
) -> None:
    assert sticks(served) is expected


def test_what_stuck_once_does_not_let_go() -> None:
    later: list[Served | None] = ["student"] * 9
    assert sticks(["teacher", "teacher", *later])


@given(served=Turns, deferrals=st.integers(1, 4), more=st.integers(0, 4))
def test_it_sticks_iff_some_window_of_the_episode_has_the_deferrals(
    served: list[Served | None], deferrals: int, more: int
) -> None:
    window = deferrals + more
    windows = [served[max(0, end - window) : end] for end in range(len(served) + 1)]
    expected = any(turns.count("teacher") >= deferrals for turns in windows)
    assert sticks(served, deferrals, window) is expected


@given(served=Turns, after=Turns)
def test_sticking_is_for_the_rest_of_the_episode(
    served: list[Served | None], after: list[Served | None]
) -> None:
    assert not sticks(served) or sticks([*served, *after])


@pytest.mark.parametrize(("deferrals", "window"), [(0, 3), (4, 3), (-1, 3)])
def test_a_wrong_setting_is_one_clear_line(deferrals: int, window: int) -> None:
    with pytest.raises(ConfigError, match=f"sticky_deferrals = {deferrals}: .* window of {window}"):
        Sticky(Fixed(), deferrals, window)
