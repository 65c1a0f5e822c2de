"""The household as a benchmark world."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.benchmarks.environment import Opening, OracleAction, Outcome, Task
from tutelage.benchmarks.household.grammar import REFUSAL
from tutelage.benchmarks.household.oracle import HouseholdOracle
from tutelage.benchmarks.household.rules import State, achieved, act
from tutelage.benchmarks.household.tasks import Game, game, tasks
from tutelage.runtime.errors import BenchmarkError

INSTRUCTIONS = """\
You play a text household game. Read the task and the last observation, then reply with one \
command only, without any explanation. Commands:
go to PLACE
open PLACE
close PLACE
take THING from PLACE
move THING to PLACE
clean THING with SINKBASIN
heat THING with MICROWAVE
cool THING with FRIDGE
use DESKLAMP
examine PLACE or THING
look
inventory
Places and things have numbers, as in: take mug 1 from desk 2. You can carry one thing at a time."""


class HouseholdWorld:
    """Plays household tasks; see `tutelage.benchmarks.environment.Environment`."""

    name: str = "household"
    instructions: str = INSTRUCTIONS

    def __init__(self) -> None:
        self._game: Game | None = None
        self._state = State({})
        self._oracle: HouseholdOracle | None = None

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of ``train`` or ``test``; ``train:500`` asks for 500 of them.

        Raises:
            WorldMissing: There is no such split.
        """
        return tasks(split)

    def reset(self, task: Task) -> Opening:
        """Starts a task in the middle of its room.

        Raises:
            WorldMissing: The task is not one of this world's.
        """
        self._game = game(task.id)
        self._state = State(self._game.room.contents)
        _, observation = act(self._state, "look")
        self._oracle = HouseholdOracle(self._game.wording, observation)
        return Opening(self._game.wording, observation)

    def step(self, action: str) -> Outcome:
        """Takes an action; once the goal is reached, nothing happens any more.

        Raises:
            BenchmarkError: No task was reset.
        """
        playing, oracle = self._started()
        if achieved(playing.goal, self._state):
            return Outcome(REFUSAL, done=True, success=True)
        self._state, observation = act(self._state, action)
        oracle.observe(action, observation)
        success = achieved(playing.goal, self._state)
        return Outcome(observation, done=success, success=success)

    def oracle(self) -> OracleAction:
        """The next action of a searcher that knows only what was observed in this episode.

        Raises:
            BenchmarkError: No task was reset.
        """
        _, oracle = self._started()
        return OracleAction(oracle.next(), "expert")

    def _started(self) -> tuple[Game, HouseholdOracle]:
        if self._game is None or self._oracle is None:
            raise BenchmarkError("household: no task is being played, call reset first")
        return self._game, self._oracle
