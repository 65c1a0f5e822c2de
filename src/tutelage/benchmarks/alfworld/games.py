"""Games of an ALFWorld data folder as tasks."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from tutelage.benchmarks.alfworld.unpack import RELEASE, SPLITS
from tutelage.benchmarks.environment import Task
from tutelage.runtime.errors import WorldMissing

REFUSAL = "Nothing happens."
"""What the world answers to a command that is not possible."""

TASK_TYPES = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)

REMEDY = "run `make alfworld` or `alfworld-download`, or name the folder with --data"


def find_data(given: Path | None, environment: Mapping[str, str], cache: Path) -> Path:
    """The folder above ``json_2.1.1``: the given one, else ``ALFWORLD_DATA``, else the cache.

    Raises:
        WorldMissing: It holds no games.
    """
    named = given or (Path(found) if (found := environment.get("ALFWORLD_DATA")) else None)
    data = (named or cache / "alfworld").expanduser()
    if not (data / RELEASE).is_dir():
        raise WorldMissing(f"no ALFWorld games in {data} (no folder {RELEASE}): {REMEDY}")
    return data


class Games:
    """The games of a data folder.

    Args:
        data: The folder above ``json_2.1.1``.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._listed: dict[str, tuple[Task, ...]] = {}

    def tasks(self, split: str) -> Sequence[Task]:
        """Tasks of a split; ``"valid_unseen:40"`` is its first 40.

        Task types take turns, so that the first 12 tasks are 2 of each of the 6 types; within a
        type the order is that of a hash of the id, so that neighbours differ in objects and rooms.

        Raises:
            WorldMissing: The split is unknown or its folder is not there.
        """
        name, separator, count = split.partition(":")
        if name not in SPLITS:
            raise WorldMissing(
                f"unknown split {name!r} of alfworld: use one of {', '.join(SPLITS)}"
            )
        if separator and not (count.isdecimal() and int(count)):
            raise WorldMissing(f"split {split!r} of alfworld: write it like '{name}:40'")
        if name not in self._listed:
            self._listed[name] = self._list(name)
        tasks = self._listed[name]
        return tasks[: int(count)] if separator else tasks

    def file(self, task: Task) -> Path:
        """The game file of a task.

        Raises:
            WorldMissing: It is not there.
        """
        game = self._data / RELEASE / task.id / "game.tw-pddl"
        if task.id.count("/") != 2 or ".." in task.id or not game.is_file():
            raise WorldMissing(f"game {task.id!r} is not in {self._data / RELEASE}: {REMEDY}")
        return game

    def _list(self, split: str) -> tuple[Task, ...]:
        folder = self._data / RELEASE / split
        if not folder.is_dir():
            raise WorldMissing(f"split {split!r} of alfworld is not in {folder.parent}: {REMEDY}")
        by_type: dict[str, list[Task]] = defaultdict(list)
        for game in folder.glob("*/*/game.tw-pddl"):
            trial = game.parent
            kind = trial.parent.name.partition("-")[0]
            if kind in TASK_TYPES and _is_playable(game):
                by_type[kind].append(Task(f"{split}/{trial.parent.name}/{trial.name}", split, kind))
        return tuple(_in_turn(sorted(by_type[kind], key=_rank) for kind in TASK_TYPES))


def _is_playable(game: Path) -> bool:
    """Whether ALFWorld's own loader would list the game (it leaves these out, too)."""
    place = str(game.parent.parent.name)
    if "movable" in place or "Sliced" in place or not (game.parent / "traj_data.json").is_file():
        return False
    # The flag follows the long problem text; only the walkthrough comes after it.
    with game.open("rb") as stream:
        stream.seek(max(0, game.stat().st_size - 4096))
        return b'"solvable": false' not in stream.read()


def _rank(task: Task) -> bytes:
    return hashlib.sha256(task.id.encode()).digest()


def _in_turn(rows: Iterable[Sequence[Task]]) -> Iterable[Task]:
    for column in zip_longest(*rows):
        yield from (task for task in column if task is not None)
