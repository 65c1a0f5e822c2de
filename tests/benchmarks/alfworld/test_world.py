"""The real engine on real games; every assertion is about one of the first tasks of the pack."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from tutelage.benchmarks.alfworld.games import REFUSAL, TASK_TYPES
from tutelage.benchmarks.alfworld.world import AlfworldWorld
from tutelage.benchmarks.environment import Opening, OracleAction, Outcome, Task
from tutelage.benchmarks.worker import WorldProcess
from tutelage.runtime.errors import BenchmarkError, MissingExtra, WorldMissing

pytestmark = pytest.mark.alfworld

MAX_STEPS = 50


@pytest.fixture(scope="session")
def world(games_folder: Path) -> AlfworldWorld:
    return AlfworldWorld(games_folder)


@pytest.fixture(scope="session")
def tasks(world: AlfworldWorld) -> dict[str, Task]:
    """The first unseen task of each type."""
    return {task.category: task for task in world.tasks("valid_unseen:6")}


def play(world: AlfworldWorld, task: Task) -> tuple[list[OracleAction], Outcome]:
    """Plays a task as the oracle says."""
    world.reset(task)
    actions = []
    for _ in range(MAX_STEPS):
        actions.append(world.oracle())
        outcome = world.step(actions[-1].text)
        if outcome.done:
            break
    return actions, outcome


def test_the_first_twelve_tasks_are_two_of_each_type(world: AlfworldWorld) -> None:
    assert [task.category for task in world.tasks("valid_unseen:12")] == [*TASK_TYPES, *TASK_TYPES]
    assert len(world.tasks("valid_unseen")) == 110
    assert len(world.tasks("valid_seen")) == 116


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_the_oracle_wins_a_game_of_each_type(
    world: AlfworldWorld, tasks: dict[str, Task], kind: str
) -> None:
    actions, outcome = play(world, tasks[kind])
    assert (outcome.done, outcome.success) == (True, True)
    assert {action.knowledge for action in actions} == {"expert"}


def test_an_opening_tells_goal_and_room_apart(world: AlfworldWorld, tasks: dict[str, Task]) -> None:
    opening = world.reset(tasks["pick_and_place_simple"])
    assert opening.goal == "put a pencil in shelf."
    assert opening.observation.startswith("You are in the middle of a room. Looking quickly around")
    assert opening.observation.endswith("and a shelf 1.")
    assert "task" not in opening.observation


def test_a_command_that_is_not_possible_changes_nothing(
    world: AlfworldWorld, tasks: dict[str, Task]
) -> None:
    world.reset(tasks["pick_and_place_simple"])
    advice = world.oracle()
    for action in ("take pencil 1 from desk 1", "dance", "", "go to", "put on", "\x00" * 3):
        assert world.step(action) == Outcome(REFUSAL, done=False, success=False)
    assert world.oracle() == advice


@pytest.mark.parametrize("link", ["in/on", "in", "on", "into"])
def test_case_spacing_and_the_older_wording_of_a_move_are_understood(
    world: AlfworldWorld, tasks: dict[str, Task], link: str
) -> None:
    world.reset(tasks["pick_and_place_simple"])
    assert world.step(" GO to  Desk 1\n").observation.startswith("You arrive at desk 1.")
    world.step("take pencil 1 from desk 1")
    world.step("go to shelf 5")
    outcome = world.step(f"put pencil 1 {link} shelf 5")
    assert outcome == Outcome("You move the pencil 1 to the shelf 5.", done=True, success=True)


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_the_oracle_wins_after_detours(
    world: AlfworldWorld, tasks: dict[str, Task], kind: str
) -> None:
    chance = random.Random(3)
    opening = world.reset(tasks[kind])
    places = [f"{word} {number}" for word, number in _things(opening.observation)]
    for step in range(2 * MAX_STEPS):
        action = world.oracle().text
        if step < 12 and step % 3 == 1:
            place = chance.choice(places)
            action = chance.choice([f"go to {place}", f"open {place}", "look", "fly away"])
        outcome = world.step(action)
        if outcome.done:
            break
    assert outcome.success


def _things(text: str) -> list[list[str]]:
    listed = text.rstrip(".").split("you see a ")[1].replace(", and a ", ", a ").split(", a ")
    return [thing.split() for thing in listed]


def test_a_student_that_does_the_experts_work_does_not_confuse_it(
    world: AlfworldWorld, tasks: dict[str, Task]
) -> None:
    world.reset(tasks["pick_heat_then_place_in_recep"])
    while not (action := world.oracle().text).startswith("heat "):
        world.step(action)
    world.step(action)
    rest = []
    while True:
        rest.append(world.oracle())
        if world.step(rest[-1].text).done:
            break
    assert len(rest) <= 4
    assert {action.knowledge for action in rest} == {"expert"}


def test_a_lost_expert_hands_over_to_the_planner_for_good(
    world: AlfworldWorld, tasks: dict[str, Task]
) -> None:
    world.reset(tasks["pick_and_place_simple"])
    undone = 0
    knowledge: list[str] = []
    for _ in range(3 * MAX_STEPS):
        advice = world.oracle()
        knowledge.append(advice.knowledge)
        outcome = world.step(advice.text)
        if outcome.done:
            break
        # Someone keeps putting the pencil back, so that the expert sees its own step come again.
        if advice.text.startswith("take ") and undone < 4:
            thing, place = advice.text.removeprefix("take ").split(" from ")
            world.step(f"move {thing} to {place}")
            undone += 1
    assert outcome.success
    first = knowledge.index("planner")
    assert first > 0
    assert set(knowledge[first:]) == {"planner"}


def test_the_oracle_of_a_game_that_is_over_says_so(
    world: AlfworldWorld, tasks: dict[str, Task]
) -> None:
    _, outcome = play(world, tasks["look_at_obj_in_light"])
    assert outcome.done
    with pytest.raises(BenchmarkError, match="the game is over"):
        world.oracle()


def test_the_oracle_says_the_same_until_something_happens(
    world: AlfworldWorld, tasks: dict[str, Task]
) -> None:
    world.reset(tasks["pick_two_obj_and_place"])
    assert world.oracle() == world.oracle()
    world.step("look")
    assert world.oracle() == world.oracle()


def test_an_oracle_that_was_never_asked_knows_what_happened(
    world: AlfworldWorld, tasks: dict[str, Task]
) -> None:
    task = tasks["pick_clean_then_place_in_recep"]
    actions, _ = play(world, task)
    half = len(actions) // 2
    world.reset(task)
    for action in actions[:half]:
        world.step(action.text)
    assert world.oracle() == actions[half]


def test_a_game_plays_the_same_after_a_restart_beside_another_one_and_in_another_world(
    world: AlfworldWorld, games_folder: Path, tasks: dict[str, Task]
) -> None:
    task, next_task = tasks["pick_cool_then_place_in_recep"], tasks["look_at_obj_in_light"]
    first = play(world, task)
    opening = world.reset(task)
    world.prefetch(next_task)
    world.prefetch(next_task)
    world.prefetch(task)
    assert play(world, task) == first
    assert play(AlfworldWorld(games_folder), task) == first
    assert world.reset(next_task) != opening
    assert play(world, task) == first


def test_a_task_that_was_loaded_ahead_in_vain_gives_way(
    world: AlfworldWorld, tasks: dict[str, Task]
) -> None:
    task = tasks["look_at_obj_in_light"]
    expected = world.reset(task)
    for kind in ("pick_and_place_simple", "pick_two_obj_and_place"):
        world.prefetch(tasks[kind])
    world.prefetch(tasks["look_at_obj_in_light"])
    assert world.reset(task) == expected
    assert world.reset(tasks["pick_two_obj_and_place"]).goal.startswith("put two")


def test_a_missing_game_leaves_the_one_that_is_played(
    world: AlfworldWorld, tasks: dict[str, Task]
) -> None:
    world.reset(tasks["look_at_obj_in_light"])
    absent = Task("valid_unseen/look_at_obj_in_light-X-None-DeskLamp-1/t", "valid_unseen", "x")
    for attempt in (world.reset, world.prefetch):
        with pytest.raises(WorldMissing, match="is not in"):
            attempt(absent)
    assert world.step("look").observation.startswith("You are in the middle of a room.")


def test_a_damaged_game_file_is_named(tmp_path: Path, games_folder: Path) -> None:
    trial = "valid_unseen/pick_and_place_simple-Mug-None-Desk-1/trial"
    folder = tmp_path / "json_2.1.1" / trial
    folder.mkdir(parents=True)
    (folder / "game.tw-pddl").write_text('{"pddl_domain": ')
    (folder / "traj_data.json").write_text("{}")
    damaged = AlfworldWorld(tmp_path)
    with pytest.raises(BenchmarkError, match=r"game\.tw-pddl is damaged, unpack it again"):
        damaged.reset(damaged.tasks("valid_unseen")[0])
    with pytest.raises(BenchmarkError, match="reset the world before the first step"):
        damaged.step("look")


def test_without_the_extra_the_install_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "tutelage.benchmarks.alfworld.oracle", raising=False)
    monkeypatch.setitem(sys.modules, "alfworld.agents.expert", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[alfworld\]'"):
        AlfworldWorld(tmp_path)


async def test_the_games_are_played_in_a_worker_process(games_folder: Path) -> None:
    world = WorldProcess("alfworld", data=games_folder)
    try:
        first, second = await world.tasks("valid_unseen:2")
        world.prefetch(second)
        opening = await world.reset(first)
        assert opening == Opening("put a pencil in shelf.", opening.observation)
        advice = await world.oracle()
        assert advice.knowledge == "expert"
        assert (await world.step(advice.text)).observation.startswith("You arrive at")
        assert "mug" in (await world.reset(second)).goal
        assert "reply with one command only" in world.instructions
    finally:
        await world.aclose()
