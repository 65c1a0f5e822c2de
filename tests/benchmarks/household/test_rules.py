from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.benchmarks.household.goals import Goal, read_goal
from tutelage.benchmarks.household.grammar import REFUSAL
from tutelage.benchmarks.household.rules import State, achieved, act
from tutelage.benchmarks.household.tasks import game

ROOM = State(
    {
        "cabinet 2": ("plate 1",),
        "cabinet 1": (),
        "desk 1": ("pen 2", "mug 1", "desklamp 1"),
        "fridge 1": ("egg 1",),
        "microwave 1": (),
        "sinkbasin 1": (),
    }
)


def after(*actions: str) -> tuple[State, str]:
    state, observation = ROOM, ""
    for action in actions:
        state, observation = act(state, action)
    return state, observation


@pytest.mark.parametrize(
    ("actions", "observation"),
    [
        (
            ["look"],
            "You are in the middle of a room. Looking quickly around you, you see a cabinet 2, "
            "a cabinet 1, a desk 1, a fridge 1, a microwave 1, a sinkbasin 1.",
        ),
        (["go to cabinet 2"], "You arrive at cabinet 2. The cabinet 2 is closed."),
        (
            ["go to desk 1"],
            "You arrive at desk 1. On the desk 1, you see a pen 2, a mug 1, a desklamp 1.",
        ),
        (["go to sinkbasin 1"], "You arrive at sinkbasin 1. On the sinkbasin 1, you see nothing."),
        (
            ["go to fridge 1", "open fridge 1"],
            "You open the fridge 1. The fridge 1 is open. In it, you see a egg 1.",
        ),
        (
            ["go to fridge 1", "open fridge 1", "go to desk 1", "go to fridge 1"],
            "You arrive at fridge 1. The fridge 1 is open. In it, you see a egg 1.",
        ),
        (["go to fridge 1", "open fridge 1", "close fridge 1"], "You close the fridge 1."),
        (["go to desk 1", "take mug 1 from desk 1"], "You pick up the mug 1 from the desk 1."),
        (
            ["go to desk 1", "take mug 1 from desk 1", "move mug 1 to desk 1"],
            "You move the mug 1 to the desk 1.",
        ),
        (
            [
                "go to desk 1",
                "take mug 1 from desk 1",
                "go to sinkbasin 1",
                "clean mug 1 with sinkbasin 1",
            ],
            "You clean the mug 1 using the sinkbasin 1.",
        ),
        (
            ["go to desk 1", "take mug 1 from desk 1", "go to fridge 1", "cool mug 1 with fridge"],
            "You cool the mug 1 using the fridge 1.",
        ),
        (["go to desk 1", "use desklamp"], "You turn on the desklamp 1."),
        (
            ["go to desk 1", "examine desk 1"],
            "On the desk 1, you see a pen 2, a mug 1, a desklamp 1.",
        ),
        (["go to desk 1", "examine pen 2"], "There's nothing special about the pen 2."),
        (["go to cabinet 1", "examine cabinet 1"], "The cabinet 1 is closed."),
        (["go to cabinet 1", "look"], "You are facing the cabinet 1. The cabinet 1 is closed."),
        (["inventory"], "You are not carrying anything."),
        (["go to desk 1", "take pen 2 from desk 1", "inventory"], "You are carrying: a pen 2."),
    ],
)
def test_the_world_says(actions: list[str], observation: str) -> None:
    assert after(*actions)[1] == observation


def test_a_treated_thing_shows_it() -> None:
    state, _ = after("go to desk 1", "take mug 1 from desk 1")
    for action in ("go to sinkbasin 1", "clean mug 1 with sinkbasin", "go to microwave 1"):
        state, _ = act(state, action)
    state, _ = act(state, "heat mug 1 with microwave 1")
    assert act(state, "examine mug 1")[1] == "This is a clean and hot mug 1."


AT_DESK = ["go to desk 1"]
WITH_MUG = [*AT_DESK, "take mug 1 from desk 1"]


@pytest.mark.parametrize(
    ("before", "action"),
    [
        ([], "sing"),
        ([], ""),
        ([], "go to cabinet 3"),
        (AT_DESK, "go to desk 1"),
        ([], "open fridge 1"),
        (AT_DESK, "open desk 1"),
        (["go to fridge 1", "open fridge 1"], "open fridge 1"),
        ([], "close fridge 1"),
        (["go to fridge 1"], "close fridge 1"),
        ([], "take mug 1 from desk 1"),
        (AT_DESK, "take mug 2 from desk 1"),
        (AT_DESK, "take desklamp 1 from desk 1"),
        (["go to fridge 1"], "take egg 1 from fridge 1"),
        (WITH_MUG, "take pen 2 from desk 1"),
        (AT_DESK, "move pen 2 to desk 1"),
        (WITH_MUG, "move mug 1 to sinkbasin 1"),
        ([*WITH_MUG, "go to cabinet 1"], "move mug 1 to cabinet 1"),
        ([], "clean mug 1 with sinkbasin"),
        (WITH_MUG, "clean mug 1 with sinkbasin"),
        ([*WITH_MUG, "go to sinkbasin 1"], "clean mug 1 with sinkbasin 2"),
        ([*WITH_MUG, "go to sinkbasin 1"], "heat mug 1 with sinkbasin 1"),
        (["go to sinkbasin 1"], "clean mug 1 with sinkbasin"),
        ([*AT_DESK, "take pen 2 from desk 1", "go to fridge 1"], "cool pen 2 with fridge 1"),
        ([], "use desklamp"),
        (AT_DESK, "use desklamp 2"),
        ([*AT_DESK, "use desklamp 1"], "use desklamp 1"),
        (["go to fridge 1"], "examine egg 1"),
        ([], "examine desk 1"),
    ],
)
def test_an_impossible_action_is_refused_and_changes_nothing(
    before: list[str], action: str
) -> None:
    state, _ = after(*before)
    assert act(state, action) == (state, REFUSAL)


