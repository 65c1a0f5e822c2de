"""How many connections there may be, and which one goes for another."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.gateway.crowd import Crowd


class One:
    """A connection that notes its end."""

    def __init__(self, crowd: Crowd) -> None:
        self.is_dropped = False
        self.is_in = crowd.enter(self, 0.0)

    def drop(self) -> None:
        self.is_dropped = True


def test_there_is_room_for_so_many() -> None:
    crowd = Crowd(2)
    members = [One(crowd) for _ in range(2)]
    assert all(one.is_in and not one.is_dropped for one in members)
    assert len(crowd) == 2


def test_the_oldest_that_asked_nothing_goes_for_a_new_one() -> None:
    crowd = Crowd(3)
    served, first, second = (One(crowd) for _ in range(3))
    crowd.asks(served)
    crowd.rests(served)
    new = One(crowd)
    assert new.is_in
    assert (first.is_dropped, second.is_dropped, served.is_dropped) == (True, False, False)
    One(crowd)
    assert second.is_dropped
    assert len(crowd) == 3


def test_of_those_that_were_served_the_one_goes_that_has_waited_longest() -> None:
    crowd = Crowd(2)
    first, second = One(crowd), One(crowd)
    for one in (first, second):
        crowd.asks(one)
    crowd.rests(second)
    crowd.rests(first)
    third = One(crowd)
    assert (first.is_dropped, second.is_dropped, third.is_in) == (False, True, True)


def test_nobody_goes_who_is_being_served() -> None:
    crowd = Crowd(2)
    members = [One(crowd) for _ in range(2)]
    for one in members:
        crowd.asks(one)
    late = One(crowd)
    assert not late.is_in
    assert not any(one.is_dropped for one in members)
    crowd.leave(members[0])
    assert One(crowd).is_in


def test_one_that_has_left_is_not_counted_again() -> None:
    crowd = Crowd(1)
    first = One(crowd)
    second = One(crowd)
    assert first.is_dropped
    # Its answer ends, or its socket does, after it was dropped.
    crowd.rests(first)
    crowd.leave(first)
    assert len(crowd) == 1
    crowd.asks(second)
    assert not One(crowd).is_in


def test_only_some_of_those_that_found_no_room_may_stay_to_hear_so() -> None:
    crowd = Crowd(1)
    crowd.asks(One(crowd))
    late = [One(crowd) for _ in range(150)]
    stay = [crowd.refuse(one) for one in late]
    assert sum(stay) == 100
    assert len(crowd) == 1
    crowd.leave(late[0])
    assert crowd.refuse(late[-1])


def test_a_full_house_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    crowd = Crowd(1)
    with caplog.at_level(logging.WARNING):
        for second in range(150):
            crowd.enter(One.__new__(One), float(second))
    assert len(caplog.records) == 3
    assert "gateway.limits.connections" in caplog.text


@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(st.sampled_from(["enter", "asks", "rests", "leave"]), st.integers(0, 9)),
        max_size=60,
    ),
)
def test_no_more_are_in_than_there_is_room_for(most: int, steps: list[tuple[str, int]]) -> None:
    crowd = Crowd(most)
    known: list[One] = []
    serving: set[One] = set()
    for step, pick in steps:
        if step == "enter" or not known:
            known.append(One(crowd))
        else:
            one = known[pick % len(known)]
            if one.is_dropped or not one.is_in:
                continue
            if step == "leave":
                one.is_in = False
            (serving.add if step == "asks" else serving.discard)(one)
            getattr(crowd, step)(one)
        here = [one for one in known if one.is_in and not one.is_dropped]
        assert len(crowd) == len(here) <= most
        assert not any(one.is_dropped for one in serving)
