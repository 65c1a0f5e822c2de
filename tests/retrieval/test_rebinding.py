from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tutelage.retrieval.rebinding import rebind
from tutelage.runtime.types import Demonstration, Step, Turn


def shown(goal: str, *turns: tuple[str, str], target: int = -1) -> Demonstration:
    return Demonstration(
        id="d:0",
        tenant="t",
        trajectory_id="d",
        step_index=0,
        goal=goal,
        window=tuple(Turn(*turn) for turn in turns),
        target=target,
        source="oracle:test",
    )


def at(goal: str, observation: str, *history: tuple[str, str]) -> Step:
    turns = tuple(Turn(*turn) for turn in history)
    return Step("t", "e", len(turns), goal, observation, turns)


def test_the_goals_things_take_the_names_of_this_task() -> None:
    one = shown("put a mug in desk.", ("a mug 1", "move mug 1 to desk 1"))
    told = rebind(one, at("put some pencil on shelf.", "a pencil 1"))
    assert told.goal == "put a pencil in shelf."
    assert told.action == "move pencil 1 to shelf 1"


def test_two_names_can_be_swapped() -> None:
    one = shown("put a mug in desk.", ("mug on desk", "move mug 1 to desk 1"))
    assert rebind(one, at("put a desk in mug.", "")).action == "move desk 1 to mug 1"


def test_goals_that_name_another_number_of_things_are_left_alone() -> None:
    one = shown("put a mug in desk.", ("a mug 1", "take mug 1"))
    assert rebind(one, at("put a clean pencil in shelf.", "")) == one


def test_the_place_just_reached_is_renamed_in_what_follows() -> None:
    one = shown(
        "find a cup.",
        ("a room", "go to desk 1"),
        ("You arrive at desk 1. On the desk 1, you see a cup 1.", "take cup 1 from desk 1"),
    )
    here = at("find a cup.", "You arrive at shelf 3.", ("a room", "go to shelf 3"))
    told = rebind(one, here)
    assert [turn.action for turn in told.window] == ["go to shelf 3", "take cup 1 from shelf 3"]
    assert told.window[1].observation.startswith("You arrive at shelf 3. On the shelf 3")


def test_a_place_that_is_not_in_sight_keeps_its_number() -> None:
    one = shown("find a cup.", ("a room", "go to drawer 3"), ("nothing", "go to drawer 4"))
    here = at("find a cup.", "On drawer 5 nothing.", ("a room", "go to drawer 5"))
    assert rebind(one, here).action == "go to drawer 4"


def test_the_number_of_a_thing_in_sight_is_that_of_this_sight() -> None:
    one = shown("find a cup.", ("you see a cup 1", "take cup 1"))
    assert rebind(one, at("find a cup.", "you see a cup 3, a pen 1")).action == "take cup 3"
    assert rebind(one, at("find a cup.", "a cup 2, a cup 3")).action == "take cup 1"


def test_turns_after_the_target_keep_the_targets_place() -> None:
    one = shown("find a cup.", ("a cup 1", "take cup 1"), ("taken", "go home"), target=0)
    told = rebind(one, at("find a pen.", "a pen 4"))
    assert [turn.action for turn in told.window] == ["take pen 4", "go home"]


texts = st.text(alphabet="ab 12.", max_size=30)


@given(texts, st.lists(st.tuples(texts, texts), min_size=1, max_size=3), texts, texts, texts)
def test_any_texts_are_rebound_and_their_own_step_changes_nothing(
    goal: str, window: list[tuple[str, str]], other: str, observation: str, action: str
) -> None:
    one = shown(goal, *window)
    rebind(one, at(other, observation, ("", action)))
    itself = at(goal, window[-1][0], *window[:-1])
    assert rebind(one, itself) == one
