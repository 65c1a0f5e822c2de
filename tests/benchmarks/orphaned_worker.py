"""Starts a worker, prints its process id and dies at once, for a test that looks for orphans."""

from __future__ import annotations

import asyncio
import os
import signal

from tests.benchmarks.worker_worlds import TASKS

from tutelage.benchmarks.worker import WorldProcess


async def start() -> None:
    """Never returns."""
    world = WorldProcess("tests.benchmarks.worker_worlds:Room")
    await world.reset(TASKS[0])
    print(world.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(start())
