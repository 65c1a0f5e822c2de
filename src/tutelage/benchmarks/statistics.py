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
    return wilson_share(successes / trials, trials, confidence)


def wilson_share(share: float, trials: float, confidence: float = 0.95) -> Interval:
    """Wilson's interval of a weighted share, whose ``trials`` are an effective sample size.

    Raises:
        ValueError: ``share`` is not in [0, 1], or ``trials`` not above 0.
    """
    if not (0 <= share <= 1 and trials > 0):
        raise ValueError(f"share = {share} of trials = {trials}: give [0, 1] of more than 0")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    reach = z / scale * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At a share of 0 or 1 the exact bound is 0 or 1, which rounding may miss.
    low = 0.0 if share == 0 else max(0.0, centre - reach)
    high = 1.0 if share == 1 else min(1.0, centre + reach)
    return Interval(low, high)


def student_t_quantile(freedom: float, confidence: float = 0.95) -> float:
    """Half width of a two-sided interval in standard errors, by Student's t.

    Three terms of the expansion by Cornish and Fisher (1937): within 1 % from 4 degrees of
    freedom on.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    first = (z**3 + z) / (4 * freedom)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    return z + first + second + third


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Interval of the mean of independent values by Student's t; ``None`` with fewer than two."""
    count = len(values)
    if count < 2:
        return None
    listed = np.asarray(values, dtype=np.float64)
    reach = student_t_quantile(count - 1, confidence) * float(listed.std(ddof=1)) / sqrt(count)
    mean = float(listed.mean())
    return Interval(mean - reach, mean + reach)


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


def paired_difference_interval(
    both: int, only_first: int, only_second: int, neither: int, confidence: float = 0.95
) -> Interval:
    """Interval of ``second - first`` for shares of paired outcomes; [-1, 1] without pairs.

    Wilson's intervals of both shares, joined with their correlation. Source: Newcombe 1998
    (Statistics in Medicine 17:2635), method 10.

    Args:
        both: Pairs that both won.
        only_first: Pairs that only the first won.
        only_second: Pairs that only the second won.
        neither: Pairs that neither won.
        confidence: Of the interval.
    """
    pairs = both + only_first + only_second + neither
    if not pairs:
        return Interval(-1.0, 1.0)
    wins = (both + only_second, both + only_first)
    second, first = (won / pairs for won in wins)
    spread = sqrt(wins[0] * (pairs - wins[0]) * wins[1] * (pairs - wins[1]))
    excess = both * neither - only_first * only_second
    # The correction for continuity counts only where outcomes agree more than by chance.
    corrected = max(excess - pairs / 2, 0.0) if excess > 0 else float(excess)
    correlation = corrected / spread if spread else 0.0
    ends = [wilson_interval(won, pairs, confidence) for won in wins]

    def reach(one: float, other: float) -> float:
        return sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))

    difference = second - first
    return Interval(
        difference - reach(second - ends[0].low, ends[1].high - first),
        difference + reach(ends[0].high - second, first - ends[1].low),
    )
