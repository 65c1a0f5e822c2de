"""The texts under which steps are found."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tutelage.runtime.types import Step, Trajectory, Turn

_NUMBER = re.compile(r"\s*\b\d+\b")


@dataclass(frozen=True, slots=True)
class StateKey:
    """How the state of a step is put into words: ``previous action -> observation``."""

    numbers: bool = True
    """Whether numbers stay in the text; without them ``drawer 3`` and ``drawer 5`` are the same."""
    goal: bool = False
    """Whether the goal stands in front, so that one sight under two goals is two states."""
    limit_characters: int = 1500
    """Where a long observation is cut; the embedder reads about 256 tokens."""

    def text(self, goal: str, previous: Turn | None, observation: str) -> str:
        """The key of the state in which ``observation`` is seen after the turn ``previous``."""
        action = previous.action.strip() if previous is not None else "start"
        text = f"{action} -> {observation.strip()}"
        if self.goal:
            text = f"{goal} | {text}"
        text = text[: self.limit_characters]
        return text if self.numbers else _NUMBER.sub("", text)

    def of_step(self, step: Step) -> str:
        """The key of a decision that is to be taken."""
        return self.text(step.goal, step.history[-1] if step.history else None, step.observation)

    def of_turn(self, trajectory: Trajectory, index: int) -> str:
        """The key of a decision that was taken."""
        previous = trajectory.turns[index - 1] if index else None
        return self.text(trajectory.goal, previous, trajectory.turns[index].observation)


@dataclass(frozen=True, slots=True)
class TaskKeys:
    """What is known of a task before it is solved; ``None`` where nothing is."""

    goal: str
    category: str | None = None
    plan: str | None = None


def task_keys(step: Step) -> TaskKeys:
    """The keys of a step whose category and plan are unknown."""
    return TaskKeys(step.goal)


def category_text(category: str) -> str:
    """A category as words: ``pick_and_place`` is ``pick and place``."""
    return category.replace("_", " ").replace("-", " ")
