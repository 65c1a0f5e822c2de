"""Savings and quality from traffic in which some episodes go to the teacher alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, hypot, inf, sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.cascade.bounds import Interval, wilson

Array = NDArray[np.float64]
Pricing = Literal["cached", "uncached"]
"""Cached tokens at their own price, or every prompt token at the full input price."""

_FEWEST_RESAMPLES = 100


@dataclass(frozen=True, slots=True)
class EpisodeEvidence:
    """One finished episode of traffic in which some episodes go to the teacher alone."""

    episode_id: str
    holdout: bool
    """Whether it was drawn to go to the teacher alone."""
    propensity: float
    """Probability that it had of being a holdout, as recorded when it was drawn; in (0, 1)."""
    cost_usd: float
    """All components, cached tokens at their own price."""
    uncached_cost_usd: float
    """The same tokens with every prompt token at the full input price."""
    success: bool | None = None
    """``None`` until feedback arrived."""

    def __post_init__(self) -> None:
        if not 0 < self.propensity < 1:
            raise ValueError(
                f"episode {self.episode_id}: propensity = {self.propensity} is not between 0 and "
                "1: both arms must be possible, or the comparison says nothing"
            )


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval, which is infinite where none can be made."""

    value: float
    interval: Interval
    method: str
    """How the interval was made."""
    units: int
    """Independent units it rests on."""


@dataclass(frozen=True, slots=True)
class Savings:
    """What the cascade saves against the teacher alone, under one pricing."""

    pricing: Pricing
    teacher_usd: float
    """Mean cost of an episode of the teacher alone."""
    cascade_usd: float
    """Mean cost of an episode of the cascade."""
    usd: Estimate
    """Saved USD per episode."""
    share: Estimate
    """Saved USD over the teacher's."""


@dataclass(frozen=True, slots=True)
class QualityDifference:
    """Success of the cascade minus success of the teacher alone."""

    teacher_rate: float
    cascade_rate: float
    difference: Estimate
    unknown: int
    """Episodes without feedback, left out; feedback that depends on the arm biases the figures."""


