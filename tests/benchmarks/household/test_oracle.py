from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.benchmarks.household import oracle as oracle_module
from tutelage.benchmarks.household.goals import WORDINGS, read_goal
from tutelage.benchmarks.household.grammar import REFUSAL
from tutelage.benchmarks.household.layout import Room
from tutelage.benchmarks.household.oracle import HouseholdOracle
from tutelage.benchmarks.household.rules import State, achieved, act
from tutelage.benchmarks.household.tasks import game, tasks
from tutelage.runtime.errors import BenchmarkError

Play = Callable[..., Any]
SPLITS = ("train:500", "test:500")


@pytest.mark.parametrize("split", SPLITS)
def test_the_oracle_alone_solves_every_task(split: str, play: Play) -> None:
    played = [play(game(task.id), cap=40) for task in tasks(split)]
    assert all(one.success for one in played)
    assert 6 <= fmean(one.steps for one in played) <= 10
    assert max(one.steps for one in played) <= 25


@pytest.mark.parametrize("split", SPLITS)
def test_the_oracle_is_never_refused(split: str, play: Play) -> None:
    for task in tasks(split)[:200]:
        assert REFUSAL not in [said for _, said in play(game(task.id), cap=40).transcript]


@pytest.mark.parametrize("split", SPLITS)
def test_the_oracle_survives_an_aimless_actor_at_every_other_step(split: str, play: Play) -> None:
    played = [play(game(t.id), cap=80, detours=0.5, seed=t.id) for t in tasks(split)]
    assert fmean(one.success for one in played) >= 0.99


@pytest.mark.parametrize("split", ["train:250", "test:250"])
def test_an_aimless_actor_alone_solves_less_than_a_tenth(split: str, play: Play) -> None:
    played = [play(game(t.id), cap=20, detours=1.0, seed=t.id) for t in tasks(split)]
    assert fmean(one.success for one in played) < 0.1


def test_the_oracle_is_a_function_of_the_transcript(play: Play) -> None:
    for task in tasks("test:60"):
        playing = game(task.id)
        transcript = play(playing, cap=60, detours=0.3, seed=task.id).transcript
        opening = act(State(playing.room.contents), "look")[1]
        first = HouseholdOracle(playing.wording, opening)
        for length, (action, observation) in enumerate(transcript):
            second = HouseholdOracle(playing.wording, opening)
            for past in transcript[:length]:
                second.observe(*past)
            assert first.next() == first.next() == second.next()
            first.observe(action, observation)


def test_hidden_things_do_not_change_what_the_oracle_does_first() -> None:
    for task in tasks("train:60"):
        playing = game(task.id)
        emptied = Room(
            playing.room.kind, playing.room.places, dict.fromkeys(playing.room.places, ())
        )
        openings = {act(State(room.contents), "look")[1] for room in (playing.room, emptied)}
        assert len({HouseholdOracle(playing.wording, opening).next() for opening in openings}) == 1


def test_the_oracle_imports_nothing_that_knows_a_room() -> None:
    tree = ast.parse(inspect.getsource(oracle_module))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    rooms = {
        f"tutelage.benchmarks.household.{name}" for name in ("layout", "rules", "tasks", "world")
    }
    assert imported.isdisjoint(rooms)


def rollout(goal: str, state: State, *detour: str) -> list[str]:
    """Plays the detour, then lets the oracle end the task; returns the oracle's actions."""
    oracle = HouseholdOracle(goal, act(state, "look")[1])
    for action in detour:
        state, observation = act(state, action)
        oracle.observe(action, observation)
    taken: list[str] = []
    while not achieved(read_goal(goal), state):
        assert len(taken) < 30, taken
        taken.append(oracle.next())
        state, observation = act(state, taken[-1])
        oracle.observe(taken[-1], observation)
    return taken


KITCHEN = State(
    {
        "cabinet 1": ("mug 1",),
        "countertop 1": ("apple 1", "knife 1"),
        "fridge 1": ("apple 2",),
        "microwave 1": (),
        "shelf 2": ("plate 1",),
        "shelf 1": ("plate 2", "plate 3"),
        "sinkbasin 1": (),
    }
)


def test_a_thing_that_is_not_wanted_is_put_away_at_once() -> None:
    taken = rollout(
        "put a apple in shelf.", KITCHEN, "go to countertop 1", "take knife 1 from countertop 1"
    )
    assert taken[:2] == ["move knife 1 to countertop 1", "take apple 1 from countertop 1"]


def test_a_thing_held_before_a_closed_place_is_put_away_all_the_same() -> None:
    taken = rollout(
        "put a apple in shelf.",
        KITCHEN,
        "go to countertop 1",
        "take knife 1 from countertop 1",
        "go to cabinet 1",
    )
    assert taken[:2] == ["open cabinet 1", "move knife 1 to cabinet 1"]


