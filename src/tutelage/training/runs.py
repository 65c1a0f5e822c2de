"""Runs of the flywheel in the database: which stage is done, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import Connection, Engine, insert, select, update

from tutelage.runtime.errors import TrainingError
from tutelage.runtime.store.schema import flywheel_runs, flywheel_stages, locks
from tutelage.runtime.store.transactions import Transactions

RunState = Literal["running", "finished", "failed"]


@dataclass(frozen=True, slots=True)
class StageRecord:
    """One stage of a run."""

    stage: str
    state: Literal["begun", "done"]
    attempts: int
    """How often it was begun."""
    started_at_s: float
    ended_at_s: float | None
    error: str
    """Why the last attempt failed; empty if it did not, or was killed."""
    result: Mapping[str, Any]
    """What it found, as JSON values; later stages read it."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run."""

    id: str
    tenant: str
    student: str
    state: RunState
    started_at_s: float
    ended_at_s: float | None
    outcome: str
    """How it ended, in one line."""
    stages: tuple[StageRecord, ...] = ()
    """In the order in which they were begun."""

    def result(self, stage: str) -> Mapping[str, Any]:
        """What a finished stage found; empty if it is not finished."""
        found = (one.result for one in self.stages if one.stage == stage and one.state == "done")
        return next(found, {})

    def is_done(self, stage: str) -> bool:
        """Whether a stage is finished."""
        return any(one.stage == stage and one.state == "done" for one in self.stages)


class SqlRuns:
    """Keeps runs; a write is refused when another process holds the lease by then.

    Blocking; any thread may use it.

    Args:
        engine: From ``open_engine``; the caller disposes of it.
        clock: Unix time in seconds.
        lock: Name of the lease.
        holder: Who writes.
    """

    def __init__(
        self, engine: Engine, clock: Callable[[], float], *, lock: str, holder: str
    ) -> None:
        self._transactions = Transactions(engine)
        self._clock = clock
        self._lock = lock
        self._holder = holder

    def unfinished(self, tenant: str, student: str) -> RunRecord | None:
        """The run that is to go on, if there is one."""
        found = self.runs(tenant, student, limit=1)
        return found[0] if found and found[0].state == "running" else None

    def runs(self, tenant: str, student: str, *, limit: int = 20) -> Sequence[RunRecord]:
        """The latest runs, the newest first.

        Raises:
            StoreError: The database cannot be read.
        """
        table = flywheel_runs
        query = (
            select(table)
            .where(table.c.tenant == tenant, table.c.student == student)
            .order_by(table.c.started_at_s.desc(), table.c.id)
            .limit(limit)
        )
        with self._transactions.reading() as connection:
            rows = connection.execute(query).mappings().all()
            return [RunRecord(**row, stages=_stages(connection, row["id"])) for row in rows]

    def begin(self, tenant: str, student: str) -> RunRecord:
        """A new run.

        Raises:
            TrainingError: Another process holds the lease.
        """
        run = RunRecord(uuid4().hex, tenant, student, "running", self._clock(), None, "")
        with self._transactions.writing() as connection:
            self._check(connection)
            connection.execute(
                insert(flywheel_runs),
                {
                    "id": run.id,
                    "tenant": tenant,
                    "student": student,
                    "state": run.state,
                    "started_at_s": run.started_at_s,
                    "outcome": "",
                },
            )
        return run

    def end(self, run_id: str, state: RunState, outcome: str) -> None:
        """Ends a run.

        Raises:
            TrainingError: Another process holds the lease.
        """
        with self._transactions.writing() as connection:
            self._check(connection)
            connection.execute(
                update(flywheel_runs)
                .where(flywheel_runs.c.id == run_id)
                .values(state=state, outcome=outcome, ended_at_s=self._clock())
            )

    def begin_stage(self, run_id: str, stage: str) -> int:
        """Begins a stage, for the first time or again; returns how often it was begun.

        Raises:
            TrainingError: Another process holds the lease.
        """
        table = flywheel_stages
        mine = (table.c.run_id == run_id) & (table.c.stage == stage)
        with self._transactions.writing() as connection:
            self._check(connection)
            found = connection.execute(select(table.c.attempts).where(mine)).scalar()
            if found is not None:
                connection.execute(update(table).where(mine).values(attempts=found + 1))
                return int(found) + 1
            connection.execute(
                insert(table),
                {
                    "run_id": run_id,
                    "stage": stage,
                    "state": "begun",
                    "attempts": 1,
                    "started_at_s": self._clock(),
                    "error": "",
                    "result": {},
                },
            )
            return 1

    def wait_with(self, run_id: str, stage: str, text: str) -> None:
        """Leaves a stage for a later invocation; that it was begun does not count as an attempt.

        Raises:
            TrainingError: Another process holds the lease.
        """
        self._set(run_id, stage, attempts=0, error=text)

    def fail_stage(self, run_id: str, stage: str, error: str) -> None:
        """Keeps why an attempt failed.

        Raises:
            TrainingError: Another process holds the lease.
        """
        self._set(run_id, stage, error=error)

    def end_stage(self, run_id: str, stage: str, result: Mapping[str, Any]) -> None:
        """Finishes a stage.

        Raises:
            TrainingError: Another process holds the lease.
        """
        values = {"state": "done", "error": "", "result": dict(result)}
        self._set(run_id, stage, ended_at_s=self._clock(), **values)

    def _set(self, run_id: str, stage: str, **values: Any) -> None:
        table = flywheel_stages
        with self._transactions.writing() as connection:
            self._check(connection)
            connection.execute(
                update(table)
                .where(table.c.run_id == run_id, table.c.stage == stage)
                .values(**values)
            )

    def _check(self, connection: Connection) -> None:
        """Refuses to write for a process that has lost its lease without noticing."""
        query = select(locks.c.holder).where(locks.c.name == self._lock).with_for_update()
        if connection.execute(query).scalar() != self._holder:
            raise TrainingError(
                "the flywheel was taken over by another process: see `tutelage flywheel status`"
            )


def _stages(connection: Connection, run_id: str) -> tuple[StageRecord, ...]:
    table = flywheel_stages
    columns = [column for column in table.c if column.name != "run_id"]
    query = select(*columns).where(table.c.run_id == run_id).order_by(table.c.started_at_s)
    return tuple(StageRecord(**row) for row in connection.execute(query).mappings())
