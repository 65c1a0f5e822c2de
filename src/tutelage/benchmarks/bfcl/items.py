"""The multi-turn items of the installed package as tasks."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.benchmarks.bfcl.calls import Call, read_python
from tutelage.benchmarks.bfcl.functions import Functions
from tutelage.benchmarks.environment import Task
from tutelage.benchmarks.splits import read_split
from tutelage.runtime.errors import MissingExtra, WorldMissing

CATEGORIES = ("base", "miss_func", "miss_param", "long_context")
NUMBERS = 200
"""Scenarios; each has an item in every category."""
SIZES = {"train": 100, "dev": 20, "test": 80}
"""Scenarios of a split; all four items of one stay together."""
INSTALL = "pip install --no-deps bfcl-eval && pip install mpmath"
PREFIX = "multi_turn_"


@dataclass(frozen=True, slots=True)
class Item:
    """One conversation."""

    id: str
    requests: tuple[str, ...]
    """What the user says, one text a turn; empty where functions come in its place."""
    gold: tuple[tuple[Call, ...], ...]
    """Calls that each turn asks for."""
    withheld: Mapping[int, tuple[str, ...]]
    """Functions that are offered only from a turn on."""
    entry: Mapping[str, Any]
    """As the checker wants it."""
    truth: Sequence[Sequence[str]]
    """The gold calls as the checker wants them."""


def package_data() -> Path:
    """The folder ``data`` of ``bfcl_eval``; nothing of the package is imported.

    Raises:
        MissingExtra: The package, or ``mpmath``, is not installed.
        WorldMissing: The package has no data.
    """
    found = importlib.util.find_spec("bfcl_eval")
    for package, spec in (("bfcl_eval", found), ("mpmath", importlib.util.find_spec("mpmath"))):
        if spec is None:
            # Its own dependencies fix old releases of numpy and pull in torch: none is needed.
            raise MissingExtra(package, "bfcl", INSTALL)
    assert found is not None
    data = Path(next(iter(found.submodule_search_locations or ("",)))) / "data"
    if not (data / "multi_turn_func_doc").is_dir():
        raise WorldMissing(f"bfcl_eval has no multi-turn data in {data}: {INSTALL}")
    return data


class Items:
    """The 800 multi-turn items.

    Args:
        data: The package's folder ``data``.
        functions: What its functions take.
    """

    def __init__(self, data: Path, functions: Functions) -> None:
        self._data = data
        self._functions = functions
        self._read: dict[str, dict[str, Item]] = {}

    def tasks(self, split: str) -> Sequence[Task]:
        """Tasks of ``train``, ``dev`` or ``test``; categories take turns.

        Raises:
            WorldMissing: There is no such split.
        """
        wanted = read_split(split, SIZES, "bfcl")
        tasks = [
            Task(f"{PREFIX}{category}_{number}", wanted.name, category)
            for number in _numbers(wanted.name)
            for category in CATEGORIES
        ]
        return tasks[: wanted.count]

    def item(self, task: Task) -> Item:
        """The item of a task.

        Raises:
            WorldMissing: The task is not one of this world's.
        """
        category = task.id.removeprefix(PREFIX).rpartition("_")[0]
        if category not in CATEGORIES:
            raise WorldMissing(f"task {task.id!r} is none of bfcl's")
        if category not in self._read:
            self._read[category] = {item.id: item for item in self._items(category)}
        try:
            return self._read[category][task.id]
        except KeyError as error:
            raise WorldMissing(f"task {task.id!r} is none of bfcl's") from error

    def _items(self, category: str) -> list[Item]:
        name = f"BFCL_v4_{PREFIX}{category}.json"
        entries = _lines(self._data / name)
        answers = {
            one["id"]: one["ground_truth"] for one in _lines(self._data / "possible_answer" / name)
        }
        return [self._item(entry, answers[entry["id"]]) for entry in entries]

    def _item(self, entry: Mapping[str, Any], truth: Sequence[Sequence[str]]) -> Item:
        parameters = self._functions.parameters(entry["involved_classes"])
        gold = tuple(tuple(read_python(call, parameters) for call in turn) for turn in truth)
        return Item(
            id=entry["id"],
            requests=tuple(
                "\n".join(message["content"] for message in turn) for turn in entry["question"]
            ),
            gold=gold,
            withheld={
                int(turn): _unused(names, gold[: int(turn)])
                for turn, names in entry.get("missed_function", {}).items()
            },
            entry=entry,
            truth=truth,
        )


def _unused(names: Sequence[str], turns: Sequence[Sequence[Call]]) -> tuple[str, ...]:
    """Names without those that gold calls need earlier; one item of the package has such."""
    needed = {call.name for turn in turns for call in turn}
    return tuple(name for name in names if name not in needed)


def _numbers(split: str) -> Sequence[int]:
    """Scenarios of a split, in the order of a hash, so that neighbours differ in system."""
    ranked = sorted(range(NUMBERS), key=lambda n: hashlib.sha256(f"bfcl/{n}".encode()).digest())
    before = tuple(SIZES)[: tuple(SIZES).index(split)]
    start = sum(SIZES[name] for name in before)
    return ranked[start : start + SIZES[split]]


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]
