"""What both forms of the office share: a task is taken up, played and put away."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.benchmarks.environment import Opening, OracleAction, Task
from tutelage.benchmarks.office.oracle import Wording
from tutelage.benchmarks.office.play import Play
from tutelage.benchmarks.office.tasks import tasks
from tutelage.runtime.errors import BenchmarkError


class Seat:
    """Where one task at a time is played.

    Args:
        wording: How the oracle's steps and calls become the text of an action.
        by_call: Whether actions are tool calls.
    """

    name: str

    def __init__(self, wording: Wording, *, by_call: bool) -> None:
        self._wording = wording
        self._by_call = by_call
        self._play: Play | None = None

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of ``train``, ``dev`` or ``test``; ``test:20`` is the first 20.

        Raises:
            WorldMissing: There is no such split.
        """
        return tasks(split)

    def reset(self, task: Task) -> Opening:
        """Starts a task with a fresh office.

        Raises:
            WorldMissing: The task is not one of this world's.
        """
        self._put_away()
        self._play = Play(task, self._wording, by_call=self._by_call)
        return self._play.opening()

    def oracle(self) -> OracleAction:
        """The next step of the scripted solution, or what is missing after someone's detours.

        Raises:
            BenchmarkError: No task was reset.
        """
        return self.playing().ask()

    def playing(self) -> Play:
        """The task that is played.

        Raises:
            BenchmarkError: No task was reset.
        """
        if self._play is None:
            raise BenchmarkError(f"{self.name}: no task is being played, call reset first")
        return self._play

    def close(self) -> None:
        """Frees the databases."""
        self._put_away()

    def _put_away(self) -> None:
        if self._play is not None:
            self._play.close()
            self._play = None
