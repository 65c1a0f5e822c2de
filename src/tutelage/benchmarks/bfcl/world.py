"""BFCL's multi-turn conversations as an environment."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

from tutelage.benchmarks.bfcl.conversation import END, Conversation
from tutelage.benchmarks.bfcl.functions import READS, Functions
from tutelage.benchmarks.bfcl.items import Item, Items, package_data
from tutelage.benchmarks.environment import Opening, OracleAction, Outcome, Task
from tutelage.benchmarks.manner import Manner
from tutelage.runtime.errors import BenchmarkError

INSTRUCTIONS = f"""\
You do what a user asks for by calling functions. Each turn, reply with a call as JSON and nothing \
else: {{"tool_calls":[{{"name":"cd","arguments":"{{\\"folder\\": \\"documents\\"}}"}}]}}. You see \
what it gives back. When the request is done, or a function or a detail that it needs is missing, \
reply {END} The user then goes on to the next request. Do nothing that was not asked for."""


def bfcl_manner() -> Manner:
    """Actions are function calls in JSON, or words that end a turn."""
    return Manner("tools", max_tokens=200, stop=(), effects=dict.fromkeys(sorted(READS), "read"))


class BfclWorld:
    """Multi-turn function calling of BFCL (Patil et al., ICML 2025), judged by its own checker.

    Raises:
        MissingExtra: The package, or ``mpmath``, is not installed.
        WorldMissing: The package has no data.
    """

    name: str = "bfcl"
    instructions: str = INSTRUCTIONS
    _runs = itertools.count()

    def __init__(self) -> None:
        data = package_data()
        self._functions = Functions(data)
        self._items = Items(data, self._functions)
        self._play: Conversation | None = None

    def tasks(self, split: str) -> Sequence[Task]:
        """Tasks of ``train``, ``dev`` or ``test``; ``test:60`` is the first 60.

        Raises:
            WorldMissing: There is no such split.
        """
        return self._items.tasks(split)

    def item(self, task: Task) -> Item:
        """What the package has on a task.

        Raises:
            WorldMissing: The task is not one of this world's.
        """
        return self._items.item(task)

    def reset(self, task: Task) -> Opening:
        """Starts a conversation.

        Raises:
            WorldMissing: The task is not one of this world's.
        """
        item = self._items.item(task)
        self.close()
        run = f"tutelage_{os.getpid()}_{next(self._runs)}"
        self._play = Conversation(item, self._functions, run)
        return self._play.opening()

    def step(self, action: str) -> Outcome:
        """Makes the calls of an action; one without calls ends the turn.

        Raises:
            BenchmarkError: No task was reset.
        """
        return self._started().step(action)

    def oracle(self) -> OracleAction:
        """The next gold call of the turn, or the word that ends it.

        Raises:
            BenchmarkError: No task was reset.
        """
        return OracleAction(self._started().ask(), "planner")

    def close(self) -> None:
        """Frees the simulated systems."""
        if self._play is not None:
            self._play.close()
            self._play = None

    def _started(self) -> Conversation:
        if self._play is None:
            raise BenchmarkError("bfcl: no task is being played, call reset first")
        return self._play
