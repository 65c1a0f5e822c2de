from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

import pytest

from tutelage.benchmarks.bfcl.functions import READS, SYSTEMS, Functions
from tutelage.benchmarks.bfcl.items import CATEGORIES, Items, package_data
from tutelage.benchmarks.bfcl.world import BfclWorld
from tutelage.benchmarks.environment import Task
from tutelage.runtime.errors import MissingExtra, WorldMissing


def number(task: Task) -> str:
    return task.id.rpartition("_")[2]


@pytest.fixture
def items(world: BfclWorld) -> Items:
    return Items(package_data(), Functions(package_data()))


def test_a_scenario_with_its_four_items_is_in_one_split(items: Items) -> None:
    splits = {name: items.tasks(name) for name in ("train", "dev", "test")}
    assert {name: len(tasks) for name, tasks in splits.items()} == {
        "train": 400,
        "dev": 80,
        "test": 320,
    }
    numbers = [{number(task) for task in tasks} for tasks in splits.values()]
    assert sum(map(len, numbers)) == len(set().union(*numbers)) == 200


def test_categories_take_turns(items: Items) -> None:
    tasks = items.tasks("test:5")
    assert [task.category for task in tasks] == [*CATEGORIES, CATEGORIES[0]]
    assert number(tasks[0]) == number(tasks[3]) != number(tasks[4])


@pytest.mark.parametrize("id", ["multi_turn_base_999", "simple_python_3", "", "multi_turn_base"])
def test_a_task_of_another_world_is_refused(items: Items, id: str) -> None:
    with pytest.raises(WorldMissing, match="is none of bfcl's"):
        items.item(Task(id, "test", "base"))


def test_a_function_that_a_gold_call_needs_is_not_withheld(items: Items) -> None:
    for task in (*items.tasks("train"), *items.tasks("dev"), *items.tasks("test")):
        item = items.item(task)
        for turn, names in item.withheld.items():
            called = {call.name for made in item.gold[:turn] for call in made}
            assert not called & set(names), task.id


def test_functions_that_read_are_documented_ones(items: Items) -> None:
    assert set(Functions(package_data()).names(tuple(SYSTEMS))) > READS


@pytest.mark.parametrize("absent", ["bfcl_eval", "mpmath"])
def test_a_missing_package_is_named_with_the_commands_that_bring_it(
    monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    present = importlib.machinery.ModuleSpec("present", None, is_package=True)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == absent else present
    )
    with pytest.raises(MissingExtra) as caught:
        package_data()
    assert str(caught.value) == (
        f"{absent} is not installed: pip install --no-deps bfcl-eval && pip install mpmath"
    )


def test_a_package_without_data_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty = importlib.machinery.ModuleSpec("bfcl_eval", None, is_package=True)
    empty.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: empty)
    with pytest.raises(WorldMissing, match="has no multi-turn data"):
        package_data()
