"""Forks a process for each line of its input; the child appends traces until it is killed.

Input lines are ``<name> <appends>``; the output is ``pid <pid>``, one line for each acknowledged
trace id, and ``gone <exit status>`` when the child has ended. Arguments: database URL, spool.
"""

from __future__ import annotations

import asyncio
import os
import sys

import alembic.command  # noqa: F401 - loaded once, before the forks

from tutelage.runtime.store.spool import Spool
from tutelage.runtime.store.traces import SqlTraceStore
from tutelage.runtime.store.writer import BatchLimits
from tutelage.runtime.types import Decision, Reason, Trace

TASKS = 6


def trace(id: str, step_index: int) -> Trace:
    return Trace(
        id=id,
        tenant="acme",
        episode_id="e1",
        step_index=step_index,
        created_at_s=float(step_index),
        model="agent",
        goal="put a mug on the shelf",
        observation="o" * 500,
        answer="go to shelf 1",
        decision=Decision(served="student", reason=Reason.AGREED),
    )


async def write(url: str, spool: str, name: str, appends: int) -> None:
    limits = BatchLimits(lock_wait_s=5.0, retry_s=0.01)
    async with SqlTraceStore(url, spool=Spool(spool), limits=limits) as store:

        async def append_some(task: int) -> None:
            for number in range(task, appends, TASKS):
                id = f"{name}-{number}"
                await store.append(trace(id, number))
                os.write(1, f"{id}\n".encode())
                if number % 3 == 0:
                    await store.append(trace(id, number))

        await asyncio.gather(*(append_some(task) for task in range(TASKS)))


def main() -> None:
    url, spool = sys.argv[1:]
    for line in sys.stdin:
        name, appends = line.split()
        child = os.fork()
        if child == 0:
            asyncio.run(write(url, spool, name, int(appends)))
            os._exit(0)
        os.write(1, f"pid {child}\n".encode())
        _, status = os.waitpid(child, 0)
        os.write(1, f"gone {status}\n".encode())


if __name__ == "__main__":
    main()
