"""A world for the tests of the worker process; its actions do what a bad world would do."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from tutelage.benchmarks.environment import Opening, OracleAction, Outcome, Task
from tutelage.runtime.errors import MissingExtra, WorldMissing

TASKS = tuple(Task(f"room-{number}", "test", "room") for number in range(3))
ABSENT = Task("absent", "test", "room")


class Room:
    """Counts its steps."""

    name = "room"
    instructions = "Do something."

    def __init__(self, data: Path | None) -> None:
        self.data = data
        self.steps = 0

    def tasks(self, split: str) -> Sequence[Task]:
        if split != "test":
            raise WorldMissing(f"unknown split {split!r} of room")
        return TASKS

    def reset(self, task: Task) -> Opening:
        if task == ABSENT:
            raise WorldMissing("room absent is not there")
        self.steps = 0
        return Opening("count", f"You are in {task.id}.")

    def step(self, action: str) -> Outcome:
        self.steps += 1
        match action.split():
            case ["fail"]:
                raise KeyError("no such chair")
            case ["exit", code]:
                print("out of chairs", flush=True)
                os._exit(int(code))
            case ["import"]:
                raise MissingExtra("chairlib", "chairs")
            case ["talk"]:
                print("python speaks")
                os.write(1, b"C speaks\n")
                os.write(2, b"C complains\n")
            case ["wait"]:
                assert self.data is not None
                (self.data / "waiting").touch()
                while not (self.data / "go").exists():
                    time.sleep(0.005)
            case ["hang"]:
                assert self.data is not None
                (self.data / "hanging").touch()
                time.sleep(3600)
        return Outcome(f"{action}, step {self.steps} of process {os.getpid()}", False, False)

    def oracle(self) -> OracleAction:
        return OracleAction("sit", "expert")

    def prefetch(self, task: Task) -> None:
        assert self.data is not None
        (self.data / f"prefetched-{task.id}").touch()
        if task == ABSENT:
            raise WorldMissing("room absent is not there")


class Broken:
    """A world whose data is not there."""

    def __init__(self, data: Path | None) -> None:
        raise WorldMissing(f"no rooms in {data}")
