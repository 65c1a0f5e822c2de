from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.benchmarks.environment import Environment, OracleAction, Outcome, Task
from tutelage.benchmarks.household.grammar import REFUSAL, parse
from tutelage.benchmarks.household.world import HouseholdWorld
from tutelage.runtime.errors import BenchmarkError, WorldMissing


@pytest.fixture
def world() -> Environment:
    return HouseholdWorld()


def test_a_task_is_played_to_its_end_through_the_environment(world: Environment) -> None:
    for task in world.tasks("test:60"):
        opening = world.reset(task)
        assert opening.goal.endswith(".")
        assert opening.observation.startswith("You are in the middle of a room. Looking quickly")
        outcome = Outcome("", done=False, success=False)
        for _ in range(40):
            action = world.oracle()
            assert action.knowledge == "expert"
            outcome = world.step(action.text)
            if outcome.done:
                break
        assert outcome.success


def test_an_agent_that_does_nothing_solves_nothing(world: Environment) -> None:
    for task in world.tasks("train"):
        world.reset(task)
        assert not any(world.step("look").done for _ in range(20))


def test_a_solved_task_stays_solved_and_still(world: Environment) -> None:
    world.reset(world.tasks("test")[0])
    while not world.step(world.oracle().text).done:
        pass
    assert world.step("look") == Outcome(REFUSAL, done=True, success=True)
    assert isinstance(world.oracle(), OracleAction)


def test_reset_forgets_the_task_before(world: Environment) -> None:
    first, second = world.tasks("train")[:2]
    opening, action = world.reset(first), world.oracle()
    world.step(action.text)
    world.reset(second)
    world.step(world.oracle().text)
    assert (world.reset(first), world.oracle()) == (opening, action)


def test_an_id_is_enough_to_know_the_task(world: Environment) -> None:
    task = world.tasks("test")[5]
    assert world.reset(task) == HouseholdWorld().reset(Task(task.id, "", ""))


def test_playing_before_a_reset_is_refused(world: Environment) -> None:
    for play in (lambda: world.step("look"), world.oracle):
        with pytest.raises(BenchmarkError, match="call reset first"):
            play()


def test_unknown_splits_and_tasks_are_refused(world: Environment) -> None:
    with pytest.raises(WorldMissing, match="use train or test"):
        world.tasks("valid_unseen")
    with pytest.raises(WorldMissing, match="no task 'trial_T2019'"):
        world.reset(Task("trial_T2019", "test", "pick_and_place"))


def test_the_instructions_name_only_commands_that_are_understood(world: Environment) -> None:
    forms = world.instructions.split("Commands:\n")[1].splitlines()[:-1]
    assert len(forms) == 12
    for form in forms:
        example = form.replace("PLACE or THING", "THING").replace("THING", "mug 1")
        assert parse(example.replace("PLACE", "desk 2")), form
    assert "one command only" in world.instructions.replace("\n", " ")


@given(st.lists(st.text(max_size=30), max_size=10))
def test_no_text_from_an_agent_stops_the_world(actions: list[str]) -> None:
    world = HouseholdWorld()
    world.reset(world.tasks("train")[3])
    before = world.oracle()
    outcomes = [world.step(action) for action in actions]
    if all(outcome.observation == REFUSAL for outcome in outcomes):
        assert world.oracle() == before


def test_speed_is_reported(world: Environment, record_property: Callable[[str, Any], None]) -> None:
    steps, started = 0, time.perf_counter()
    for task in world.tasks("train:120"):
        world.reset(task)
        while not world.step(world.oracle().text).done:
            steps += 1
    record_property("household_steps_per_s", round(steps / (time.perf_counter() - started)))
    assert steps > 120
