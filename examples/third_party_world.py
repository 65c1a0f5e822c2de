"""TextWorld's treasure hunts as ``third_party_world:Hunt``; needs `pip install textworld`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import textworld

from tutelage.benchmarks.environment import Opening, OracleAction, Outcome, Task
from tutelage.benchmarks.manner import Manner
from tutelage.runtime.cache_dir import cache_dir
from tutelage.runtime.errors import WorldMissing

SEEDS = {"train": range(100), "test": range(1000, 1050)}


class Hunt:
    """Find the one thing that the game asks for."""

    name = "hunt"
    instructions = "You play a text game. Reply with one command, e.g. go north or take coin."
    manner = Manner("text", effects={"look": "read", "inventory": "read", "examine *": "read"})

    def __init__(self, data: Path | None = None) -> None:
        self._folder = data or cache_dir() / "hunt"
        self._game: Any = None

    def tasks(self, split: str) -> Sequence[Task]:
        """One task a seed; ``test:4`` is the first four of ``test``."""
        name, _, count = split.partition(":")
        if name not in SEEDS:
            raise WorldMissing(f"unknown split {name!r} of hunt: use train or test")
        tasks = [Task(f"hunt/{seed}", name, "hunt") for seed in SEEDS[name]]
        return tasks[: int(count)] if count else tasks

    def reset(self, task: Task) -> Opening:
        """Makes the game once, and starts it."""
        file = self._folder / f"{task.id.removeprefix('hunt/')}.z8"
        if not file.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            made = f"tw-treasure_hunter --level 3 --seed {file.stem} --silent --output"
            maker = str(Path(sys.executable).with_name("tw-make"))
            subprocess.run([maker, *made.split(), str(file)], check=True)
        wanted = dict.fromkeys(("objective", "description", "policy_commands", "won"), True)
        self._game = textworld.start(str(file), textworld.EnvInfos(**wanted))
        self._state = self._game.reset()
        return Opening(self._state.objective, self._state.description)

    def step(self, action: str) -> Outcome:
        """Takes a command."""
        self._state, _, done = self._game.step(action)
        return Outcome(self._state.feedback.strip(), bool(done), bool(self._state.won))

    def oracle(self) -> OracleAction:
        """The first command of a policy that wins from here."""
        return OracleAction((self._state.policy_commands or ["look"])[0], "planner")
