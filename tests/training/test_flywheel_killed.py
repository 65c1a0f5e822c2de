"""kill -9 at every point of every stage leaves a state from which the flywheel finishes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.training import wheel_stages

from tutelage.runtime.store.database import open_engine
from tutelage.runtime.store.releases import SqlReleaseStore
from tutelage.training.flywheel import STAGES
from tutelage.training.runs import SqlRuns

ROOT = Path(__file__).parents[2]


def killed(folder: Path, stage: str, point: str) -> int:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(Path(wheel_stages.__file__)), str(folder), stage, point, "0"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stdout + ran.stderr
    return ran.returncode


def check_finished(folder: Path, stage: str, point: str) -> None:
    again = wheel_stages.run(folder, lambda *_: None, 1.0)
    # Until its lease ends, the dead process is believed to be at it.
    assert again.state == "busy"
    done = wheel_stages.run(folder, lambda *_: None, wheel_stages.LEASE_S + 1)
    assert (done.state, done.text) == ("finished", "student@1 promoted")
    engine = open_engine(f"sqlite:///{folder / 'wheel.sqlite'}")
    store = SqlReleaseStore(engine, time.time)
    assert [(one.name, one.stage) for one in store.releases("acme")] == [("student@1", "current")]
    runs = SqlRuns(engine, time.time, lock="", holder="").runs("acme", "student")
    assert len(runs) == 1
    attempts = {one.stage: one.attempts for one in runs[0].stages}
    assert attempts == {name: 1 + (name == stage) for name in STAGES}
    calls = (folder / "calls").read_text().split()
    assert {name: calls.count(name) for name in STAGES} == {
        name: 1 + (name == stage and point != "before") for name in STAGES
    }
    # Training went on where it was.
    weights = (store.release("acme", "student@1").folder) + "/model.safetensors"
    assert Path(weights).read_text().split() == [str(step) for step in range(wheel_stages.STEPS)]
    engine.dispose()


@pytest.mark.parametrize("point", wheel_stages.POINTS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_flywheel_that_is_killed_finishes(
    stage: str, point: str, tmp_path: Path, empty_database: Path
) -> None:
    shutil.copyfile(empty_database, tmp_path / "wheel.sqlite")
    killed(tmp_path, stage, point)
    check_finished(tmp_path, stage, point)