def test_what_another_actor_has_treated_is_not_treated_again() -> None:
    taken = rollout(
        "put a hot apple in shelf.",
        KITCHEN,
        "go to countertop 1",
        "take apple 1 from countertop 1",
        "go to microwave 1",
        "heat apple 1 with microwave",
        "open microwave 1",
        "move apple 1 to microwave 1",
        "close microwave 1",
        "go to sinkbasin 1",
    )
    assert taken[:3] == ["go to microwave 1", "open microwave 1", "take apple 1 from microwave 1"]
    assert not any(action.startswith("heat") for action in taken)


def test_a_treated_thing_far_away_is_preferred_to_an_untreated_one_at_hand() -> None:
    taken = rollout(
        "put a hot apple in shelf.",
        KITCHEN,
        "go to countertop 1",
        "take apple 1 from countertop 1",
        "go to microwave 1",
        "heat apple 1 with microwave",
        "go to sinkbasin 1",
        "move apple 1 to sinkbasin 1",
        "go to fridge 1",
        "open fridge 1",
    )
    assert taken == [
        "go to sinkbasin 1",
        "take apple 1 from sinkbasin 1",
        "go to shelf 2",
        "move apple 1 to shelf 2",
    ]


def test_what_another_actor_has_cooled_again_is_heated_again() -> None:
    taken = rollout(
        "put a hot apple in shelf.",
        KITCHEN,
        "go to countertop 1",
        "take apple 1 from countertop 1",
        "go to microwave 1",
        "heat apple 1 with microwave",
        "go to fridge 1",
        "cool apple 1 with fridge",
    )
    assert taken[:2] == ["go to microwave 1", "heat apple 1 with microwave 1"]


def test_an_untreated_thing_that_lies_where_it_belongs_is_fetched_again() -> None:
    taken = rollout("put a clean plate in shelf.", KITCHEN, "go to shelf 2")
    assert taken[0] == "take plate 1 from shelf 2"
    assert "clean plate 1 with sinkbasin 1" in taken


def test_two_half_full_places_do_not_make_the_oracle_walk_between_them() -> None:
    state = State({"shelf 2": ("pen 1",), "shelf 1": ("pen 2",), "desk 1": ()})
    taken = rollout("put two pen in shelf.", state, "go to shelf 2", "go to shelf 1")
    assert taken == ["take pen 2 from shelf 1", "go to shelf 2", "move pen 2 to shelf 2"]


def test_a_lamp_that_is_already_lit_needs_only_the_thing() -> None:
    state = State({"desk 1": ("desklamp 1",), "shelf 1": ("pen 1",)})
    taken = rollout(
        "look at pen under the desklamp.", state, "go to desk 1", "use desklamp", "go to shelf 1"
    )
    assert taken == ["take pen 1 from shelf 1", "go to desk 1"]


def test_a_lamp_that_was_not_seen_yet_is_searched() -> None:
    state = State({"dresser 1": ("desklamp 1",), "desk 1": (), "shelf 1": ("pen 1",)})
    taken = rollout("look at pen under the desklamp.", state, "go to shelf 1")
    assert taken[1:] == ["go to desk 1", "go to dresser 1", "use desklamp 1"]


def test_an_oracle_that_has_seen_everything_in_vain_looks_around() -> None:
    opening = "You are in the middle of a room. Looking quickly around you, you see a desk 1."
    oracle = HouseholdOracle("put a pen in desk.", opening)
    oracle.observe("go to desk 1", "You arrive at desk 1. On the desk 1, you see nothing.")
    assert oracle.next() == "look"
    oracle.observe("look", "You are facing the desk 1. On the desk 1, you see a pen 4.")
    oracle.observe("take pen 4 from desk 1", "You pick up the pen 4 from the desk 1.")
    assert oracle.next() == "move pen 4 to desk 1"


@pytest.mark.parametrize(
    ("goal", "missing"), [("put a pen in safe.", "safe"), ("put a hot mug in desk.", "microwave")]
)
def test_a_room_without_a_place_that_the_goal_needs_is_refused(goal: str, missing: str) -> None:
    with pytest.raises(BenchmarkError, match=f"not there: {missing}"):
        HouseholdOracle(goal, "Looking quickly around you, you see a desk 1.")


ACTIONS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "go to shelf 1",
            "go to cabinet 1",
            "open cabinet 1",
            "close cabinet 1",
            "look",
            "take plate 3 from shelf 1",
            "move plate 3 to cabinet 1",
            "heat plate 3 with microwave",
            "take knife 1 from shelf 7",
            "go to nowhere 1",
            "examine shelf 1",
            "use desklamp",
        ]
    ),
)


@settings(deadline=None)
@given(
    st.sampled_from([w for wordings in WORDINGS.values() for w in wordings]),
    st.lists(
        st.tuples(ACTIONS, st.one_of(st.text(max_size=20), st.just("you see a plate 3."))),
        max_size=12,
    ),
)
def test_no_transcript_however_garbled_stops_the_oracle(
    wording: str, transcript: list[tuple[str, str]]
) -> None:
    goal = wording.format(thing="plate", place="shelf")
    oracle = HouseholdOracle(goal, act(KITCHEN, "look")[1])
    for action, observation in transcript:
        oracle.observe(action, observation)
    assert oracle.next()
