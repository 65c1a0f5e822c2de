"""The Java simulator of ScienceWorld, with only what a world needs of it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tutelage.runtime.errors import BenchmarkError, MissingExtra, WorldMissing

SIMPLIFICATION = "easy"
"""Doors and containers open, teleporting allowed, plants water themselves, no wiring of plugs."""
# The replay bounds steps; the simulator's own limit must not end a game before that.
STEP_LIMIT = 1_000_000
_ROOM = re.compile(r"\bcalled the ([\w ]+?)\.")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the simulator says to an action."""

    observation: str
    score: float
    """Share of the task in [-1, 1]; negative: failed for good."""
    completed: bool


class Simulator(Protocol):
    """One Java process that plays one game at a time."""

    def variations(self, kind: str, split: str) -> Sequence[int]:
        """Numbers of the variations of a task in ``train``, ``dev`` or ``test``."""
        ...

    def start(self, kind: str, variation: int) -> tuple[str, str, Sequence[str]]:
        """Loads a game: its goal, the first observation, and the gold actions."""
        ...

    def act(self, action: str) -> Reply:
        """Takes an action."""
        ...

    def room(self) -> str | None:
        """Where the agent is now; costs no time in the game."""
        ...

    def valid_actions(self) -> Sequence[str]:
        """Every possible action; more than a thousand, and slow to make."""
        ...

    def close(self) -> None:
        """Ends the Java process."""
        ...


class JavaSimulator:
    """ScienceWorld's simulator; one Java process for all games of its life.

    The list of valid actions is no part of any observation; the oracle looks into it where a gold
    action has become impossible.

    Raises:
        MissingExtra: The package is not installed.
        WorldMissing: There is no Java.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        try:
            from scienceworld import ScienceWorldEnv
        except ModuleNotFoundError as error:
            raise MissingExtra("scienceworld", "scienceworld") from error
        if shutil.which("java", path=environ.get("PATH", "")) is None:
            raise WorldMissing(
                "scienceworld needs Java 17 and finds no `java` in PATH: install a JRE, "
                "e.g. apt-get install openjdk-17-jre-headless"
            )
        self._env: Any = ScienceWorldEnv(envStepLimit=STEP_LIMIT)

    def variations(self, kind: str, split: str) -> Sequence[int]:
        """Numbers of the variations of a task in ``train``, ``dev`` or ``test``."""
        self._env.load(kind, 0, SIMPLIFICATION)
        listing = {
            "train": self._env.get_variations_train,
            "dev": self._env.get_variations_dev,
            "test": self._env.get_variations_test,
        }
        return tuple(listing[split]())

    def start(self, kind: str, variation: int) -> tuple[str, str, Sequence[str]]:
        """Loads a game: its goal, the first observation, and the gold actions.

        Raises:
            BenchmarkError: The simulator found no gold actions.
        """
        self._env.load(kind, variation, SIMPLIFICATION, generateGoldPath=True)
        gold = tuple(self._env.get_gold_action_sequence())
        if not gold or gold[0].startswith("ERROR"):
            raise BenchmarkError(f"scienceworld: no gold actions for {kind}/{variation}")
        self._env.server.reset()
        opening = self._env.server.step("look around")
        return str(self._env.get_task_description()), str(opening), gold

    def act(self, action: str) -> Reply:
        """Takes an action."""
        server = self._env.server
        return Reply(
            str(server.step(action)), float(server.getScore()), bool(server.getCompleted())
        )

    def room(self) -> str | None:
        """Where the agent is now; costs no time in the game."""
        found = _ROOM.search(str(self._env.look()))
        return found[1] if found else None

    def valid_actions(self) -> Sequence[str]:
        """Every possible action; more than a thousand, and slow to make."""
        return tuple(self._env.get_valid_action_object_combinations())

    def close(self) -> None:
        """Ends the Java process."""
        self._env.close()
