"""A replay in a process of its own, for tests that kill it: arguments FOLDER TASKS SEEDS."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.benchmarks.tiny_world import Corridor, settings, tasks, tiny_replay

from tutelage.benchmarks.arms import find_arms
from tutelage.benchmarks.replay import stop_on_interrupt
from tutelage.benchmarks.results_folder import open_results
from tutelage.runtime.errors import TutelageError

ARMS = ("random-mix", "teacher", "student", "demos-cascade")


async def play(folder: Path, task_count: int, seed_count: int) -> int:
    """Plays until done or interrupted; returns the exit code."""
    arms = find_arms(ARMS)
    with open_results(folder, settings(), arms) as results, stop_on_interrupt() as stop:
        print("playing", flush=True)
        replay = tiny_replay(
            results,
            arms,
            tasks=tasks(task_count),
            seeds=range(seed_count),
            world=lambda: Corridor(delay_s=0.004),
            jobs=2,
        )
        summary = await replay.run(stop)
    print(summary.line("the same command"), flush=True)
    return summary.exit_code


if __name__ == "__main__":
    try:
        code = asyncio.run(play(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
    except TutelageError as error:
        print(error, file=sys.stderr)
        code = 1
    sys.exit(code)
