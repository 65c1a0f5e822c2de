"""Whether a candidate was trained on what it is judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutelage.training.gates.evaluation import Evaluation
from tutelage.training.gates.verdict import Verdict

Similarity = Callable[[Sequence[str], Sequence[str]], NDArray[np.floating]]
"""Evaluation's and training's texts to similarities in [0, 1]: (evaluation, training)."""

_ROWS = 256


@dataclass(frozen=True, slots=True)
class Overlap:
    """Refuses an evaluation that shares a task with training, by id or by similarity.

    It holds for the ids and texts that it is given: lineage must name every task, those of the
    demonstration bank and of earlier generations too. Similarity compares what the agent sees
    first; without a function only ids are compared, and the text says so.

    Args:
        similarity: How alike texts are; ``None``: not compared.
        most: From this similarity on, two tasks are one.
        blocking: Whether it forbids a promotion.
    """

    similarity: Similarity | None = None
    most: float = 0.95
    blocking: bool = True

    def check(self, evaluation: Evaluation) -> Verdict:
        """Compares every task of the evaluation with training."""
        tasks = evaluation.by_task()
        by_id = [task[0].task_id for task in tasks if task[0].task_id in evaluation.training_tasks]
        known = set(by_id)
        pairs = [
            (task[0].task_id, one.text)
            for task in tasks
            for one in task
            if one.text and one.task_id not in known
        ]
        texts = list(evaluation.training_texts)
        highest = self._highest([text for _, text in pairs], texts)
        alike = list(
            dict.fromkeys(
                task_id
                for (task_id, _), value in zip(pairs, highest, strict=True)
                if value >= self.most
            )
        )
        found = [*by_id, *alike]
        if not evaluation.training_tasks and not texts:
            text = "nothing is known of what the candidate was trained on: give its tasks"
            return self._verdict(False, None, text)
        if found:
            more = ", ..." if len(found) > 3 else ""
            text = (
                f"{len(found)} of {len(tasks)} tasks were trained on ({len(by_id)} by id, "
                f"{len(alike)} by similarity): {', '.join(found[:3])}{more}"
            )
        else:
            ways = "id and similarity" if self.similarity is not None and pairs else "id alone"
            text = f"none of {len(tasks)} tasks was trained on, by {ways}"
        return self._verdict(not found, len(found) / len(tasks) if tasks else 0.0, text)

    def _highest(self, ours: list[str], theirs: list[str]) -> list[float]:
        """Highest similarity of each text; a text that is the same letter by letter has 1."""
        exact = set(theirs)
        highest = [1.0 if text in exact else 0.0 for text in ours]
        if self.similarity is None or not theirs:
            return highest if self.similarity is not None else [0.0] * len(ours)
        # In parts: evaluation by training may not fit into memory at once.
        for start in range(0, len(ours), _ROWS):
            table = self.similarity(ours[start : start + _ROWS], theirs)
            for place, value in enumerate(table.max(axis=1)):
                highest[start + place] = max(highest[start + place], float(value))
        return highest

    def _verdict(self, passed: bool, value: float | None, text: str) -> Verdict:
        return Verdict(
            gate="overlap",
            passed=passed,
            blocking=self.blocking,
            value=value,
            threshold=0.0,
            text=text,
        )
