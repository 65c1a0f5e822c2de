from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tutelage.overhead.gateway.processes import spent, started, tree, wait_for
from tutelage.runtime.errors import BenchmarkError

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print("up", flush=True)
child.wait()
time.sleep(60)
"""
BURN = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


def has_said(log: Path, word: str) -> bool:
    return word in log.read_text()


def test_the_cpu_of_children_counts_while_they_live_and_afterwards(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, BURN + "print('burnt', flush=True); time.sleep(0.2)"]
    with started(command, tmp_path / "log") as one:
        wait_for(one, lambda: has_said(one.log, "burnt"), timeout_s=30)
        alive = spent(one.pid)
        assert len(tree(one.pid)) == 2
        wait_for(one, lambda: len(tree(one.pid)) == 1, timeout_s=30)
        after = spent(one.pid)

    assert alive.cpu_s >= 0.28
    assert after.cpu_s >= alive.cpu_s
    assert 0 < after.rss_bytes < alive.rss_bytes


def test_a_process_that_is_gone_has_spent_nothing() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()

    assert spent(gone.pid).cpu_s == 0.0
    assert spent(gone.pid).rss_bytes == 0


def test_a_process_that_will_not_end_is_killed_with_its_children(
    tmp_path: Path, still_running: Callable[[Iterable[int]], list[int]]
) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\n"
    command = [sys.executable, "-c", PARENT, deaf + "time.sleep(60)"]
    with started(command, tmp_path / "log", stop_s=0.1) as one:
        wait_for(one, lambda: one.log.read_text().count("up") == 2, timeout_s=30)
        both = tree(one.pid)

    assert len(both) == 2
    assert still_running(both) == []


def test_a_process_that_ends_early_is_told_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('first'); raise SystemExit('it broke')"]

    with (
        started(command, tmp_path / "log") as one,
        pytest.raises(BenchmarkError, match=r"ended with 1: .*it broke"),
    ):
        wait_for(one, lambda: False, timeout_s=30)


def test_a_process_that_is_never_ready_is_told(tmp_path: Path) -> None:
    with (
        started(["sleep", "60"], tmp_path / "log") as one,
        pytest.raises(BenchmarkError, match=r"sleep is not ready after 0\.1 s"),
    ):
        wait_for(one, lambda: False, timeout_s=0.1)


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchmarkError, match="/nowhere/program cannot be run"),
        started(["/nowhere/program"], tmp_path / "log"),
    ):
        pass
