"""Cost per solved task."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal

import numpy as np

from tutelage.runtime.errors import TrainingError
from tutelage.training.gates.evaluation import Evaluation, PlayedEpisode
from tutelage.training.gates.resampling import quantile, ratio, ratio_of_ratios, resampled_counts
from tutelage.training.gates.verdict import Verdict

Pricing = Literal["cached", "uncached"]
"""Cached tokens at their own price, or every prompt token at the full input price."""


@dataclass(frozen=True, slots=True)
class CostPerSolved:
    """Blocks a candidate unless a solved task is shown to cost at most ``most`` times as much.

    All USD over all solved tasks, failed episodes included, candidate over current; the bound is a
    percentile bootstrap over tasks, one-sided, which is approximate: at 40 tasks and more it keeps
    its confidence within a few points. Where neither student cost anything there is nothing to
    judge, and it passes.

    Args:
        most: Highest ratio that may pass.
        confidence: One-sided.
        pricing: Which costs.
        fewest_tasks: Fewer do not pass: the bootstrap says nothing of them.
        resamples: How many resamples are drawn.
        seed: Of the resampling.
        blocking: Whether it forbids a promotion.
    """

    most: float = 1.25
    confidence: float = 0.95
    pricing: Pricing = "cached"
    fewest_tasks: int = 20
    resamples: int = 2000
    seed: int = 0
    blocking: bool = True

    def __post_init__(self) -> None:
        if self.most <= 0 or not isfinite(self.most):
            raise TrainingError(f"cost per solved task: most = {self.most}: give a ratio above 0")

    def check(self, evaluation: Evaluation) -> Verdict:
        """Compares cost per solved task."""
        tasks = evaluation.by_task()
        usd = np.array(
            [
                [sum(self._usd(one.candidate) for one in task) for task in tasks],
                [sum(self._usd(one.current) for one in task) for task in tasks],
            ]
        )
        solved = np.array(
            [
                [float(sum(one.candidate.success for one in task)) for task in tasks],
                [float(sum(one.current.success for one in task)) for task in tasks],
            ]
        )
        if not usd.any() and tasks:
            return self._verdict(True, None, None, "neither student cost anything: no prices given")
        if len(tasks) < self.fewest_tasks:
            few = f"{len(tasks)} tasks are too few: play at least {self.fewest_tasks}"
            return self._verdict(False, None, None, few)
        per_solved = [ratio(float(usd[i].sum()), float(solved[i].sum())) for i in (0, 1)]
        if per_solved[0] == inf:
            return self._verdict(False, None, None, "the candidate solved no task")
        value = ratio(*per_solved)
        bound = quantile(
            ratio_of_ratios(
                (usd[0], solved[0]),
                (usd[1], solved[1]),
                resampled_counts(len(tasks), self.resamples, self.seed),
            ),
            self.confidence,
        )
        before = f"{per_solved[1]:.4g} USD" if per_solved[1] < inf else "nothing solved"
        text = (
            f"{per_solved[0]:.4g} USD a solved task against {before} ({self.pricing} prices): "
            f"{value:.3g} times, at most {bound:.3g} with confidence {self.confidence:g}"
        )
        return self._verdict(bound <= self.most, value, bound, text)

    def _usd(self, played: PlayedEpisode) -> float:
        return played.cost_usd if self.pricing == "cached" else played.uncached_cost_usd

    def _verdict(
        self, passed: bool, value: float | None, bound: float | None, text: str
    ) -> Verdict:
        return Verdict(
            gate="cost per solved task",
            passed=passed,
            blocking=self.blocking,
            value=value,
            bound=bound,
            threshold=self.most,
            text=text,
        )
