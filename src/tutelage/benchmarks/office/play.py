"""What both forms of the office share: the game in hand, its calls, and its end."""

from __future__ import annotations

from tutelage.benchmarks.environment import Opening, OracleAction, Outcome, Task
from tutelage.benchmarks.office.catalogue import office_apis
from tutelage.benchmarks.office.changes import changes
from tutelage.benchmarks.office.desk import Desk
from tutelage.benchmarks.office.oracle import OfficeOracle, Wording
from tutelage.benchmarks.office.plan import PlannedStep, planned
from tutelage.benchmarks.office.registry import Caller
from tutelage.benchmarks.office.solution import blocks_of
from tutelage.benchmarks.office.tasks import Game, Verdict, game
from tutelage.runtime.errors import BenchmarkError

NOTHING = "Nothing happens"
"""What an observation begins with when an action was refused as a whole."""
DONE = "The task is completed."


class Play:
    """One task as it is played.

    Args:
        task: Which one.
        wording: How its oracle speaks.
        by_call: Whether a step is one call; else a block of code.

    Raises:
        WorldMissing: The task is not one of this world's.
    """

    def __init__(self, task: Task, wording: Wording, *, by_call: bool) -> None:
        self.game: Game = game(task.id)
        self.caller = Caller(office_apis(), self.game.desk)
        self._start: Desk | None = self.game.desk.fork()
        self._wording = wording
        self._by_call = by_call
        self._oracle: OfficeOracle | None = None
        self._verdict: Verdict | None = None

    def opening(self) -> Opening:
        """What the agent is told first."""
        profile = self.game.desk.profile
        name = f"{profile['first_name']} {profile['last_name']}"
        return Opening(self.game.assignment.goal, f"You work for {name} ({profile['email']}).")

    @property
    def verdict(self) -> Verdict | None:
        """How the task ended; ``None`` while it is played."""
        return self._verdict

    def ended(self) -> Outcome:
        """What a step says after the end.

        Raises:
            BenchmarkError: The task is not over.
        """
        if self._verdict is None:
            raise BenchmarkError("office: the task is not over")
        return Outcome(f"{NOTHING}: the task is over.", done=True, success=self._verdict.success)

    def stepped(self, observation: str, *, code: str, failed: bool, writes_before: int) -> Outcome:
        """Closes a step: tells the oracle, and judges the task once it is completed."""
        wrote = writes_before != self.writes()
        self.oracle().observe(code, self.caller.calls, failed=failed, wrote=wrote)
        if not self.game.desk.completed:
            return Outcome(observation, done=False, success=False)
        if self._verdict is None:
            self._verdict = self.game.judge()
        return Outcome(f"{observation}\n{DONE}".strip(), done=True, success=self._verdict.success)

    def writes(self) -> int:
        """How many rows were written so far."""
        return self.game.desk.connection.total_changes

    def ask(self) -> OracleAction:
        """The action to take now."""
        return self.oracle().ask()

    def oracle(self) -> OfficeOracle:
        """Who knows the solution; made when it is first needed."""
        if self._oracle is None:
            assert self._start is not None
            steps = self._plan(self._start)
            self._start.close()
            self._start = None
            desk = self.game.desk
            self._oracle = OfficeOracle(
                steps,
                self._wording,
                lambda: changes(self.game.before, desk.connection),
                lambda: desk.logged_in,
            )
        return self._oracle

    def close(self) -> None:
        """Frees the databases."""
        self.game.desk.close()
        if self._start is not None:
            self._start.close()
            self._start = None

    def _plan(self, desk: Desk) -> list[PlannedStep]:
        assignment = self.game.assignment
        blocks = blocks_of(
            self.game.scenario.solution,
            assignment.values,
            answers=assignment.answer is not None,
        )
        steps = planned(blocks, desk, office_apis())
        if not self._by_call:
            return steps
        # Tools come with their documentation: nobody has to read it.
        return [
            PlannedStep(step.block, (call,), frozenset())
            for step in steps
            for call in step.calls
            if call.app != "api_docs"
        ]
