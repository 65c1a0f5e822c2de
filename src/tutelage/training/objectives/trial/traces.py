"""The teacher's episodes, gated: verified steps to learn from, and its slips beside them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.training.objectives.trial.world import LONGEST, Act, State, ToyTeacher, ToyWorld


@dataclass(frozen=True, slots=True)
class GatedSteps:
    """Verified steps of episodes that succeeded."""

    steps: tuple[tuple[State, Act], ...]
    pairs: tuple[tuple[State, Act, Act], ...]
    """State, verified act and a wrong one that the teacher also did there."""
    held_out: tuple[State, ...]
    """Tasks that no trace is of."""


def gate(
    world: ToyWorld, teacher: ToyTeacher, generator: random.Random, episodes: int
) -> GatedSteps:
    """Plays tasks with the teacher and keeps what is verified.

    Args:
        world: Says what is right.
        teacher: Who plays.
        generator: Draws the tasks and the teacher's acts.
        episodes: Tasks that are played, each once.
    """
    tasks = world.tasks()
    generator.shuffle(tasks)
    kept: list[tuple[State, Act]] = []
    slips: dict[State, Act] = {}
    for task in tasks[:episodes]:
        walked, solved = _episode(world, teacher, task, generator)
        for state, act in walked:
            if act not in world.right(state):
                slips[state] = act
            elif solved:
                kept.append((state, act))
    pairs = tuple((state, act, slips[state]) for state, act in kept if state in slips)
    return GatedSteps(tuple(kept), pairs, tuple(tasks[episodes:]))


def _episode(
    world: ToyWorld, teacher: ToyTeacher, task: State, generator: random.Random
) -> tuple[Sequence[tuple[State, Act]], bool]:
    walked: list[tuple[State, Act]] = []
    state = task
    for _ in range(2 * LONGEST):
        act = teacher.sample(state, generator)
        walked.append((state, act))
        after = world.after(state, act)
        if after is None:
            return walked, True
        state = after
    return walked, False
