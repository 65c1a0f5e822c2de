"""Tokens that a student writes for a step."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from tutelage.runtime.errors import TrainingError
from tutelage.training.gates.evaluation import Evaluation
from tutelage.training.gates.resampling import quantile, ratio, ratio_of_ratios, resampled_counts
from tutelage.training.gates.verdict import Verdict


@dataclass(frozen=True, slots=True)
class TokensPerStep:
    """Blocks a candidate unless a step is shown to take at most ``most`` times the tokens.

    Tokens that the student wrote over steps of the episode, candidate over current; the bound is a
    one-sided percentile bootstrap over tasks. Preference objectives and reasons make students
    wordy, which costs latency before it costs money.

    Args:
        most: Highest ratio that may pass.
        confidence: One-sided.
        fewest_tasks: Fewer do not pass.
        resamples: How many resamples are drawn.
        seed: Of the resampling.
        blocking: Whether it forbids a promotion.
    """

    most: float = 1.25
    confidence: float = 0.95
    fewest_tasks: int = 20
    resamples: int = 2000
    seed: int = 0
    blocking: bool = True

    def __post_init__(self) -> None:
        if self.most <= 0 or not isfinite(self.most):
            raise TrainingError(f"tokens a step: most = {self.most}: give a ratio above 0")

    def check(self, evaluation: Evaluation) -> Verdict:
        """Compares tokens a step."""
        tasks = evaluation.by_task()
        played = [
            [[getattr(one, arm) for one in task] for task in tasks]
            for arm in ("candidate", "current")
        ]
        tokens = np.array(
            [[float(sum(one.output_tokens for one in task)) for task in arm] for arm in played]
        )
        steps = np.array(
            [[float(sum(one.steps for one in task)) for task in arm] for arm in played]
        )
        if not tokens[1].any():
            # A student that was never asked, or tokens that nobody counted.
            counted = bool(tokens[0].any())
            text = "the current student wrote no token: there is nothing to compare with"
            return self._verdict(not counted or not len(tasks), None, None, text, blocking=False)
        if len(tasks) < self.fewest_tasks:
            few = f"{len(tasks)} tasks are too few: play at least {self.fewest_tasks}"
            return self._verdict(False, None, None, few, self.blocking)
        per_step = [ratio(float(tokens[i].sum()), float(steps[i].sum())) for i in (0, 1)]
        value = ratio(*per_step)
        bound = quantile(
            ratio_of_ratios(
                (tokens[0], steps[0]),
                (tokens[1], steps[1]),
                resampled_counts(len(tasks), self.resamples, self.seed),
            ),
            self.confidence,
        )
        text = (
            f"{per_step[0]:.1f} tokens a step against {per_step[1]:.1f}: {value:.3g} times, "
            f"at most {bound:.3g} with confidence {self.confidence:g}"
        )
        return self._verdict(bound <= self.most and value < inf, value, bound, text, self.blocking)

    def _verdict(
        self, passed: bool, value: float | None, bound: float | None, text: str, blocking: bool
    ) -> Verdict:
        return Verdict(
            gate="tokens a step",
            passed=passed,
            blocking=blocking,
            value=value,
            bound=bound,
            threshold=self.most,
            text=text,
        )
