"""The adapter over a stand-in for the package."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from tutelage.benchmarks.appworld.world import AppWorldAdapter, appworld_manner, find_root
from tutelage.benchmarks.environment import Outcome, Task
from tutelage.benchmarks.worker import WorldProcess
from tutelage.benchmarks.worlds import manner_of
from tutelage.runtime.errors import BenchmarkError, MissingExtra, WorldMissing
from tutelage.training.data.export import PROTECTED

TASK = Task("appworld:bell_1", "train", "task")


@pytest.fixture
def world(root: Path) -> AppWorldAdapter:
    return AppWorldAdapter(find_root(root, {}))


def test_ids_are_those_that_exports_refuse(world: AppWorldAdapter) -> None:
    assert [task.id for task in world.tasks("train")] == ["appworld:bell_1", "appworld:bell_2"]
    assert world.tasks("train:1") == [TASK]
    assert TASK.id.startswith(PROTECTED)


def test_an_opening_tells_the_task_and_for_whom_it_is(world: AppWorldAdapter) -> None:
    opening = world.reset(TASK)
    assert opening.goal == "Ring the bell twice."
    assert opening.observation == "You work for Ada Moor (ada@moor.example, 555)."


async def test_the_oracle_does_a_task_in_a_worker(root: Path) -> None:
    process = WorldProcess("appworld", data=root)
    try:
        tasks = await process.tasks("train")
        await process.reset(tasks[0])
        actions = []
        while True:
            actions.append((await process.oracle()).text)
            outcome = await process.step(actions[-1])
            if outcome.done:
                break
        assert outcome == Outcome("Execution successful.", True, True)
        assert len(actions) == 3
        assert actions[0].startswith("```python\nfrom math import floor\ncount = ")
    finally:
        await process.aclose()


def test_who_does_nothing_fails(world: AppWorldAdapter) -> None:
    world.reset(TASK)
    outcome = world.step("I am done.\n```python\napis.supervisor.complete_task()\n```")
    assert outcome == Outcome("Execution successful.", True, False)
    again = world.step("apis.bell.ring('open')")
    assert again == Outcome("Nothing happens: the task is over.", True, False)


def test_detours_leave_the_oracle_at_its_step(world: AppWorldAdapter) -> None:
    world.reset(TASK)
    first = world.oracle().text
    assert world.step("print('hello')") == Outcome("hello", False, False)
    assert world.step("apis.bell.ring('shut')").observation.endswith("no token")
    assert world.oracle().text == first
    world.step(first)
    assert world.oracle().text != first


def test_the_last_step_is_said_again_when_it_did_not_end_the_task(world: AppWorldAdapter) -> None:
    world.reset(TASK)
    world.step("apis.supervisor.complete_task, keep = print, apis.supervisor.complete_task")
    said = []
    for _ in range(4):
        said.append(world.oracle().text)
        world.step(said[-1])
    assert said[2] == said[3] == "```python\napis.supervisor.complete_task()\n```"


@pytest.mark.parametrize("answer", ["", "```python\n```", "well, let me see"])
def test_what_is_no_code_is_a_refusal(world: AppWorldAdapter, answer: str) -> None:
    world.reset(TASK)
    outcome = world.step(answer)
    assert outcome.observation.startswith("Nothing happens: ")
    assert not outcome.done


def test_a_task_without_a_published_solution_has_no_oracle(world: AppWorldAdapter) -> None:
    for task in (
        Task("appworld:bell_1", "test_normal", "task"),
        Task("appworld:bare_1", "dev", ""),
    ):
        world.reset(task)
        with pytest.raises(BenchmarkError, match="use --teacher model"):
            world.oracle()


def test_what_the_package_writes_about_a_task_is_removed(
    world: AppWorldAdapter, root: Path
) -> None:
    world.reset(TASK)
    assert list((root / "experiments").glob("*/bell_1"))
    world.reset(Task("appworld:bell_2", "train", "task"))
    assert not list((root / "experiments").glob("*/bell_1"))
    world.close()
    assert not list((root / "experiments").glob("*/*"))
    with pytest.raises(BenchmarkError, match="call reset first"):
        world.oracle()


@pytest.mark.parametrize("id", ["appworld:none_1", "appworld:../tasks", "appworld:"])
def test_a_task_that_was_not_downloaded_is_refused(world: AppWorldAdapter, id: str) -> None:
    with pytest.raises(WorldMissing, match="pip install appworld && appworld install && appworld"):
        world.reset(Task(id, "train", "task"))


def test_a_split_that_was_not_downloaded_is_refused(world: AppWorldAdapter) -> None:
    with pytest.raises(WorldMissing, match="split 'dev' of appworld is not in"):
        world.tasks("dev")
    with pytest.raises(WorldMissing, match="unknown split 'exam' of appworld"):
        world.tasks("exam")


def test_missing_data_is_said_with_the_commands_that_bring_it(tmp_path: Path) -> None:
    with pytest.raises(WorldMissing, match="run `pip install appworld && appworld install"):
        find_root(None, {"APPWORLD_ROOT": str(tmp_path)})


def test_data_is_found_by_the_variable_of_the_package(root: Path) -> None:
    assert find_root(None, {"APPWORLD_ROOT": str(root)}) == root.resolve()


def test_a_missing_package_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="appworld is not installed"):
        AppWorldAdapter(root)


def test_a_package_without_its_apps_is_said(root: Path) -> None:
    shutil.rmtree(root.parent / "packages" / "appworld" / "apps")
    with pytest.raises(WorldMissing, match="installed only in part"):
        AppWorldAdapter(root)


def test_actions_are_code() -> None:
    manner = manner_of("appworld")
    assert manner == appworld_manner()
    assert (manner.canonical, manner.stop) == ("code", ())
    assert dict(manner.effects) == {"apis.*.show_*": "read", "apis.*.search_*": "read"}
