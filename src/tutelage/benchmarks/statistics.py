"""Intervals and tests for shares of won episodes and for ratios of sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, inf, sqrt
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval; ``high`` may be infinite."""

    low: float
    high: float


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Interval of a share by Wilson's score (1927); the whole of [0, 1] without trials.

    Raises:
        ValueError: ``successes`` is not in [0, ``trials``].
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes = {successes} is not in [0, {trials}]")
    if trials == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    reach = z / scale * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At a share of 0 or 1 the exact bound is 0 or 1, which rounding may miss.
    low = 0.0 if successes == 0 else max(0.0, centre - reach)
    high = 1.0 if successes == trials else min(1.0, centre + reach)
    return Interval(low, high)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided p of McNemar's exact test for paired outcomes.

    Args:
        only_first: Pairs that only the first arm won.
        only_second: Pairs that only the second arm won.
    """
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    tail = sum(comb(discordant, k) for k in range(min(only_first, only_second) + 1))
    # Whole numbers up to the division: 2 ** discordant overflows a float early.
    return min(1.0, 2 * tail / (1 << discordant))


def bootstrap_ratio(
    numerators: Sequence[float],
    denominators: Sequence[float],
    generator: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Interval | None:
    """Percentile bootstrap interval of ``sum(numerators) / sum(denominators)``.

    Units are resampled whole, so repeats of one task must be summed into one unit before.
    A resample whose denominators sum to 0 counts as infinite. ``None`` with fewer than two units.

    Args:
        numerators: (units,), e.g. USD spent on each task.
        denominators: (units,), e.g. episodes of each task that were won.
        generator: Source of the resampling.
        confidence: Share of resamples inside the interval.
        resamples: How many resamples are drawn.
    """
    if len(numerators) != len(denominators):
        raise ValueError("numerators and denominators differ in length")
    units = len(numerators)
    if units < 2:
        return None
    picks = generator.integers(0, units, size=(resamples, units))
    above = np.asarray(numerators, dtype=np.float64)[picks].sum(axis=1)
    below = np.asarray(denominators, dtype=np.float64)[picks].sum(axis=1)
    ratios = np.full(resamples, inf)
    np.divide(above, below, out=ratios, where=below > 0)
    ratios.sort()
    # Order statistics instead of interpolation: inf - inf would be NaN.
    tail = (1 - confidence) / 2
    last = resamples - 1
    return Interval(float(ratios[round(tail * last)]), float(ratios[round((1 - tail) * last)]))
