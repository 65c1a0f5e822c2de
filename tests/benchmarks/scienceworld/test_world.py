"""The world over a scripted simulator, and over the real one."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
from collections.abc import Iterator, Sequence

import pytest
from tests.absence import absent

from tutelage.benchmarks.environment import OracleAction, Outcome, Task
from tutelage.benchmarks.scienceworld.kinds import KINDS, LONG, SHORT
from tutelage.benchmarks.scienceworld.simulator import Reply
from tutelage.benchmarks.scienceworld.world import (
    REFUSAL,
    UNKNOWN,
    ScienceWorld,
    nearest,
    scienceworld_manner,
)
from tutelage.benchmarks.worker import WorldProcess
from tutelage.benchmarks.worlds import manner_of
from tutelage.runtime.errors import BenchmarkError, WorldMissing

TASK = Task("find-plant/1", "dev", "find-plant")


class TwoRooms:
    """A kitchen and a garden with a tree that has another name once time has passed."""

    def __init__(self) -> None:
        self.listed: list[str] = []
        self.closed = False

    def variations(self, kind: str, split: str) -> Sequence[int]:
        self.listed.append(kind)
        return {"train": (0, 1), "dev": (2, 3), "test": (4,)}[split]

    def start(self, kind: str, variation: int) -> tuple[str, str, Sequence[str]]:
        self._at, self._time = "kitchen", 0
        gold = ("go to garden", "focus on young tree", "wait1")
        return "Your task is to find a plant. ", "This is the kitchen.\n", gold

    def act(self, action: str) -> Reply:
        verb, _, rest = action.partition(" to ")
        self._time += 1
        if verb in ("go", "teleport"):
            self._at = rest
            return Reply(f"You move to the {rest}.", 0.0, False)
        if action == "focus on stone":
            return Reply("You focus on the stone.", -1.0, False)
        if action == self.valid_actions()[0] and self._at == "garden":
            return Reply("You focus on the tree.", 1.0, True)
        return Reply(UNKNOWN, 0.0, False)

    def room(self) -> str | None:
        return self._at

    def valid_actions(self) -> Sequence[str]:
        return ("focus on young tree" if self._time < 3 else "focus on old tree", "go to kitchen")

    def close(self) -> None:
        self.closed = True


def to_the_end(world: ScienceWorld) -> tuple[list[str], Outcome]:
    actions = []
    for _ in range(60):
        actions.append(world.oracle().text)
        outcome = world.step(actions[-1])
        if outcome.done:
            break
    return actions, outcome


@pytest.fixture
def world() -> ScienceWorld:
    return ScienceWorld(TwoRooms)


def test_the_oracle_says_the_gold_actions(world: ScienceWorld) -> None:
    opening = world.reset(TASK)
    assert (opening.goal, opening.observation) == ("find a plant.", "This is the kitchen.")
    actions, outcome = to_the_end(world)
    assert actions == ["go to garden", "focus on young tree"]
    assert outcome == Outcome("You focus on the tree.", True, True)
    assert world.step("look around").observation == "Nothing happens: the task is over."


def test_the_oracle_leads_back_and_takes_the_nearest_possible_action(world: ScienceWorld) -> None:
    world.reset(TASK)
    for action in ("go to garden", "go to kitchen", "go to cellar"):
        world.step(action)
    actions, outcome = to_the_end(world)
    assert actions == ["teleport to garden", "focus on young tree", "focus on old tree"]
    assert outcome.success


def test_a_gold_action_that_nobody_took_stays_the_next_one(world: ScienceWorld) -> None:
    world.reset(TASK)
    for action in ("wait1", "go to garden", "focus on young tree"):
        world.step(action)
    # The tree has another name by now; someone asks for the old one again, and goes away.
    world.step("focus on young tree")
    world.step("wait1")
    assert world.oracle() == OracleAction("focus on young tree", "planner")
    world.step("go to cellar")
    assert world.oracle() == OracleAction("teleport to garden", "planner")


def test_a_gold_action_without_anything_near_is_passed_over() -> None:
    class Still(TwoRooms):
        def valid_actions(self) -> Sequence[str]:
            return ("dance",)

    world = ScienceWorld(Still)
    world.reset(TASK)
    said = []
    for _ in range(5):
        said.append(world.oracle().text)
        world.step(said[-1])
    # Then it begins anew where the task began.
    assert said == [
        "go to garden",
        "focus on young tree",
        "wait1",
        "teleport to kitchen",
        "go to garden",
    ]


def test_a_command_that_matches_nothing_is_a_refusal(world: ScienceWorld) -> None:
    world.reset(TASK)
    assert world.step("  dance ") == Outcome(REFUSAL, False, False)


def test_a_wrong_focus_ends_the_task(world: ScienceWorld) -> None:
    world.reset(TASK)
    assert world.step("focus on stone") == Outcome("You focus on the stone.", True, False)


def test_short_kinds_come_first_and_only_needed_ones_are_listed() -> None:
    simulator = TwoRooms()
    world = ScienceWorld(lambda: simulator)
    assert [task.id for task in world.tasks("dev:2")] == [f"{kind}/2" for kind in SHORT[:2]]
    assert simulator.listed == list(SHORT[:2])
    tasks = world.tasks("dev")
    assert len(tasks) == 60
    assert [task.category for task in tasks[:28]] == [*SHORT, *SHORT]
    assert tasks[28].id == f"{LONG[0]}/2"
    assert sorted(simulator.listed) == sorted(KINDS)
    assert len(world.tasks("dev:32")) == 32


def test_close_ends_the_simulator() -> None:
    simulator = TwoRooms()
    world = ScienceWorld(lambda: simulator)
    world.close()
    world.reset(TASK)
    world.close()
    assert simulator.closed


@pytest.mark.parametrize("id", ["find-unicorn/1", "find-plant", "find-plant/x"])
def test_a_task_of_another_world_is_refused(world: ScienceWorld, id: str) -> None:
    with pytest.raises(WorldMissing, match="is none of scienceworld's"):
        world.reset(Task(id, "dev", "any"))


def test_a_step_without_a_task_is_refused(world: ScienceWorld) -> None:
    with pytest.raises(BenchmarkError, match="call reset first"):
        world.step("look around")
    world.reset(TASK)
    world.tasks("dev:1")
    with pytest.raises(BenchmarkError, match="call reset first"):
        world.oracle()


def test_the_nearest_action_has_the_same_verb() -> None:
    valid = ["pick up cherry tree", "focus on cherry tree", "focus on cherry tree in big pot"]
    assert nearest("focus on adult cherry tree", valid) == "focus on cherry tree"
    assert nearest("mix bowl", valid) is None


def test_actions_are_lines_of_text() -> None:
    manner = manner_of("scienceworld")
    assert manner == scienceworld_manner()
    assert (manner.canonical, manner.stop) == ("text", ("\n",))


@pytest.fixture(scope="module")
def real() -> Iterator[WorldProcess]:
    """The real world in its worker; one Java process for all tests."""
    if importlib.util.find_spec("scienceworld") is None:
        absent("scienceworld is not installed: pip install 'tutelage[scienceworld]'")
    if shutil.which("java") is None:
        absent("there is no java in PATH, which scienceworld needs")
    process = WorldProcess("scienceworld")
    yield process
    asyncio.run(process.aclose())


async def played(world: WorldProcess, task: Task) -> bool:
    """Whether the oracle does the rest of a task."""
    for _ in range(40):
        outcome = await world.step((await world.oracle()).text)
        if outcome.done:
            return outcome.success
    return False


@pytest.mark.slow
async def test_the_oracle_does_six_real_tasks(real: WorldProcess) -> None:
    tasks = await real.tasks("dev:6")
    assert [task.category for task in tasks] == list(SHORT[:6])
    for task in tasks:
        opening = await real.reset(task)
        assert opening.observation.startswith("This ")
        assert await played(real, task), task.id


@pytest.mark.slow
async def test_a_student_that_strays_leaves_the_oracle_on_its_way(real: WorldProcess) -> None:
    for task in await real.tasks("dev:6"):
        await real.reset(task)
        for action in ("teleport to hallway", "fly", "teleport to kitchen", "look around"):
            assert not (await real.step(action)).done
        assert await played(real, task), task.id


@pytest.mark.slow
async def test_who_only_looks_is_never_done(real: WorldProcess) -> None:
    for task in await real.tasks("dev:6"):
        await real.reset(task)
        for _ in range(10):
            assert not (await real.step("look around")).done, task.id
