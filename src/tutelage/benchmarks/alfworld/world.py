"""The ALFWorld text games as an environment."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.benchmarks.alfworld.games import Games
from tutelage.benchmarks.environment import Opening, OracleAction, Outcome, Task
from tutelage.runtime.errors import BenchmarkError, MissingExtra

if TYPE_CHECKING:
    from tutelage.benchmarks.alfworld.oracle import Oracle
    from tutelage.benchmarks.alfworld.planner import Planner
    from tutelage.benchmarks.alfworld.simulator import Simulator

INSTRUCTIONS = """\
You play a text household game. Read the task and the last observation, then reply with one \
command only.
Commands: go to PLACE | open PLACE | close PLACE | take OBJECT from PLACE | move OBJECT to PLACE \
| clean OBJECT with PLACE | heat OBJECT with PLACE | cool OBJECT with PLACE | use LAMP \
| examine THING | look | inventory"""

GOAL_MARK = "Your task is to: "


class AlfworldWorld:
    """ALFWorld (Shridhar et al., ICLR 2021) on TextWorld's PDDL rules; one game at a time.

    The extra ``alfworld`` brings ``fast-downward-textworld``, which is licensed under the GPL-3.0:
    mind that before you redistribute an environment that holds it.

    Args:
        data: The folder above ``json_2.1.1``.

    Raises:
        MissingExtra: The extra ``alfworld`` is not installed.
    """

    name = "alfworld"
    instructions = INSTRUCTIONS

    def __init__(self, data: Path) -> None:
        _check_extra()
        self._games = Games(data)
        self._free: list[ctypes.CDLL] = []
        self._planner: Planner | None = None
        self._ready: tuple[Task, Simulator] | None = None
        self._playing: tuple[Task, Simulator] | None = None
        self._oracle: Oracle | None = None

    def tasks(self, split: str) -> Sequence[Task]:
        """Tasks of ``train``, ``valid_seen`` or ``valid_unseen``; ``"train:40"`` is the first 40.

        Raises:
            WorldMissing: The split is unknown or its files are not there.
        """
        return self._games.tasks(split)

    def prefetch(self, task: Task) -> None:
        """Loads a task beside the one that is played, so that its reset is quick.

        Raises:
            WorldMissing: The game file is not there.
        """
        at_hand = [held[0].id for held in (self._playing, self._ready) if held is not None]
        if task.id not in at_hand:
            file = self._games.file(task)
            if self._ready is not None:
                self._free.append(self._ready[1].library)
                self._ready = None
            self._ready = (task, self._load(file))

    def reset(self, task: Task) -> Opening:
        """Starts a task.

        Raises:
            WorldMissing: The game file is not there.
        """
        from tutelage.benchmarks.alfworld.oracle import make_oracle

        if self._playing is not None and self._playing[0].id == task.id:
            self._playing[1].restart()
        else:
            file = self._games.file(task)
            if self._playing is not None:
                self._free.append(self._playing[1].library)
                self._playing = self._oracle = None
            if self._ready is not None and self._ready[0].id == task.id:
                self._playing, self._ready = self._ready, None
            else:
                self._playing = (task, self._load(file))
        simulator = self._playing[1]
        self._oracle = make_oracle(self._games.file(task), simulator, seed=task.id)
        return _opening(simulator.intro)

    def step(self, action: str) -> Outcome:
        """Takes a command; case and spacing do not matter, and older ``put X in/on Y`` is a move.

        Raises:
            BenchmarkError: No task was reset.
        """
        simulator, oracle = self._started()
        command = _wording(action)
        observation = simulator.step(command)
        oracle.saw(command, observation)
        return Outcome(observation, done=simulator.won, success=simulator.won)

    def oracle(self) -> OracleAction:
        """The action to take now: the searching expert's, or, once that one is lost, the planner's.

        Raises:
            BenchmarkError: No task was reset, or the game is over.
        """
        return self._started()[1].ask()

    def _started(self) -> tuple[Simulator, Oracle]:
        if self._playing is None or self._oracle is None:
            raise BenchmarkError("no task was started: reset the world before the first step")
        return self._playing[1], self._oracle

    def _load(self, file: Path) -> Simulator:
        from tutelage.benchmarks.alfworld.planner import Planner, load_library
        from tutelage.benchmarks.alfworld.simulator import Simulator

        library = self._free.pop() if self._free else load_library()
        if self._planner is None:
            self._planner = Planner()
        try:
            return Simulator(file, library, self._planner)
        except (ValueError, KeyError) as error:
            raise BenchmarkError(
                f"game file {file} is damaged, unpack it again: {error}"
            ) from error


def _check_extra() -> None:
    try:
        import tutelage.benchmarks.alfworld.oracle  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra("alfworld", "alfworld") from error


def _opening(intro: str) -> Opening:
    room, _, goal = intro.partition(GOAL_MARK)
    banner, separator, rest = room.partition("=-")
    observation = rest if separator and banner.startswith("-=") else room
    return Opening(goal=goal.strip(), observation=observation.strip())


def _wording(action: str) -> str:
    words = action.lower().split()
    if words[:1] == ["put"]:
        for link in ("in/on", "on", "in", "into", "onto"):
            if link in words:
                words[0], words[words.index(link)] = "move", "to"
                break
    return " ".join(words)
