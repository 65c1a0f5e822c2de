"""Held-out success: not worse, and better."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.runtime.errors import TrainingError
from tutelage.training.gates.evaluation import Evaluation
from tutelage.training.gates.paired import (
    lower_bound,
    mean_lower_bound,
    mean_p_value,
    p_value,
    pairs_needed,
    sign_test,
)
from tutelage.training.gates.verdict import Verdict


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """Blocks a candidate unless it is shown to lose less than a margin of success.

    One episode a task: the exact test of ``paired.p_value``. Tasks played repeatedly: a bound of
    the mean of the tasks' differences, which holds for any number of tasks and costs power.
    A candidate that is worse by the margin or more passes with a probability of at most
    ``1 - confidence``, over the choice of independent tasks. An equal one is blocked where tasks
    are too few; the text says how many it takes.

    Args:
        margin: Success that may be lost, as a share of tasks, in (0, 1).
        confidence: One-sided.
        blocking: Whether it forbids a promotion.
    """

    margin: float = 0.10
    confidence: float = 0.95
    blocking: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1:
            raise TrainingError(f"non-inferiority: margin = {self.margin}: give a share, as in 0.1")
        _check_confidence("non-inferiority", self.confidence)

    def check(self, evaluation: Evaluation) -> Verdict:
        """Compares success on all tasks."""
        differences = _differences(evaluation)
        tasks, delta = len(differences), 1 - self.confidence
        if not tasks:
            return self._verdict(False, None, -1.0, "no task was played by both students")
        mean = sum(differences) / tasks
        wins, losses = _discordant(differences)
        if len(evaluation.episodes) == tasks:
            passed = p_value(wins, losses, tasks, -self.margin) <= delta
            bound = lower_bound(wins, losses, tasks, delta)
        else:
            halves = [(one + 1) / 2 for one in differences]
            passed = mean_p_value(halves, (1 - self.margin) / 2) <= delta
            bound = 2 * mean_lower_bound(halves, delta) - 1
        text = (
            f"success {mean:+.3f} on {tasks} tasks ({wins} won, {losses} lost against the current "
            f"student), at least {bound:+.3f} with confidence {self.confidence:g}"
        )
        if passed:
            return self._verdict(True, mean, bound, text)
        if mean > -self.margin:
            share = max(0.05, sum(abs(one) for one in differences) / tasks)
            needed = max(tasks + 1, pairs_needed(share, self.margin, delta))
            text += f"; too few tasks to tell: an equal student needs about {needed}"
        return self._verdict(False, mean, bound, text)

    def _verdict(self, passed: bool, value: float | None, bound: float, text: str) -> Verdict:
        return Verdict(
            gate="non-inferiority",
            passed=passed,
            blocking=self.blocking,
            value=value,
            bound=bound,
            threshold=-self.margin,
            text=text,
        )


@dataclass(frozen=True, slots=True)
class Improvement:
    """Says whether the candidate is shown to solve more: McNemar's exact test, one-sided.

    With repeats of a task, a task counts for who won it more often (sign test). A candidate that is
    not better passes with a probability of at most ``1 - confidence``. Warns by default: a release
    that solves as much for less is worth promoting.
    """

    confidence: float = 0.95
    blocking: bool = False

    def __post_init__(self) -> None:
        _check_confidence("improvement", self.confidence)

    def check(self, evaluation: Evaluation) -> Verdict:
        """Compares success on all tasks."""
        differences = _differences(evaluation)
        wins, losses = _discordant(differences)
        p = sign_test(wins, losses)
        return Verdict(
            gate="improvement",
            passed=p <= 1 - self.confidence + 1e-12,
            blocking=self.blocking,
            value=sum(differences) / len(differences) if differences else None,
            bound=p,
            threshold=1 - self.confidence,
            text=f"the candidate does better on {wins} tasks and worse on {losses}: p = {p:.3g}",
        )


def _differences(evaluation: Evaluation) -> list[float]:
    """Success of the candidate minus that of the current student, by task, in [-1, 1]."""
    return [
        sum(one.candidate.success - one.current.success for one in task) / len(task)
        for task in evaluation.by_task()
    ]


def _discordant(differences: list[float]) -> tuple[int, int]:
    return sum(one > 0 for one in differences), sum(one < 0 for one in differences)


def _check_confidence(gate: str, confidence: float) -> None:
    if not 0.5 < confidence < 1:
        raise TrainingError(f"{gate}: confidence = {confidence}: give a probability, as in 0.95")
