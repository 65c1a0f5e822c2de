"""Our command line with a probe in its event loop, run as a program: FILE, then the arguments.

A timer of one millisecond notes how late it is, and the CPU that the loop's thread has used since
it last ran; the file gets both when the process ends.
"""

from __future__ import annotations

import asyncio
import atexit
import runpy
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import uvloop

TICK_NS = 1_000_000
MOST_TICKS = 2_000_000


class Probe:
    """Ticks of one loop, three numbers each: Unix-like monotonic time, lateness, CPU; all ns.

    Args:
        clock: Monotonic nanoseconds, the same in all processes of the machine.
        thread_clock: CPU nanoseconds of the calling thread.
    """

    def __init__(
        self,
        clock: Callable[[], int] = time.monotonic_ns,
        thread_clock: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        self._clock = clock
        self._thread_clock = thread_clock
        self.ticks = array("q")

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins to tick in a loop that runs."""
        self._wait(loop, self._thread_clock())

    def save(self, path: Path) -> None:
        """Writes the ticks as 64-bit integers."""
        path.write_bytes(self.ticks.tobytes())

    def _wait(self, loop: asyncio.AbstractEventLoop, cpu_ns: int) -> None:
        due_ns = self._clock() + TICK_NS
        loop.call_later(TICK_NS / 1e9, self._tick, loop, due_ns, cpu_ns)

    def _tick(self, loop: asyncio.AbstractEventLoop, due_ns: int, cpu_ns: int) -> None:
        now_ns, spent_ns = self._clock(), self._thread_clock()
        if len(self.ticks) < 3 * MOST_TICKS:
            self.ticks.extend((now_ns, max(0, now_ns - due_ns), spent_ns - cpu_ns))
        self._wait(loop, spent_ns)


def main(arguments: list[str]) -> None:
    """Runs the command line with a probe in every loop that is made."""
    probe = Probe()
    atexit.register(probe.save, Path(arguments[1]))
    new_event_loop = uvloop.new_event_loop

    def probed_loop() -> uvloop.Loop:
        loop = new_event_loop()
        loop.call_soon(probe.start, loop)
        return loop

    # The server asks uvloop for its loop, and gets ours.
    uvloop.new_event_loop = probed_loop
    sys.argv = ["tutelage", *arguments[2:]]
    runpy.run_module("tutelage.cli.main", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv)
