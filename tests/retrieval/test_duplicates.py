from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.retrieval.duplicates import (
    action_key,
    action_kind,
    actions_sha256,
    actions_text,
    family_sha256,
    goal_family,
    imitated_actions,
)

if TYPE_CHECKING:
    from tests.retrieval.conftest import MakeTrajectory


def call(name: str, arguments: object) -> str:
    calls = {"tool_calls": [{"name": name, "arguments": arguments}]}
    return json.dumps(calls, separators=(",", ":"))


def test_a_goal_family_knows_neither_case_nor_numbers_nor_punctuation() -> None:
    assert goal_family("Put mug 1 on the shelf 22.") == goal_family("put  mug on the shelf!")
    assert goal_family("put a mug away") != goal_family("put a pan away")


@given(st.text())
def test_the_family_of_a_family_is_itself(goal: str) -> None:
    once = goal_family(goal)
    assert goal_family(once) == once


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("Go to  shelf 1", "go to shelf 1", True),
        ("go to shelf 1", "go to shelf 2", False),
        (call("find", '{"a": 1, "b": 2}'), call("find", '{"b":2,"a":1}'), True),
        (call("find", '{"a": 1}'), call("find", '{"a": 2}'), False),
        (call("find", "{broken  json"), call("find", "{broken json"), True),
        (call("find", {"a": 1}), call("find", '{"a": 1}'), True),
    ],
)
def test_actions_are_equal_where_they_do_the_same(one: str, other: str, equal: bool) -> None:
    assert (action_key(one) == action_key(other)) is equal


def test_the_kind_of_an_action_is_its_verb_or_its_tools() -> None:
    assert action_kind("Go to shelf 1") == "go"
    assert action_kind(call("find", "{}")) == "find"
    assert action_kind(" ") == ""


def test_a_students_action_is_no_part_of_what_is_compared(trajectory: MakeTrajectory) -> None:
    turns = [("a room", "go 1"), ("a hall", "Go 2")]
    mixed = trajectory(turns=turns, served=["student", "teacher"])

    assert imitated_actions(mixed) == ["go 2"]
    assert actions_text(mixed) == "go"
    assert actions_sha256(mixed) == actions_sha256(trajectory(turns=[("elsewhere", "go 2")]))


def test_another_teacher_or_goal_is_no_copy(trajectory: MakeTrajectory) -> None:
    one = trajectory()
    assert family_sha256(one) != family_sha256(trajectory(goal="boil an egg"))
    assert actions_sha256(one) != actions_sha256(one.model_copy(update={"source": "other"}))
