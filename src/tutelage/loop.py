"""The loop as configured: traces to a better student that serves."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tutelage.assembly import Assembly
from tutelage.releasing import (
    Calibrate,
    ReleaseStages,
    calibrate_release,
    deployment_of,
    student_name,
)
from tutelage.runtime.config import Config

if TYPE_CHECKING:
    from tutelage.training.canary import CanaryState
    from tutelage.training.deploy import Deployment
    from tutelage.training.flywheel import Flywheel, FlywheelResult, Stage
    from tutelage.training.gates.verdict import Gate
    from tutelage.training.recipes.recipe import Watch
    from tutelage.training.runs import RunRecord, SqlRuns


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who hears how a run goes on."""

    stage: Callable[[str, str], None] | None = None
    """Of each stage, and what became of it."""
    training: Watch | None = None
    """Of each optimizer step."""
    canary: Callable[[CanaryState], None] | None = None
    """Of each look at the canary."""


def flywheel_folder(config: Config) -> Path:
    """Where runs keep their files."""
    from tutelage.runtime.cache_dir import cache_dir

    chosen = config.flywheel.folder
    return Path(chosen).expanduser() if chosen else cache_dir() / "flywheel"


def lock_name(tenant: str, student: str) -> str:
    """The lease under which one process at a time runs a tenant's flywheel."""
    return f"flywheel:{student}:{tenant}"


