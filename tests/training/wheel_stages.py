"""A flywheel with stages that leave real things behind, and can be killed anywhere.

As a program: ``python wheel_stages.py FOLDER STAGE POINT SHIFT_S`` runs it in a process that kills
itself at that point of that stage, unless a file ``killed`` says that it has done so before.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine
from tests.made_releases import PASSED, PROBE

from tutelage.runtime.release import Lineage
from tutelage.runtime.store.database import open_engine
from tutelage.runtime.store.locks import SqlLocks
from tutelage.runtime.store.releases import SqlReleaseStore
from tutelage.training.flywheel import STAGES, Flywheel, FlywheelResult, Stage, StageOutcome, Work
from tutelage.training.releases import ReleaseShelf, Weights, traces_digest
from tutelage.training.runs import SqlRuns

POINTS = ("before", "within", "after")
STEPS = 6
LEASE_S = 30.0
LOCK = "flywheel:acme:student"


class Killer:
    """Kills the process once, at one point of one stage."""

    def __init__(self, folder: Path, stage: str, point: str) -> None:
        self._flag = folder / "killed"
        self._where = (stage, point)

    def __call__(self, stage: str, point: str) -> None:
        if (stage, point) == self._where and not self._flag.exists():
            self._flag.write_text("")
            os.kill(os.getpid(), signal.SIGKILL)


def train(folder: Path, die: Callable[[], None]) -> Path:
    """Takes ``STEPS`` steps, of which each survives a crash."""
    made = folder / "trained"
    made.mkdir(exist_ok=True)
    log = folder / "steps"
    done = log.read_text().splitlines() if log.exists() else []
    for step in range(len(done), STEPS):
        if step == STEPS // 2:
            die()
        with log.open("a") as file:
            file.write(f"{step}\n")
    (made / "model.safetensors").write_text(" ".join(log.read_text().split()))
    return made


def stages(folder: Path, engine: Engine, point: Callable[[str, str], None]) -> dict[str, Stage]:
    store = SqlReleaseStore(engine, time.time)
    shelf = ReleaseShelf(folder / "shelf", store)
    lineage = Lineage(
        traces_sha256=traces_digest(["t1"]), traces=1, recipe="fake", code="0", settings={}
    )

    def publish(work: Work) -> str:
        return shelf.publish(
            Weights(Path(work.run.result("train")["checkpoint"]), "full"),
            student="student",
            tenant="acme",
            lineage=lineage,
            evidence=PASSED,
            probe=PROBE,
            origin=work.run.id,
        ).name

    def made(name: str) -> Stage:
        async def run(work: Work) -> StageOutcome:
            point(name, "before")
            with (folder / "calls").open("a") as file:
                file.write(f"{name}\n")
            result: dict[str, object] = {"seen": len(work.run.stages)}
            if name == "train":
                trained = train(work.folder, lambda: point("train", "within"))
                result["checkpoint"] = str(trained)
            elif name == "release":
                result["name"] = publish(work)
            elif name == "deploy":
                store.shadow("acme", str(work.run.result("release")["name"]), "")
            elif name == "canary":
                release = str(work.run.result("release")["name"])
                if store.release("acme", release).stage != "current":
                    store.canary("acme", release, 0.5)
                    point(name, "within")
                    store.promote("acme", release)
                result["text"] = f"{release} promoted"
            if name not in ("train", "canary"):
                point(name, "within")
            point(name, "after")
            return StageOutcome(result)

        return run

    return {name: made(name) for name in STAGES}


def wheel(
    folder: Path, engine: Engine, made: dict[str, Stage], shift_s: float = 0.0, **changes: object
) -> Flywheel:
    def clock() -> float:
        return time.time() + shift_s

    holder = f"{os.getpid()}:{shift_s}"
    settings: dict[str, object] = {"lease_s": LEASE_S, "attempts": 3, **changes}
    return Flywheel(
        SqlRuns(engine, clock, lock=LOCK, holder=holder),
        SqlLocks(engine, clock),
        made,
        folder / "runs",
        lock=LOCK,
        holder=holder,
        **settings,  # type: ignore[arg-type]
    )


def run(folder: Path, point: Callable[[str, str], None], shift_s: float) -> FlywheelResult:
    engine = open_engine(f"sqlite:///{folder / 'wheel.sqlite'}")
    try:
        turned = wheel(folder, engine, stages(folder, engine, point), shift_s)
        return asyncio.run(turned.run("acme", "student"))
    finally:
        engine.dispose()


if __name__ == "__main__":
    place = Path(sys.argv[1])
    print(run(place, Killer(place, sys.argv[2], sys.argv[3]), float(sys.argv[4])))
