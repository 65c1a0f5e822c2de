"""What another policy would have cost and won, from episodes that were drawn with known chances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, sqrt

import numpy as np
from numpy.typing import NDArray

from tutelage.benchmarks.statistics import Interval, student_t_quantile, wilson_share
from tutelage.runtime.errors import BenchmarkError

LEAST_EFFECTIVE = 10.0
"""Effective episodes below which no estimate is given."""


@dataclass(frozen=True, slots=True)
class WeightedEpisode:
    """One recorded episode under the policy that is asked about."""

    episode_id: str
    weight: float
    """Probability of its decisions under the other policy over that under the recorded one."""
    value: float
    """Its cost in USD, 0 or more; or 1 for a success and 0 for a failure."""

    def __post_init__(self) -> None:
        if not 0 <= self.value < inf:
            raise ValueError(f"episode {self.episode_id}: value = {self.value}: give 0 or more")
        if not 0 <= self.weight < inf:
            raise ValueError(f"episode {self.episode_id}: weight = {self.weight}: give 0 or more")


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """A mean over episodes with its interval."""

    value: float
    interval: Interval
    method: str
    """``exact``: nothing but which episodes came is left to chance."""
    episodes: int
    """Recorded episodes that were weighed."""
    used: int
    """Those of them with a weight above 0."""
    effective: float
    """Kish's effective sample size, at most ``used``."""


def step_weight(chances: Sequence[tuple[bool, float]], arm: float = 1.0) -> float:
    """The importance weight of an episode for a policy that leaves nothing to chance.

    ``1{all steps the same} / (arm * product of the chances)``. Source: Precup, Sutton and Singh
    2000, importance sampling over trajectories.

    Args:
        chances: For each step whether the other policy decides the same, and the probability in
            (0, 1] with which the recorded decision was made; 1 where nothing was tossed.
        arm: Probability in (0, 1] with which the episode was drawn into its arm.

    Raises:
        ValueError: A probability is outside (0, 1].
    """
    weight = 1.0
    for _, chance in [(True, arm), *chances]:
        if not 0 < chance <= 1:
            raise ValueError(f"chance = {chance} is not in (0, 1]")
        weight /= chance
    return weight if all(same for same, _ in chances) else 0.0


def policy_value(
    episodes: Sequence[WeightedEpisode],
    *,
    is_share: bool = False,
    confidence: float = 0.95,
    least_effective: float = LEAST_EFFECTIVE,
) -> PolicyValue:
    """Self-normalised importance weighting: ``sum(w y) / sum(w)``.

    Its bias is of order 1 / effective episodes; the plain weighted mean has none but varies far
    more. Interval: jackknife standard error times Student's t with ``(sum w^2)^2 / sum w^4``
    degrees of freedom but one, which is how many episodes the error itself rests on, on the log
    scale since costs are skewed. For shares it is Wilson's at the smaller of Kish's size
    ``(sum w)^2 / sum w^2`` and the size that the standard error amounts to. Assumes independent
    episodes. Sources: Hajek 1971; Swaminathan and Joachims 2015 (self-normalised estimator);
    MacKinnon and White 1985 (HC3, the jackknife's error); Satterthwaite 1946 (degrees of freedom);
    Kish 1965.

    Args:
        episodes: Those that the recorded policy drew, those of weight 0 included.
        is_share: Whether values are 0 or 1.
        confidence: Of the interval.
        least_effective: Effective episodes below which none is given.

    Raises:
        BenchmarkError: There are too few effective episodes; the text says how many are needed.
    """
    weights = np.array([one.weight for one in episodes], dtype=np.float64)
    values = np.array([one.value for one in episodes], dtype=np.float64)
    used = int((weights > 0).sum())
    effective = effective_size(weights)
    if effective < max(least_effective, 2.0):
        raise BenchmarkError(_too_few(len(episodes), effective, max(least_effective, 2.0)))
    total = weights.sum()
    value = float(weights @ values / total)
    leverage = weights / total
    error = sqrt(float(((leverage * (values - value) / (1 - leverage)) ** 2).sum()))
    if is_share:
        # Rounding may put the mean of equal outcomes past 1.
        value = min(max(value, 0.0), 1.0)
        spread = value * (1 - value)
        size = min(effective, spread / error**2) if spread and error else effective
        interval, method = wilson_share(value, size, confidence), "self-normalised, Wilson"
    else:
        reach = student_t_quantile(_freedom(weights), confidence) * error
        # Costs are skewed to the right: on the log scale the upper end is the farther one.
        stretch = exp(min(reach / value, 700.0)) if value > 0 else 1.0
        interval, method = Interval(value / stretch, value * stretch), "self-normalised, t"
    if np.ptp(weights) == 0:
        method = f"exact, {method.split(', ')[1]}"
    return PolicyValue(value, interval, method, len(episodes), used, effective)


def estimate_lines(
    method: str | None,
    cached: PolicyValue | None,
    uncached: PolicyValue | None,
    success: PolicyValue | None,
    missing: str | None,
) -> list[str]:
    """What an episode would cost and how often it would succeed, as lines for a person.

    Args:
        method: How the values were found; ``None``: they were not.
        cached: USD of an episode with prompt caches.
        uncached: USD of an episode without.
        success: Share of episodes.
        missing: Why a value is missing.
    """
    if cached is None or uncached is None:
        return [f"no estimate of cost and success: {missing}"]
    told = [
        f"an episode costs, {title}: ${value.value:.5f} (${value.interval.low:.5f} to "
        f"${value.interval.high:.5f}), {method}, worth {value.effective:.1f} episodes"
        for title, value in (("with prompt caches", cached), ("uncached", uncached))
    ]
    if success is None:
        return [*told, f"success: no estimate; {missing}"]
    ends = success.interval
    return [*told, f"success: {success.value:.3f} ({ends.low:.3f} to {ends.high:.3f}), {method}"]


def effective_size(weights: NDArray[np.float64]) -> float:
    """Kish's effective sample size ``(sum w)^2 / sum w^2``; 0 where all weights are."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def _freedom(weights: NDArray[np.float64]) -> float:
    """Degrees of freedom of the error of a weighted mean, at least 1."""
    squares = weights**2
    return max(1.0, effective_size(squares) - 1)


def _too_few(episodes: int, effective: float, needed: float) -> str:
    if effective:
        more = f"about {int(np.ceil(episodes * needed / effective))} recorded episodes are needed"
    else:
        more = "none of them did what it would do"
    return (
        f"{episodes} recorded episodes are worth {effective:.1f} of this policy, fewer than "
        f"{needed:g}: {more}; raise evidence.holdout, or let cascade.policy = 'explore' serve some"
    )