def savings(
    episodes: Sequence[EpisodeEvidence],
    pricing: Pricing,
    *,
    generator: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Savings | None:
    """Savings per episode, and as a share of what the teacher alone costs.

    Inverse propensity weighting (Hajek): the mean cost of an arm is ``sum(w cost) / sum(w)`` with
    ``w = 1 / propensity`` for holdouts and ``1 / (1 - propensity)`` for the others. With one
    propensity for all it is the difference of plain means, which is unbiased given the sizes of the
    arms; with several the bias is of order 1 / n. Intervals: bootstrap-t on the log scale, since
    costs are skewed and holdouts few: episodes are resampled within the arms, studentised by the
    linearised standard error and widened by Student's t of the smaller arm. The share's comes from
    the ratio of costs; the difference's joins intervals of both means (MOVER). Assumes independent
    episodes and a draw that did not look at the outcome. Sources: Hajek 1971; Efron and Tibshirani
    1993, chapter 12; Zou and Donner 2008.

    Args:
        episodes: Finished episodes of both arms.
        pricing: Which costs, in both arms.
        generator: Source of the resampling.
        confidence: Of the intervals.
        resamples: How many resamples are drawn.

    Returns:
        ``None`` if an arm has fewer than 2 episodes.
    """
    sampled = []
    for holdout in (True, False):
        drawn = [episode for episode in episodes if episode.holdout is holdout]
        if len(drawn) < 2:
            return None
        costs = np.array(
            [one.cost_usd if pricing == "cached" else one.uncached_cost_usd for one in drawn]
        )
        sampled.append(_resampled(costs, _weights(drawn), generator, resamples))
    teacher, cascade = sampled
    fewest = min(sum(one.holdout for one in episodes), sum(not one.holdout for one in episodes))
    stretch = _stretch(fewest - 1, confidence)
    high, low = (_mean_interval(one, confidence, stretch) for one in sampled)
    saved = teacher.mean - cascade.mean
    below = hypot(teacher.mean - high.low, low.high - cascade.mean)
    above = hypot(high.high - teacher.mean, cascade.mean - low.low)
    share = 1 - cascade.mean / teacher.mean if teacher.mean else 0.0
    usd, units = Interval(saved - below, saved + above), len(episodes)
    return Savings(
        pricing,
        teacher.mean,
        cascade.mean,
        usd=Estimate(saved, usd, "bootstrap-t", units),
        share=Estimate(
            share, _share_interval(teacher, cascade, confidence, stretch), "bootstrap-t", units
        ),
    )


def quality_difference(
    episodes: Sequence[EpisodeEvidence], *, confidence: float = 0.95
) -> QualityDifference | None:
    """Success rate of the cascade minus that of the teacher alone.

    Rates are Hajek means, as in ``savings``. Interval: Newcombe's hybrid of two Wilson intervals at
    the effective sample sizes ``(sum w)^2 / sum w^2``; it keeps its coverage at rates near 0 and
    1, where a normal interval does not. Assumes independent episodes and feedback that does not
    depend on the arm. Sources: Newcombe 1998, method 10; Kish 1965 (effective sample size).

    Returns:
        ``None`` if an arm has no episode with feedback.
    """
    known = [episode for episode in episodes if episode.success is not None]
    rates, intervals = [], []
    for holdout in (True, False):
        drawn = [episode for episode in known if episode.holdout is holdout]
        if not drawn:
            return None
        weights = _weights(drawn)
        won = np.array([bool(episode.success) for episode in drawn], dtype=np.float64)
        rate = float(weights @ won / weights.sum())
        effective = float(weights.sum() ** 2 / (weights**2).sum())
        rates.append(rate)
        intervals.append(wilson(min(rate * effective, effective), effective, confidence))
    (teacher, cascade), (of_teacher, of_cascade) = rates, intervals
    value = cascade - teacher
    low = value - sqrt((cascade - of_cascade.low) ** 2 + (of_teacher.high - teacher) ** 2)
    high = value + sqrt((of_cascade.high - cascade) ** 2 + (teacher - of_teacher.low) ** 2)
    return QualityDifference(
        teacher,
        cascade,
        Estimate(value, Interval(low, high), "newcombe", len(known)),
        unknown=len(episodes) - len(known),
    )


def _weights(episodes: Sequence[EpisodeEvidence]) -> Array:
    return np.array(
        [1 / (one.propensity if one.holdout else 1 - one.propensity) for one in episodes]
    )


@dataclass(frozen=True, slots=True)
class _Mean:
    """A Hajek mean with its error, and the same of every resample."""

    mean: float
    error: float
    """Linearised standard error over the mean: that of the mean's logarithm."""
    means: Array
    """(resamples,)."""
    errors: Array
    """(resamples,)."""


def _resampled(
    values: Array, weights: Array, generator: np.random.Generator, resamples: int
) -> _Mean:
    picks = generator.integers(0, len(values), size=(resamples, len(values)))
    mean, error = _moments(values[None], weights[None])
    means, errors = _moments(values[picks], weights[picks])
    return _Mean(float(mean[0]), float(error[0]), means, errors)


def _moments(values: Array, weights: Array) -> tuple[Array, Array]:
    total = weights.sum(axis=1)
    mean = (weights * values).sum(axis=1) / total
    units = values.shape[1]
    squares = ((weights * (values - mean[:, None])) ** 2).sum(axis=1)
    error = np.sqrt(squares * units / (units - 1)) / total
    return mean, np.divide(error, mean, out=np.zeros_like(error), where=mean > 0)


def _mean_interval(one: _Mean, confidence: float, stretch: float) -> Interval:
    if not one.error:
        return Interval(one.mean, one.mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.log(one.means / one.mean) / one.errors
    low, high = _quantiles(scores, confidence)
    reach = one.error * stretch
    return Interval(one.mean * exp(-high * reach), one.mean * exp(-low * reach))


def _share_interval(teacher: _Mean, cascade: _Mean, confidence: float, stretch: float) -> Interval:
    if not teacher.mean:
        return Interval(-inf, 1.0)
    ratio = cascade.mean / teacher.mean
    error = hypot(teacher.error, cascade.error)
    if not error or not ratio:
        return Interval(1 - ratio, 1 - ratio)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(cascade.means / teacher.means / ratio)
        scores = logs / np.hypot(teacher.errors, cascade.errors)
    low, high = _quantiles(scores, confidence)
    reach = error * stretch
    return Interval(1 - ratio * exp(-low * reach), 1 - ratio * exp(-high * reach))


def _quantiles(scores: Array, confidence: float) -> tuple[float, float]:
    """Of the finite scores; those of a normal variable where too few are finite."""
    scores = np.sort(scores[np.isfinite(scores)])
    tail = (1 - confidence) / 2
    if len(scores) < _FEWEST_RESAMPLES:
        z = NormalDist().inv_cdf(1 - tail)
        return -z, z
    last = len(scores) - 1
    return float(scores[round(tail * last)]), float(scores[round((1 - tail) * last)])


def _stretch(freedom: int, confidence: float) -> float:
    """Quantile of Student's t over that of the normal (Cornish and Fisher 1937, two terms)."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    return 1 + (z**2 + 1) / (4 * freedom) + (5 * z**4 + 16 * z**2 + 3) / (96 * freedom**2)