def open_flywheel(
    assembly: Assembly,
    tenant: str,
    listeners: Listeners = Listeners(),
    *,
    learning: dict[str, Stage] | None = None,
    gates: Sequence[Gate] | None = None,
    deployment: Deployment | None = None,
    calibrate: Calibrate | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Flywheel:
    """The flywheel of a tenant; parts that are not given are as configured.

    Args:
        assembly: Configuration and database.
        tenant: Whose traces are learnt from, and whom the student serves.
        listeners: Who hears of it.
        learning: The stages from ``gather`` to ``evaluate``.
        gates: What judges a candidate.
        deployment: How releases are served.
        calibrate: How a policy is certified for a release.
        sleep: Waits for canary episodes.

    Raises:
        ConfigError: The student or its servers are not configured.
    """
    from tutelage.runtime.store.locks import SqlLocks
    from tutelage.training.flywheel import Flywheel
    from tutelage.training.gates.defaults import default_gates, is_sharpened
    from tutelage.training.runs import SqlRuns

    config, folder = assembly.config, flywheel_folder(assembly.config)
    student = student_name(config)
    if gates is None:
        gates = default_gates(
            margin=config.releases.canary_margin,
            sharpened=is_sharpened(config.training.recipe, config.training.settings),
        )
    if learning is None:
        from tutelage.learning import LearningStages

        learning = LearningStages(assembly, tenant, watch=listeners.training).stages

    async def certify(release: Any) -> Any:
        return await calibrate_release(assembly, release, folder / release.name)

    releasing = ReleaseStages(
        assembly,
        tenant,
        gates=gates,
        deployment=deployment or deployment_of(config),
        calibrate=calibrate or certify,
        told=listeners.canary,
        sleep=sleep,
    )
    lock = lock_name(tenant, student)
    # Not the process id alone: containers of one image share theirs.
    holder = f"{socket.gethostname()[:64]}:{os.getpid()}:{uuid4().hex[:8]}"
    return Flywheel(
        SqlRuns(assembly.engine, time.time, lock=lock, holder=holder),
        SqlLocks(assembly.engine, time.time),
        {**learning, **releasing.stages},
        folder,
        lock=lock,
        holder=holder,
        lease_s=config.flywheel.lease_s,
        attempts=config.flywheel.attempts,
        told=listeners.stage,
    )


async def turn(
    assembly: Assembly,
    tenant: str,
    listeners: Listeners = Listeners(),
) -> FlywheelResult:
    """One invocation: goes on with what was left unfinished, else begins anew.

    Raises:
        TutelageError: A stage failed; the next invocation tries it again.
    """
    flywheel = open_flywheel(assembly, tenant, listeners)
    return await flywheel.run(tenant, student_name(assembly.config))


async def turn_again_and_again(
    assembly: Assembly,
    tenant: str,
    every_s: float,
    listeners: Listeners = Listeners(),
    *,
    when_new: int | None = None,
    told: Callable[[FlywheelResult], None] = lambda result: None,
    failed: Callable[[Exception], None] = lambda error: None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    once: Callable[..., Awaitable[FlywheelResult]] = turn,
) -> None:
    """Turns the flywheel at an interval, until it is cancelled; a failure does not end it.

    Args:
        assembly: Configuration and database.
        tenant: Whose.
        every_s: From the end of one turn to the next.
        listeners: Who hears of it.
        when_new: Verified traces since the last run without which none is begun; ``None``: any.
        told: Hears how each turn ended.
        failed: Hears of each that failed.
        sleep: Waits.
        once: Turns once.
    """
    from tutelage.runtime.errors import TutelageError

    while True:
        try:
            if when_new is None or await is_due(assembly, tenant, when_new):
                told(await once(assembly, tenant, listeners))
        except TutelageError as error:
            failed(error)
        await sleep(every_s)


async def is_due(assembly: Assembly, tenant: str, when_new: int) -> bool:
    """Whether a run is unfinished, or enough verified traces came since the last one."""
    runs = _runs(assembly)
    student = student_name(assembly.config)
    if await asyncio.to_thread(runs.unfinished, tenant, student) is not None:
        return True
    return await new_traces(assembly, tenant) >= when_new


async def new_traces(assembly: Assembly, tenant: str) -> int:
    """Traces of successful episodes that began after the last run that gathered any."""
    from tutelage.runtime.store.verified import SqlVerified

    since_s = await gathered_until(assembly, tenant)
    return await asyncio.to_thread(SqlVerified(assembly.engine).count, tenant, since_s)


async def gathered_until(assembly: Assembly, tenant: str) -> float:
    """Unix time up to which earlier runs have gathered traces; 0 if none did, or all failed."""
    student = student_name(assembly.config)
    for run in await asyncio.to_thread(_runs(assembly).runs, tenant, student):
        if run.state != "failed" and run.is_done("gather"):
            return float(run.result("gather").get("until_s") or 0.0)
    return 0.0


@dataclass(frozen=True, slots=True)
class FlywheelStatus:
    """How the flywheel of a tenant stands."""

    holder: str | None
    """Who is at it now."""
    new_traces: int
    """Verified traces that no run has gathered."""
    runs: tuple[RunRecord, ...]
    """The newest first."""


async def flywheel_status(assembly: Assembly, tenant: str, limit: int = 5) -> FlywheelStatus:
    """How the flywheel of a tenant stands.

    Raises:
        ConfigError: No student is configured.
        StoreError: The database cannot be read.
    """
    from tutelage.runtime.store.locks import SqlLocks

    student = student_name(assembly.config)
    locks = SqlLocks(assembly.engine, time.time)
    holder = await asyncio.to_thread(locks.holder, lock_name(tenant, student))
    runs = await asyncio.to_thread(lambda: _runs(assembly).runs(tenant, student, limit=limit))
    return FlywheelStatus(holder, await new_traces(assembly, tenant), tuple(runs))


async def train_once(
    assembly: Assembly,
    tenant: str,
    folder: Path,
    told: Callable[[str, str], None] = lambda stage, text: None,
    *,
    learning: dict[str, Stage],
) -> dict[str, Any]:
    """Gathers, gates, selects and trains, without a release; returns what training left behind.

    Args:
        assembly: Configuration and database.
        tenant: Whose traces are learnt from.
        folder: Files of the run; run again with the same one, training goes on where it was.
        told: Hears of each stage.
        learning: The stages.

    Raises:
        NoExamples: There is nothing to learn from.
        TrainingError: Training failed; the text names the setting to change.
    """
    from tutelage.runtime.errors import NoExamples
    from tutelage.training.flywheel import Work
    from tutelage.training.runs import RunRecord, StageRecord

    await asyncio.to_thread(lambda: folder.mkdir(parents=True, exist_ok=True))
    run = RunRecord("train", tenant, student_name(assembly.config), "running", 0.0, None, "")
    outcome: dict[str, Any] = {}
    for name in ("gather", "gate", "select", "train"):
        told(name, "begins")
        found = await learning[name](Work(run, folder, 1))
        if found.then != "go on":
            raise NoExamples(found.text)
        told(name, "done")
        outcome = dict(found.result)
        done = StageRecord(name, "done", 1, 0.0, 0.0, "", outcome)
        run = replace(run, stages=(*run.stages, done))
    return outcome


def _runs(assembly: Assembly) -> SqlRuns:
    """Runs to be read; nobody writes by them."""
    from tutelage.training.runs import SqlRuns

    return SqlRuns(assembly.engine, time.time, lock="", holder="")
