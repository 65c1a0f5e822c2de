"""What a benchmark world is: tasks that are reset and stepped, and an optional oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Knowledge = Literal["expert", "planner"]


@dataclass(frozen=True, slots=True)
class Task:
    """One game of a world."""

    id: str
    """Stable over runs and machines; two tasks with one id are the same game."""
    split: str
    category: str
    """Kind of task, e.g. ``pick_clean_then_place``."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What the agent is told when a task starts."""

    goal: str
    observation: str
    """The first observation, without the goal."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an action led to."""

    observation: str
    done: bool
    success: bool


@dataclass(frozen=True, slots=True)
class OracleAction:
    """The action an oracle would take now."""

    text: str
    knowledge: Knowledge
    """``expert``: found by searching as an agent would; ``planner``: from the hidden state."""


class Environment(Protocol):
    """A world; one instance plays one task at a time, in a process of its own."""

    name: str
    instructions: str
    """The system message an agent gets: what it may do and how it must answer."""

    def tasks(self, split: str) -> Sequence[Task]:
        """Tasks of a split in a stable order.

        Raises:
            WorldMissing: The split is unknown or its files are not there.
        """
        ...

    def reset(self, task: Task) -> Opening:
        """Starts a task."""
        ...

    def step(self, action: str) -> Outcome:
        """Takes an action in the task that was reset last; an impossible one changes nothing."""
        ...

    def oracle(self) -> OracleAction:
        """The action to take now; may be asked at any state, also after someone else's detours."""
        ...
