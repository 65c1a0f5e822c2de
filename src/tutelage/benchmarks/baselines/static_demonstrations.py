"""The same demonstrations at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.runtime.types import Retrieved, Step


@dataclass(frozen=True, slots=True)
class StaticRetriever:
    """Finds the same demonstrations whatever the step: few-shot prompting by hand.

    Args:
        demonstrations: What is shown, the best last.
    """

    demonstrations: Sequence[Retrieved]

    async def search(self, step: Step) -> Sequence[Retrieved]:
        """The demonstrations, but for those of the step's own task."""
        return [
            one
            for one in self.demonstrations
            if one.demonstration.task_id is None or one.demonstration.task_id != step.task_id
        ]
