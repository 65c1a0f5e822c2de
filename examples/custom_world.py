"""A world of your own, named to tutelage as ``custom_world:LiftWorld``.

Run it: ``python examples/custom_world.py``; docs/how-to/world.md plays it from the command line.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from replay_household import compare

from tutelage.benchmarks.environment import Opening, OracleAction, Outcome, Task
from tutelage.runtime.errors import WorldMissing

FLOORS = 6


class LiftWorld:
    """A parcel in a lift: ``up``, ``down``, and ``deliver`` on the right floor."""

    name = "lift"
    instructions = "Bring the parcel to its floor. Reply with one command: up, down or deliver."

    def __init__(self, data: Path | None = None) -> None:
        self._floor = self._wanted = 0

    def tasks(self, split: str) -> Sequence[Task]:
        """Ways between two floors; ``test:4`` is the first four of ``test``."""
        name, _, count = split.partition(":")
        if name not in ("train", "test"):
            raise WorldMissing(f"unknown split {name!r} of lift: use train or test")
        pairs = [(a, b) for a in range(FLOORS) for b in range(FLOORS) if a != b]
        own = pairs[::2] if name == "train" else pairs[1::2]
        tasks = [Task(f"{name}/{a}-{b}", name, "up" if b > a else "down") for a, b in own]
        return tasks[: int(count)] if count else tasks

    def reset(self, task: Task) -> Opening:
        """Puts the lift where the task begins."""
        self._floor, self._wanted = map(int, task.id.partition("/")[2].split("-"))
        return Opening(f"deliver the parcel to floor {self._wanted}", self._seen())

    def step(self, action: str) -> Outcome:
        """Moves or delivers; an impossible action changes nothing."""
        if action == "deliver" and self._floor == self._wanted:
            return Outcome("Delivered.", done=True, success=True)
        moved = self._floor + {"up": 1, "down": -1}.get(action, 0)
        if moved == self._floor or not 0 <= moved < FLOORS:
            return Outcome("Nothing happens.", done=False, success=False)
        self._floor = moved
        return Outcome(self._seen(), done=False, success=False)

    def oracle(self) -> OracleAction:
        """The action that leads to the floor."""
        way = (self._wanted > self._floor) - (self._wanted < self._floor)
        return OracleAction(("deliver", "up", "down")[way], "expert")

    def _seen(self) -> str:
        return f"The lift is on floor {self._floor}."


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        world = "custom_world:LiftWorld"
        table = compare(world, train="train", test="test:4", grammar="any", out=Path(folder))
        print(asyncio.run(table))
