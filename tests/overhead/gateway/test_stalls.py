from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.overhead.gateway.probed import Probe
from tutelage.overhead.gateway.stalls import read_stalls

MS = 1_000_000


class Loop:
    """A loop that is stepped by hand; its clocks are ours."""

    def __init__(self) -> None:
        self.now_ns = self.cpu_ns = 0
        self._due: tuple[Callable[..., None], tuple[Any, ...]] | None = None

    def call_later(self, delay_s: float, callback: Callable[..., None], *arguments: Any) -> None:
        assert delay_s == 0.001
        self._due = (callback, arguments)

    def step(self, ms: float, cpu_ms: float) -> None:
        self.now_ns += int(ms * MS)
        self.cpu_ns += int(cpu_ms * MS)
        assert self._due is not None
        callback, arguments = self._due
        callback(*arguments)


def probed(steps: list[tuple[float, float]], path: Path) -> None:
    loop: Any = Loop()
    probe = Probe(lambda: loop.now_ns, lambda: loop.cpu_ns)
    probe.start(loop)
    for ms, cpu_ms in steps:
        loop.step(ms, cpu_ms)
    probe.save(path)


def test_a_stall_is_how_much_later_than_a_millisecond_a_tick_comes(tmp_path: Path) -> None:
    probed([(1, 0.1), (1, 0.1), (9, 6.5), (1, 0.1)], tmp_path / "ticks")

    stalls = read_stalls(tmp_path / "ticks", 0, 100 * MS)

    assert stalls is not None
    assert (stalls.ticks, stalls.long) == (4, 1)
    assert stalls.most_ms == 8.0
    assert stalls.most_cpu_ms == 6.5
    assert 0 < stalls.p99_ms < 8.0


def test_only_ticks_of_the_span_count(tmp_path: Path) -> None:
    probed([(50, 1), (1, 0), (1, 0), (50, 1)], tmp_path / "ticks")

    stalls = read_stalls(tmp_path / "ticks", 51 * MS, 60 * MS)

    assert stalls is not None
    assert (stalls.ticks, stalls.most_ms) == (2, 0.0)


def test_a_probe_that_never_ticked_is_told(tmp_path: Path) -> None:
    assert read_stalls(tmp_path / "nothing", 0, MS) is None
    probed([], tmp_path / "ticks")
    assert read_stalls(tmp_path / "ticks", 0, MS) is None


def test_a_tick_that_comes_early_is_not_late(tmp_path: Path) -> None:
    probed([(0.9, 0)], tmp_path / "ticks")

    stalls = read_stalls(tmp_path / "ticks", 0, MS)

    assert stalls is not None
    assert stalls.most_ms == 0.0


async def test_a_loop_that_is_blocked_is_seen(tmp_path: Path) -> None:
    probe = Probe()
    begin_ns = time.monotonic_ns()
    probe.start(asyncio.get_running_loop())
    await asyncio.sleep(0.01)
    time.sleep(0.05)  # noqa: ASYNC251 - this is the block
    await asyncio.sleep(0.01)
    probe.save(tmp_path / "ticks")

    stalls = read_stalls(tmp_path / "ticks", begin_ns, time.monotonic_ns())

    assert stalls is not None
    assert stalls.most_ms >= 45
    assert stalls.most_cpu_ms < stalls.most_ms


def test_the_probe_sits_in_the_loop_of_the_command_line(tmp_path: Path) -> None:
    # The gateway of an unusable configuration ends before it makes a loop: the file is empty.
    command = (sys.executable, "-m", "tutelage.overhead.gateway.probed", str(tmp_path / "ticks"))
    ended = subprocess.run(
        [*command, "serve", "--config", "/nowhere.toml"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2
    assert "/nowhere.toml does not exist" in ended.stderr
    assert np.fromfile(tmp_path / "ticks", np.int64).size == 0
