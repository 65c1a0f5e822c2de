"""The flywheel: from traces to a better student that serves, in stages that survive a crash."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tutelage.runtime.errors import StoreError, TrainingError, TutelageError
from tutelage.runtime.models.failures import log_line
from tutelage.runtime.store.locks import SqlLocks
from tutelage.training.runs import RunRecord, SqlRuns

logger = logging.getLogger(__name__)

STAGES = (
    "gather",
    "gate",
    "select",
    "train",
    "evaluate",
    "judge",
    "release",
    "deploy",
    "calibrate",
    "canary",
)
"""In their order."""


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What a stage found, and whether the run goes on."""

    result: Mapping[str, Any]
    """As JSON values; kept in the database, and read by later stages."""
    then: Literal["go on", "end", "wait"] = "go on"
    """``end``: there is nothing more to do; ``wait``: a later invocation takes the stage up."""
    text: str = ""
    """Why it ends or waits, in one line."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage is given."""

    run: RunRecord
    """With the results of all earlier stages."""
    folder: Path
    """Files of this run; the same at every attempt."""
    attempt: int
    """1 for the first."""


Stage = Callable[[Work], Awaitable[StageOutcome]]
"""One stage. It may be killed at any point and is then called again with the same run, so that it
must give the same result, or go on where it was."""


@dataclass(frozen=True, slots=True)
class FlywheelResult:
    """What one invocation came to."""

    run_id: str | None
    """``None``: another process is at it."""
    state: Literal["finished", "failed", "waiting", "busy"]
    text: str


class Flywheel:
    """Runs the stages in order, one process at a time, each stage once.

    A process holds a lease in the database and renews it; a stage whose lease is lost is cancelled.
    What a stage found is written in one transaction when it ends, so that after ``kill -9`` the
    next invocation goes on with the stage that was under way.

    Args:
        runs: Keeps runs, under the lease of ``locks``.
        locks: Keeps the lease.
        stages: All of ``STAGES``.
        folder: Each run gets a folder in it.
        lock: Name of the lease.
        holder: Who this process is; unique.
        lease_s: How long the lease holds without a sign of life.
        attempts: How often a stage is begun, over all invocations, before its run is given up.
        told: Hears when a stage begins, and how it ends.
        sleep: Waits between two signs of life.
    """

    def __init__(
        self,
        runs: SqlRuns,
        locks: SqlLocks,
        stages: Mapping[str, Stage],
        folder: Path,
        *,
        lock: str,
        holder: str,
        lease_s: float,
        attempts: int,
        told: Callable[[str, str], None] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        missing = [name for name in STAGES if name not in stages]
        if missing:
            raise TrainingError(f"the flywheel lacks the stage {missing[0]!r}")
        self._runs = runs
        self._locks = locks
        self._stages = stages
        self._folder = folder
        self._lock = lock
        self._holder = holder
        self._lease_s = lease_s
        self._attempts = attempts
        self._told = told or (lambda stage, text: None)
        self._sleep = sleep

    async def run(self, tenant: str, student: str) -> FlywheelResult:
        """Goes on with the run that was left unfinished, else makes a new one.

        Raises:
            TutelageError: A stage failed; the next invocation tries it again.
            StoreError: The database cannot be read or written.
        """
        taken = await asyncio.to_thread(self._locks.take, self._lock, self._holder, self._lease_s)
        if not taken:
            who = await asyncio.to_thread(self._locks.holder, self._lock)
            return FlywheelResult(None, "busy", f"{who or 'another process'} is at it")
        work = asyncio.ensure_future(self._go_on(tenant, student))
        alive = asyncio.ensure_future(self._stay_alive(work))
        try:
            return await work
        except asyncio.CancelledError:
            if alive.done() and not alive.cancelled() and alive.result():
                raise TrainingError(alive.result()) from None
            raise
        finally:
            work.cancel()
            alive.cancel()
            await asyncio.gather(work, alive, return_exceptions=True)
            with contextlib.suppress(StoreError):
                await asyncio.to_thread(self._locks.free, self._lock, self._holder)

    async def _stay_alive(self, work: asyncio.Future[FlywheelResult]) -> str:
        """Renews the lease until it is lost; then ends the work and says why."""
        missed_s = 0.0
        pause_s = self._lease_s / 4
        while True:
            await self._sleep(pause_s)
            try:
                held = await asyncio.to_thread(
                    self._locks.take, self._lock, self._holder, self._lease_s
                )
                missed_s = 0.0
            except StoreError as error:
                logger.warning("the lease of the flywheel is not renewed: %s", log_line(error))
                missed_s += pause_s
                held = missed_s + pause_s < self._lease_s
            if not held:
                work.cancel()
                return "the flywheel lost its lease: the next `tutelage flywheel run` goes on"

    async def _go_on(self, tenant: str, student: str) -> FlywheelResult:
        run = await asyncio.to_thread(self._runs.unfinished, tenant, student)
        if run is None:
            run = await asyncio.to_thread(self._runs.begin, tenant, student)
        folder = self._folder / run.id
        folder.mkdir(parents=True, exist_ok=True)
        for stage in STAGES:
            if run.is_done(stage):
                continue
            attempt = await asyncio.to_thread(self._runs.begin_stage, run.id, stage)
            if attempt > self._attempts:
                before = next((one.error for one in run.stages if one.stage == stage), "")
                text = f"{stage} failed {self._attempts} times: {before or 'it was killed'}"
                await asyncio.to_thread(self._runs.end, run.id, "failed", text)
                return FlywheelResult(run.id, "failed", text)
            self._told(stage, "begins" if attempt == 1 else f"begins, attempt {attempt}")
            try:
                outcome = await self._stages[stage](Work(run, folder, attempt))
            except TutelageError as error:
                await asyncio.to_thread(self._runs.fail_stage, run.id, stage, str(error))
                raise
            if outcome.then == "wait":
                await asyncio.to_thread(self._runs.wait_with, run.id, stage, outcome.text)
                self._told(stage, f"waits: {outcome.text}")
                return FlywheelResult(run.id, "waiting", outcome.text)
            await asyncio.to_thread(self._runs.end_stage, run.id, stage, outcome.result)
            self._told(stage, "done")
            if outcome.then == "end":
                return await self._ended(run.id, f"{stage}: {outcome.text}")
            found = await asyncio.to_thread(self._runs.unfinished, tenant, student)
            assert found is not None
            run = found
        return await self._ended(run.id, str(run.result("canary").get("text") or "promoted"))

    async def _ended(self, run_id: str, text: str) -> FlywheelResult:
        await asyncio.to_thread(self._runs.end, run_id, "finished", text)
        return FlywheelResult(run_id, "finished", text)
