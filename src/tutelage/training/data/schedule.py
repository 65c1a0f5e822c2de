"""Training in stages, each of which changes one thing (ERNIE-Tiny, arXiv 2106.02241)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from tutelage.runtime.errors import TrainingError

logger = logging.getLogger(__name__)

Carried = Literal["optimizer", "objective"]
"""State beside the weights: moments of the optimizer; what an objective keeps, such as TAID's t."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of training in which nothing is changed."""

    name: str
    teacher: str
    data: str
    losses: Mapping[str, float]
    """Weight by objective."""
    steps: int
    """Optimizer steps."""
    carries: frozenset[Carried] = frozenset()
    """What is taken over from the stage before; the rest starts anew. Weights always are."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where in a schedule a run is."""

    stage: int
    """Index; the number of stages if the run is over."""
    step: int
    """Steps that were taken in that stage."""


class Schedule:
    """Stages in their order.

    A stage that changes more than one of teacher, data and loss is logged as a warning: whatever
    comes of it cannot be put down to either.

    Args:
        stages: At least one, with different names and at least one step each.

    Raises:
        TrainingError: They are not.
    """

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        if not stages:
            raise TrainingError("the schedule has no stage: give at least one")
        names = [stage.name for stage in stages]
        for stage in stages:
            if stage.steps < 1:
                raise TrainingError(f"stage {stage.name!r} has {stage.steps} steps: give 1 or more")
            if names.count(stage.name) > 1:
                raise TrainingError(f"two stages are called {stage.name!r}: rename one")
        self.stages = stages
        self.doubts = tuple(
            f"stage {later.name!r} changes {' and '.join(changes)} at once: change one a stage"
            for stage, later in pairwise(stages)
            if len(changes := _changes(stage, later)) > 1
        )
        """What was warned of."""
        for doubt in self.doubts:
            logger.warning("%s", doubt)

    @property
    def steps(self) -> int:
        """Optimizer steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def position(self, steps: int) -> Position:
        """Where a run is that has taken a number of steps; a stage that is complete is left."""
        for index, stage in enumerate(self.stages):
            if steps < stage.steps:
                return Position(index, steps)
            steps -= stage.steps
        return Position(len(self.stages), 0)

    def resets(self, steps: int) -> frozenset[Carried]:
        """What starts anew before the next step.

        Nothing within a stage: a run that is resumed there goes on with the state of its
        checkpoint. At the first step of a stage, all that it does not carry.

        Args:
            steps: That were taken.
        """
        at = self.position(steps)
        if at.stage == len(self.stages) or at.step or not steps:
            return frozenset()
        return frozenset[Carried]({"optimizer", "objective"}) - self.stages[at.stage].carries

    def run(
        self,
        step: Callable[[Stage, int], None],
        reset: Callable[[frozenset[Carried]], None],
        *,
        done: int = 0,
    ) -> None:
        """Takes all steps that are left.

        Args:
            step: Takes one optimizer step of a stage, given its index in the stage. It must depend
                on nothing but these and the state that a checkpoint keeps.
            reset: Starts parts of the state anew; called between stages, also right after a resume
                at the border of two.
            done: Steps that were taken before the run was resumed from its checkpoint.
        """
        for taken in range(done, self.steps):
            parts = self.resets(taken)
            if parts:
                reset(parts)
            at = self.position(taken)
            step(self.stages[at.stage], at.step)


def _changes(stage: Stage, later: Stage) -> list[str]:
    pairs = {
        "teacher": (stage.teacher, later.teacher),
        "data": (stage.data, later.data),
        "loss": (dict(stage.losses), dict(later.losses)),
    }
    return [name for name, (before, after) in pairs.items() if before != after]
