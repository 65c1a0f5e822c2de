from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.benchmarks.office.answers import answers_match
from tutelage.benchmarks.office.changes import (
    Change,
    Wanted,
    added,
    changed,
    changes,
    collateral,
    removed,
    state_of,
    unmet,
)
from tutelage.benchmarks.office.completion import Completion, completion
from tutelage.benchmarks.office.desk import Desk
from tutelage.benchmarks.office.population import furnished


@pytest.fixture
def desk() -> Desk:
    return Desk(furnished("1"), "test")


def test_changes_are_found_row_by_row(desk: Desk) -> None:
    before = state_of(desk.connection)
    assert changes(before, desk.connection) == []
    key = desk.insert("todos", list="home", title="x")
    desk.update("notes", 2, pinned=7, updated_at="now")
    desk.update("notes", 3)
    desk.write("DELETE FROM songs WHERE id = 5")
    found = {(one.kind, one.table, one.key) for one in changes(before, desk.connection)}
    assert found == {("added", "todos", key), ("changed", "notes", 2), ("removed", "songs", 5)}


def test_the_key_of_a_deleted_row_is_not_used_again(desk: Desk) -> None:
    before = state_of(desk.connection)
    last = max(before["todos"])
    desk.write("DELETE FROM todos WHERE id = ?", last)
    desk.insert("todos", list="home", title="x")
    kinds = sorted(one.kind for one in changes(before, desk.connection))
    assert kinds == ["added", "removed"]


@pytest.mark.parametrize(
    ("wanted", "change", "fits"),
    [
        (added("todos", title="x"), Change("added", "todos", 9, {"title": " x ", "done": 0}), True),
        (added("todos", title="x"), Change("added", "todos", 9, {"title": "y"}), False),
        (added("todos", title=["A", "b"]), Change("added", "todos", 9, {"title": "ab"}), True),
        (added("todos", title="x"), Change("added", "notes", 9, {"title": "x"}), False),
        (changed("todos", 3, done=1), Change("changed", "todos", 3, {"done": 1}), True),
        (changed("todos", 3, done=1), Change("changed", "todos", 4, {"done": 1}), False),
        (changed("todos", 3, done=1), Change("changed", "todos", 3, {"done": 1, "due": ""}), False),
        (
            changed("notes", 3, body="x"),
            Change("changed", "notes", 3, {"body": "x", "updated_at": "now"}),
            True,
        ),
        (removed("todos", 3), Change("removed", "todos", 3, {}), True),
        (removed("todos", 3), Change("changed", "todos", 3, {"done": 1}), False),
    ],
)
def test_a_wanted_change_fits_exactly_what_it_says(
    wanted: Wanted, change: Change, fits: bool
) -> None:
    assert wanted.fits(change) is fits
    assert (unmet([wanted], [change]) == []) is fits
    assert (collateral([wanted], [change]) == []) is fits


def test_one_row_cannot_stand_for_two_wanted_ones() -> None:
    row = Change("added", "queue", 1, {"song_id": 4})
    wanted = [added("queue", song_id=4), added("queue", song_id=4)]
    assert len(unmet(wanted, [row])) == 1
    assert unmet(wanted, [row, row]) == []
    assert collateral(wanted[:1], [row, row]) == [row]


def test_a_touched_row_without_a_real_change_is_no_damage() -> None:
    assert collateral([], [Change("changed", "notes", 1, {"updated_at": "now"})]) == []


@pytest.mark.parametrize(
    ("wanted", "given", "right"),
    [
        (None, None, True),
        (None, "", True),
        (None, "done", False),
        (None, 0, False),
        (5, 5, True),
        (5, 5.0, True),
        (5, "5", True),
        (5, "$5.00", True),
        (-5, "-5", True),
        (1234.5, "1,234.50", True),
        (5, 5.01, False),
        (5, "five", False),
        (5, None, False),
        (1, True, False),
        (True, True, True),
        ("Ada Abbott", " ada  ABBOTT.", True),
        ("Ada Abbott", "Ada", False),
        ("Ada", None, False),
        (["a", "b"], "B, a", True),
        (["a", "b"], ["b", "a"], True),
        (["a", "b"], ["a"], False),
        (["a"], 5, False),
    ],
)
def test_answers_are_compared_by_what_they_say(wanted: Any, given: Any, right: bool) -> None:
    assert answers_match(wanted, given) is right


@given(st.one_of(st.text(), st.integers(), st.floats(), st.lists(st.text()), st.none()))
def test_no_answer_stops_the_comparison(given: Any) -> None:
    for wanted in (None, 5, "x", ["x"]):
        assert answers_match(wanted, given) in (True, False)


def test_a_scenario_is_done_when_all_its_tasks_are() -> None:
    success = {"pin_note-0": True, "pin_note-1": True, "add_item-0": True, "add_item-1": False}
    assert completion(success) == Completion(4, 0.75, 2, 0.5)
    assert completion({}) == Completion(0, 0.0, 0, 0.0)
