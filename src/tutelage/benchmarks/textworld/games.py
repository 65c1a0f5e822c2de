"""Games by seed, made with TextWorld's own generator and kept in the cache."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

from tutelage.benchmarks.environment import Task
from tutelage.benchmarks.splits import read_split
from tutelage.runtime.cache_dir import build_lock
from tutelage.runtime.errors import BenchmarkError, MissingExtra, WorldMissing

KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cooking": (
            *("tw-cooking", "--recipe", "2", "--take", "2", "--go", "6"),
            *("--open", "--cook", "--cut"),
        ),
        "custom": (
            *("custom", "--world-size", "4", "--nb-objects", "8", "--quest-length", "4"),
            "--only-last-action",
        ),
        "coin": ("tw-coin_collector", "--level", "5"),
    }
)
"""Kinds of games and what ``tw-make`` is told of them."""

SIZES: Mapping[str, int] = MappingProxyType({"train": 300, "dev": 60, "test": 120})
"""Tasks of a split; ``train:900`` makes more of them."""

_SEEDS: Mapping[str, int] = MappingProxyType({"train": 0, "dev": 1_000_000, "test": 2_000_000})
# Dishes of one of these are made of food or in ways that the others do not have.
_COOKING_SPLITS: Mapping[str, str] = MappingProxyType(
    {"train": "train", "dev": "valid", "test": "test"}
)
LIMIT_S = 300.0
"""A game takes a few seconds to make; what takes longer hangs."""


def textworld_version() -> str:
    """The installed release; another one makes other games of the same seeds.

    Raises:
        MissingExtra: TextWorld is not installed.
    """
    try:
        return version("textworld")
    except PackageNotFoundError as error:
        raise MissingExtra("textworld", "textworld") from error


class SeededGames:
    """Makes and finds game files.

    Args:
        folder: Where they are kept; made when the first game is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / textworld_version()

    def tasks(self, split: str) -> Sequence[Task]:
        """Tasks of ``train``, ``dev`` or ``test``; kinds take turns. No game is made yet.

        Raises:
            WorldMissing: There is no such split.
        """
        wanted = read_split(split, SIZES, "textworld")
        count = SIZES[wanted.name] if wanted.count is None else wanted.count
        if count > _SEEDS["dev"]:
            raise WorldMissing(f"split {split!r} of textworld: at most {_SEEDS['dev']} games")
        kinds = tuple(KINDS)
        return [
            Task(f"{kind}/{wanted.name}/{number // len(kinds)}", wanted.name, kind)
            for number in range(count)
            for kind in (kinds[number % len(kinds)],)
        ]

    def file(self, task: Task) -> Path:
        """The game of a task; made if it is not there, which takes a few seconds.

        Raises:
            WorldMissing: The task is not one of this world's.
            BenchmarkError: The game cannot be made.
        """
        kind, _, rest = task.id.partition("/")
        split, _, number = rest.partition("/")
        if kind not in KINDS or split not in _SEEDS or not number.isdecimal():
            raise WorldMissing(f"task {task.id!r} is none of textworld's")
        seed = _SEEDS[split] + int(number)
        game = self._folder / f"{kind}-{seed}.z8"
        if not game.is_file():
            with build_lock(self._folder / f"{kind}-{seed}.lock"):
                if not game.is_file():
                    self._make(game, _arguments(kind, split, seed))
        return game

    def _make(self, game: Path, arguments: Sequence[str]) -> None:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            made = Path(folder) / game.name
            command = [str(_maker()), *arguments, "--output", str(made), "--silent"]
            try:
                ran = subprocess.run(
                    command, capture_output=True, text=True, errors="replace", timeout=LIMIT_S
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise BenchmarkError(f"textworld: {' '.join(command)} failed: {error}") from error
            if ran.returncode or not made.is_file():
                words = (ran.stderr or ran.stdout).strip().splitlines()[-1:]
                raise BenchmarkError(
                    f"textworld: {' '.join(command)} ended with exit code {ran.returncode}"
                    f"{''.join(f': {word}' for word in words)}"
                )
            # The game file comes last: where it is, its description is, too.
            made.with_suffix(".json").replace(game.with_suffix(".json"))
            made.replace(game)


def _arguments(kind: str, split: str, seed: int) -> list[str]:
    arguments = [*KINDS[kind], "--seed", str(seed)]
    if kind == "cooking":
        arguments += ["--recipe-seed", str(seed), "--split", _COOKING_SPLITS[split]]
    return arguments


def _maker() -> Path:
    """TextWorld's generator, beside the Python that has TextWorld."""
    return Path(sys.executable).with_name("tw-make")
