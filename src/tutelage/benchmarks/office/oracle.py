"""A scripted agent that reads the documentation, logs in, acts and completes the task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tutelage.benchmarks.environment import OracleAction
from tutelage.benchmarks.office.changes import Change
from tutelage.benchmarks.office.plan import PlannedCall, PlannedStep, names_set

Calls = Sequence[tuple[str, str, dict[str, object]]]

_MOST_FAILURES = 4
"""After so many failing steps in a row the script itself is taken to be what fails."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How the oracle says what it does."""

    step: Callable[[PlannedStep], str]
    call: Callable[[PlannedCall], str]


class OfficeOracle:
    """Follows the task's solution, and finds its way back after someone else has acted.

    While others only look or fail, it goes on with its script; variables that they break are set
    again. Once they have changed the office it still reads what the script reads, but makes only
    the calls that are missing, one a step (``planner``). Damage is not undone.

    Args:
        steps: The solution.
        wording: Says steps and calls.
        changed: What differs from the start of the task now.
        logged_in: The apps that are logged in to now.
    """

    def __init__(
        self,
        steps: Sequence[PlannedStep],
        wording: Wording,
        changed: Callable[[], list[Change]],
        logged_in: Callable[[], set[str]],
    ) -> None:
        self._steps = steps
        self._wording = wording
        self._changed = changed
        self._logged_in = logged_in
        self._next = 0
        self._failures = 0
        self._lost = False
        self._dropped: set[int] = set()
        self._asked: PlannedCall | None = None
        self._calls = [call for step in steps for call in step.calls]

    def ask(self) -> OracleAction:
        """The action to take now."""
        if not self._lost:
            return OracleAction(self._wording.step(self._steps[self._next]), "expert")
        found = self._changed()
        while self._next < len(self._steps) - 1:
            step = self._steps[self._next]
            if not _writes(step):
                return OracleAction(self._wording.step(step), "expert")
            self._asked = self._missing(step, found)
            if self._asked is not None:
                return OracleAction(self._wording.call(self._asked), "planner")
            self._next += 1
        return OracleAction(self._wording.call(self._calls[-1]), "planner")

    def observe(self, code: str, calls: Calls, *, failed: bool, wrote: bool) -> None:
        """Takes note of a step, its own or another agent's.

        Args:
            code: What was run; empty for tool calls.
            calls: The calls that were answered.
            failed: Whether it ended in an error.
            wrote: Whether it changed the office.
        """
        step = self._steps[self._next]
        names = names_set(code)
        as_planned = (
            not failed
            and list(calls) == [call.key for call in step.calls]
            and (not code or step.names <= names)
        )
        if as_planned:
            self._advance()
        elif self._lost:
            self._note_failure(step, failed=failed, calls=calls)
        else:
            self._failures += failed
            known = {name for one in self._steps[: self._next] for name in one.names}
            self._lost = wrote or self._failures >= _MOST_FAILURES
            if not self._lost and names & known:
                self._rewind()

    def forget(self) -> None:
        """Takes note that all variables are gone."""
        if not self._lost:
            self._rewind()

    def _advance(self) -> None:
        self._next = min(self._next + 1, len(self._steps) - 1)
        self._failures = 0

    def _note_failure(self, step: PlannedStep, *, failed: bool, calls: Calls) -> None:
        if failed and not _writes(step):
            # What is missing is known without it.
            self._advance()
        elif failed and not calls and self._asked is not None:
            # It cannot be done any more: go on with the rest.
            self._dropped.add(id(self._asked))

    def _rewind(self) -> None:
        """Goes back to where the first variables are set, unless the office was changed since."""
        if any(_writes(step) for step in self._steps[: self._next]):
            self._lost = True
            return
        first = next((at for at, step in enumerate(self._steps) if step.names), 0)
        self._next = min(first, self._next)

    def _missing(self, step: PlannedStep, found: Sequence[Change]) -> PlannedCall | None:
        """The first call of a step whose changes are not there, or a login that it needs."""
        for call in step.calls:
            if not call.changes or id(call) in self._dropped or self._is_done(call, found):
                continue
            if "access_token" in call.arguments and call.app not in self._logged_in():
                return next(one for one in self._calls if (one.app, one.api) == (call.app, "login"))
            return call
        return None

    def _is_done(self, call: PlannedCall, found: Sequence[Change]) -> bool:
        """Whether the changes of a call are there, or later ones of the same rows."""
        rows = {(one.table, one.key) for one in call.changes}
        start = next(at for at, one in enumerate(self._calls) if one is call)
        return any(
            rows & {(one.table, one.key) for one in later.changes} and _is_there(later, found)
            for later in self._calls[start:]
        )


def _writes(step: PlannedStep) -> bool:
    return any(call.changes for call in step.calls)


def _is_there(call: PlannedCall, found: Sequence[Change]) -> bool:
    return all(any(change.same_as(other) for other in found) for change in call.changes)