@pytest.mark.parametrize(
    ("goal", "actions"),
    [
        ("put a mug in cabinet.", [*WITH_MUG, "go to cabinet 1", "open cabinet 1"]),
        (
            "put a clean mug in cabinet.",
            [*WITH_MUG, "go to sinkbasin 1", "clean mug 1 with sinkbasin"],
        ),
        (
            "put a hot mug in cabinet.",
            [*WITH_MUG, "go to microwave 1", "heat mug 1 with microwave"],
        ),
        ("put a cool mug in cabinet.", [*WITH_MUG, "go to fridge 1", "cool mug 1 with fridge"]),
    ],
)
def test_a_thing_counts_only_where_it_belongs_and_as_it_should_be(
    goal: str, actions: list[str]
) -> None:
    wanted = read_goal(goal)
    untreated, _ = after(*WITH_MUG, "go to cabinet 1", "open cabinet 1", "move mug 1 to cabinet 1")
    assert achieved(wanted, untreated) == (wanted.treatment is None)
    state, _ = after(*actions)
    for action in ("go to cabinet 1", "open cabinet 1"):
        assert not achieved(wanted, state)
        state, _ = act(state, action)
    state, _ = act(state, "move mug 1 to cabinet 1")
    assert achieved(wanted, state)


def test_a_hot_thing_that_was_cooled_is_no_longer_hot() -> None:
    state, _ = after(*WITH_MUG, "go to microwave 1", "heat mug 1 with microwave 1")
    for action in ("go to fridge 1", "cool mug 1 with fridge 1", "go to cabinet 1"):
        state, _ = act(state, action)
    for action in ("open cabinet 1", "move mug 1 to cabinet 1"):
        state, _ = act(state, action)
    assert not achieved(read_goal("put a hot mug in cabinet."), state)
    assert achieved(read_goal("put a cool mug in cabinet."), state)


def test_light_falls_only_on_a_thing_held_beside_a_lit_lamp() -> None:
    goal = read_goal("look at mug under the desklamp.")
    assert not achieved(goal, after(*WITH_MUG)[0])
    assert not achieved(goal, after(*AT_DESK, "use desklamp")[0])
    assert not achieved(goal, after(*AT_DESK, "use desklamp", "take pen 2 from desk 1")[0])
    assert achieved(goal, after(*WITH_MUG, "use desklamp")[0])
    assert achieved(goal, after(*AT_DESK, "use desklamp", "take mug 1 from desk 1")[0])
    assert not achieved(goal, after(*WITH_MUG, "use desklamp", "go to fridge 1")[0])


def test_two_things_count_only_in_one_place() -> None:
    goal = Goal("pick_two_then_place", "pen", "shelf")
    assert not achieved(goal, State({"shelf 1": ("pen 1",), "shelf 2": ("pen 2",)}))
    assert achieved(goal, State({"shelf 1": (), "shelf 2": ("pen 2", "pen 1")}))


@given(st.text(max_size=60))
def test_any_text_is_survived_and_a_refused_one_changes_nothing(text: str) -> None:
    state, observation = act(ROOM, text)
    assert observation
    assert observation != REFUSAL or state is ROOM


@settings(deadline=None)
@given(st.integers(0, 5000), st.integers(), st.lists(st.text(max_size=8), max_size=5))
def test_nothing_appears_vanishes_or_is_seen_through_a_door(
    plausible: Callable[[State], list[str]], index: int, seed: int, noise: list[str]
) -> None:
    rng, state = random.Random(seed), State(game(f"test-{index:05d}").room.contents)
    things = sorted(thing for held in state.contents.values() for thing in held)
    for _ in range(40):
        before = state
        state, observation = act(state, rng.choice([*plausible(state), *noise]))
        assert observation != REFUSAL or state == before
        lying = [thing for held in state.contents.values() for thing in held]
        assert sorted([*lying, state.hand] if state.hand else lying) == things
        if state.here and state.is_closed(state.here):
            hidden = state.contents[state.here]
            assert not any(f"see a {thing}" in observation for thing in hidden)
