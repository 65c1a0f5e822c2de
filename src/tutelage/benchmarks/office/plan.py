"""What a solution does, call by call, found by running it on a copy of the office."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.benchmarks.office.changes import Change, State, changes, state_of
from tutelage.benchmarks.office.desk import Desk
from tutelage.benchmarks.office.registry import Caller, Registry
from tutelage.benchmarks.office.shell.child import Session
from tutelage.benchmarks.office.solution import Block
from tutelage.runtime.errors import BenchmarkError

_LOOP = (ast.For, ast.comprehension)


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One call of an API in a solution."""

    app: str
    api: str
    arguments: dict[str, object]
    changes: tuple[Change, ...]
    """What it changes."""

    @property
    def key(self) -> tuple[str, str, dict[str, object]]:
        """The call as a ``Caller`` remembers it."""
        return (self.app, self.api, self.arguments)


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A block of a solution, and what it does."""

    block: Block
    calls: tuple[PlannedCall, ...]
    names: frozenset[str]
    """Variables that it sets."""


def planned(blocks: Sequence[Block], desk: Desk, registry: Registry) -> list[PlannedStep]:
    """Runs a solution of ours on a desk that nobody else uses.

    Raises:
        BenchmarkError: The solution fails.
    """
    caller = _Recorder(registry, desk)
    apps = {app: list(apis) for app, apis in registry.apis.items()}
    session = Session(caller.call, apps)
    steps: list[PlannedStep] = []
    for block in blocks:
        caller.made = []
        output, failure = session.run(block.code)
        if failure:
            raise BenchmarkError(f"office: a solution of task {desk.seed} fails: {output.strip()}")
        steps.append(PlannedStep(block, tuple(caller.made), names_set(block.code)))
    return steps


def names_set(code: str) -> frozenset[str]:
    """The variables that code sets, those of loops left out; empty where it is no Python."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    set_here = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    looped = {
        part.id
        for node in ast.walk(tree)
        if isinstance(node, _LOOP)
        for part in ast.walk(node.target)
        if isinstance(part, ast.Name)
    }
    return frozenset(set_here - looped)


class _Recorder(Caller):
    """A caller that also remembers what each call changed."""

    def __init__(self, registry: Registry, desk: Desk) -> None:
        super().__init__(registry, desk)
        self.made: list[PlannedCall] = []
        self._state: State = state_of(desk.connection)

    def call(self, app: str, name: str, positional: object, named: object) -> object:
        answer = super().call(app, name, positional, named)  # type: ignore[arg-type]
        changed: list[Change] = []
        if self.registry.find(app, name).effect == "write":
            changed = changes(self._state, self.desk.connection)
            if changed:
                self._state = state_of(self.desk.connection)
        self.made.append(PlannedCall(app, name, self.calls[-1][2], tuple(changed)))
        return answer
