"""A student and a teacher whose error curves are known, and episodes that they play together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SyntheticWorld:
    """Episodes that are won by enough right steps before the steps run out.

    A step has a score, uniform in [0, 1]. On a clean path ``right_rate`` says how often the student
    is right. After a wrong step it is derailed: right less often, until a right step puts it back;
    and it may start to loop: sure of itself (score 1) and wrong, until a teacher acts.
    """

    goal: int = 8
    """Right steps that win an episode."""
    limit: int = 12
    """Steps after which an episode is lost."""
    floor: float = 0.35
    """P(right) at score 0."""
    ceiling: float = 0.995
    """P(right) from score 1/2 on."""
    derailed: float = 0.5
    """Factor on P(right) after a wrong step."""
    looping: float = 0.3
    """P(a derailed student loops)."""
    teacher: float = 0.98
    """P(a teacher's step is right), whatever the state."""

    def right_rate(self, scores: Array) -> Array:
        """P(the student's action is right | score) on a clean path: rises up to score 1/2."""
        rate: Array = self.floor + (self.ceiling - self.floor) * np.minimum(1.0, 2 * scores) ** 2
        return rate


@dataclass(frozen=True)
class Played:
    """Episodes played at every threshold; (episodes, thresholds) each."""

    won: NDArray[np.bool_]
    lost: Array
    """1 where the cascade lost an episode that the teacher alone wins."""
    teacher_share: Array
    cost_usd: Array
    wrong_accepted: Array
    """Accepted steps that were wrong."""
    accepted: Array
    steps: Array


def play(
    world: SyntheticWorld, thresholds: Array, episodes: int, generator: np.random.Generator
) -> Played:
    """Plays the same episodes (common random numbers) at every threshold, and by the teacher."""
    lanes = np.concatenate([[np.inf], np.asarray(thresholds, dtype=np.float64)])
    shape = (episodes, len(lanes))
    progress, used = np.zeros(shape), np.zeros(shape)
    by_teacher, wrong, accepted = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    off, loops = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
    for _ in range(world.limit):
        draws = generator.random((4, episodes, 1))
        open_ = progress < world.goal
        score = np.where(loops, 1.0, draws[0])
        rate = world.right_rate(draws[0]) * np.where(off, world.derailed, 1.0)
        student_right = (draws[1] < rate) & ~loops
        student = score >= lanes
        right = np.where(student, student_right, draws[2] < world.teacher)
        progress += open_ & right
        used += open_
        by_teacher += open_ & ~student
        accepted += open_ & student
        wrong += open_ & student & ~right
        off = ~right
        loops = off & student & (loops | (draws[3] < world.looping))
    won = progress >= world.goal
    cost = 0.001 * used + 0.01 * by_teacher
    return Played(
        won=won[:, 1:],
        lost=(won[:, :1] & ~won[:, 1:]).astype(np.float64),
        teacher_share=(by_teacher / used)[:, 1:],
        cost_usd=cost[:, 1:],
        wrong_accepted=wrong[:, 1:],
        accepted=accepted[:, 1:],
        steps=used[:, 1:],
    )
