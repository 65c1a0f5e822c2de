"""Gains over plain fine-tuning with their intervals, and the verdict fixed before any run."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tutelage.training.objectives.trial.arms import ARMS, BUDGET, CONTROL, Arm, ArmRun, run_arm

SEEDS: Final = 5
LEVEL: Final = 0.9
"""An objective passes where its mean paired gain in success is above 0 and so is the lower end of
the bootstrap interval of this level over seeds."""
RESAMPLES: Final = 10_000


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm over all seeds."""

    arm: Arm
    runs: tuple[ArmRun, ...]
    gains: tuple[float, ...]
    """Success over that of the control with the same seed."""
    interval: tuple[float, float]

    @property
    def mean_gain(self) -> float:
        """Of success, paired by seed."""
        return sum(self.gains) / len(self.gains)

    @property
    def passes(self) -> bool:
        """Whether it beats plain fine-tuning at equal tokens."""
        return self.mean_gain > 0 and self.interval[0] > 0

    @property
    def verdict(self) -> str:
        """In one word."""
        if self.arm.control:
            return "control"
        if self.passes:
            return "better"
        return "worse" if self.interval[1] < 0 else "not shown"

    def mean(self, measure: str) -> float:
        """Mean over seeds of a field of ``Golden``."""
        return sum(float(getattr(run.golden, measure)) for run in self.runs) / len(self.runs)

    def as_json(self) -> dict[str, object]:
        """For a file."""
        return {
            "arm": self.arm.name,
            "objective": self.arm.objective,
            "verdict": self.verdict,
            "mean_gain": self.mean_gain,
            "interval": list(self.interval),
            "success": [run.golden.success for run in self.runs],
            "accuracy": [run.golden.accuracy for run in self.runs],
            "auroc": [run.golden.auroc for run in self.runs],
            "golden_kl": [run.golden.kl for run in self.runs],
            "tokens": [run.tokens for run in self.runs],
            "figures": [dict(run.figures) for run in self.runs],
        }


def compare(
    arms: Sequence[Arm] = ARMS,
    seeds: int = SEEDS,
    budget: int = BUDGET,
    watch: Callable[[str], None] | None = None,
    first_seed: int = 0,
) -> list[ArmResult]:
    """Trains every arm with every seed.

    Args:
        arms: The first one with the control's name is what the others are compared with.
        seeds: Worlds, traces and first weights.
        budget: Tokens through the student, for each arm alike.
        watch: Called with the arm's name after each training.
        first_seed: Others than those that settings were chosen with.
    """
    runs: dict[str, list[ArmRun]] = {arm.name: [] for arm in arms}
    for seed in range(first_seed, first_seed + seeds):
        for arm in arms:
            runs[arm.name].append(run_arm(arm, seed, budget))
            if watch is not None:
                watch(arm.name)
    control = [run.golden.success for run in runs[CONTROL]]
    results = []
    for arm in arms:
        pairs = zip(runs[arm.name], control, strict=True)
        gains = tuple(run.golden.success - base for run, base in pairs)
        results.append(ArmResult(arm, tuple(runs[arm.name]), gains, interval(gains)))
    return results


def interval(gains: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Percentile bootstrap of the mean; with few seeds it is somewhat too narrow.

    Args:
        gains: One a seed.
        level: Share of the resampled means inside.
    """
    draw = random.Random(0)
    means = sorted(sum(draw.choices(gains, k=len(gains))) / len(gains) for _ in range(RESAMPLES))
    outside = round((1 - level) / 2 * RESAMPLES)
    return means[outside], means[-1 - outside]
