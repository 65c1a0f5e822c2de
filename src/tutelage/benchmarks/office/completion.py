"""How many tasks, and how many whole scenarios, were completed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Completion:
    """Shares of an evaluation."""

    tasks: int
    task_goals: float
    """Share of tasks that were done, in [0, 1]."""
    scenarios: int
    scenario_goals: float
    """Share of scenarios of which every task that was played was done, in [0, 1]."""


def completion(success: Mapping[str, bool]) -> Completion:
    """Task and scenario goal completion.

    Args:
        success: By task id, whether the task was done.
    """
    scenarios: dict[str, list[bool]] = defaultdict(list)
    for task_id, done in success.items():
        scenarios[task_id.rpartition("-")[0]].append(done)
    whole = sum(map(all, scenarios.values()))
    return Completion(
        tasks=len(success),
        task_goals=sum(success.values()) / len(success) if success else 0.0,
        scenarios=len(scenarios),
        scenario_goals=whole / len(scenarios) if scenarios else 0.0,
    )
