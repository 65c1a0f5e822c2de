"""Finite-sample bounds and tests for rates and means of bounded losses."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, e, exp, expm1, lgamma, log, log1p, sqrt
from statistics import NormalDist

_BISECTIONS = 45
"""To 3e-14, below the error of the incomplete beta function."""
_TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


def binomial_cdf(successes: int, trials: int, rate: float) -> float:
    """``P(X <= successes)`` for ``X ~ Binomial(trials, rate)``.

    The regularised incomplete beta function ``I_{1 - rate}(trials - successes, successes + 1)``,
    by Lentz's continued fraction (DLMF 8.17.5 and 8.17.22).
    """
    _check_count(successes, trials)
    if successes == trials or rate <= 0:
        return 1.0
    if rate >= 1:
        return 0.0
    return _incomplete_beta(trials - successes, successes + 1, 1 - rate)


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The value that a Beta(a, b) variable stays below with a probability, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _incomplete_beta(a, b, middle) < probability:
            low = middle
        else:
            high = middle
    return high


def binomial_p_value(errors: int, units: int, alpha: float) -> float:
    """Exact p-value of "the error rate exceeds ``alpha``": ``P(Bin(units, alpha) <= errors)``.

    Assumes independent units with 0/1 errors. Source: Clopper and Pearson 1934; as used in
    Learn-then-Test (arXiv 2110.01052). Without units the p-value is 1.
    """
    return binomial_cdf(errors, units, alpha)


def upper_bound(errors: int, units: int, delta: float) -> float:
    """One-sided Clopper-Pearson upper bound of an error rate at confidence ``1 - delta``.

    The rate ``p`` with ``P(Bin(units, p) <= errors) = delta``; 1 without units. Assumes
    independent units. Source: Clopper and Pearson 1934.
    """
    _check_count(errors, units)
    _check_level("delta", delta)
    if errors == units:
        return 1.0
    if errors == 0:
        return -expm1(log(delta) / units)
    low, high = errors / units, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if binomial_cdf(errors, units, middle) > delta:
            low = middle
        else:
            high = middle
    return high


def lower_bound(errors: int, units: int, delta: float) -> float:
    """One-sided Clopper-Pearson lower bound of a rate at confidence ``1 - delta``; 0 without units.

    The mirror of ``upper_bound``: one minus the upper bound of the rate of the other outcome.
    """
    return 1.0 - upper_bound(units - errors, units, delta) if units else 0.0


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Two-sided exact interval of a rate: never covers less than ``confidence``.

    Both one-sided bounds at ``(1 - confidence) / 2``. Source: Clopper and Pearson 1934.
    """
    tail = (1 - confidence) / 2
    return Interval(lower_bound(successes, trials, tail), upper_bound(successes, trials, tail))


def wilson(successes: float, trials: float, confidence: float = 0.95) -> Interval:
    """Two-sided score interval of a rate; the whole of [0, 1] without trials.

    Approximate: covers ``confidence`` on average over rates, not at each. Counts may be fractions,
    as weighted samples have them. Source: Wilson 1927.

    Raises:
        ValueError: ``successes`` is not in [0, ``trials``].
    """
    _check_count(successes, trials)
    if trials == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    reach = z / scale * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At a share of 0 or 1 the score bound is 0 or 1, which rounding may miss.
    low = 0.0 if successes == 0 else max(0.0, centre - reach)
    high = 1.0 if successes == trials else min(1.0, centre + reach)
    return Interval(low, high)


def hoeffding_bentkus_p_value(mean: float, units: int, alpha: float) -> float:
    """P-value of "the mean loss exceeds ``alpha``" for independent losses in [0, 1].

    ``min(exp(-n h(min(mean, alpha), alpha)), e P(Bin(n, alpha) <= ceil(n mean)))`` with
    ``h(a, b) = a log(a / b) + (1 - a) log((1 - a) / (1 - b))``. Source: Bates et al. 2021
    (arXiv 2101.02703) and Learn-then-Test (arXiv 2110.01052), section on the
    Hoeffding-Bentkus inequality.

    Raises:
        ValueError: ``mean`` is outside [0, 1], ``alpha`` outside (0, 1) or ``units`` negative.
    """
    if not 0 <= mean <= 1:
        raise ValueError(f"mean = {mean} is not in [0, 1]")
    _check_count(0, units)
    _check_level("alpha", alpha)
    if mean >= alpha or units == 0:
        return 1.0
    # Sums of losses carry rounding: 3.0000000000000004 errors are 3.
    errors = min(units, ceil(units * mean - 1e-9))
    hoeffding = exp(-units * _relative_entropy(mean, alpha))
    return min(1.0, hoeffding, e * binomial_cdf(errors, units, alpha))


def bounded_upper_bound(mean: float, units: int, delta: float) -> float:
    """Upper bound of a mean loss in [0, 1] at confidence ``1 - delta``; 1 without units.

    The largest mean that ``hoeffding_bentkus_p_value`` does not reject at ``delta``.
    """
    _check_level("delta", delta)
    if hoeffding_bentkus_p_value(mean, units, 1 - 1e-12) > delta:
        return 1.0
    low, high = mean, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if hoeffding_bentkus_p_value(mean, units, middle) > delta:
            low = middle
        else:
            high = middle
    return high


def zero_error_size(alpha: float, delta: float) -> int:
    """Least number of units that certifies a rate of at most ``alpha`` if none of them errs.

    ``ceil(log(delta) / log(1 - alpha))``: 59, 149 and 299 for ``alpha`` 0.05, 0.02 and 0.01 at
    ``delta`` 0.05.
    """
    _check_level("alpha", alpha)
    _check_level("delta", delta)
    return max(1, ceil(log(delta) / log1p(-alpha) - 1e-12))


def certifying_size(errors: int, alpha: float, delta: float) -> int:
    """Least number of units with which ``errors`` errors still certify a rate of ``alpha``.

    The least ``n`` with ``P(Bin(n, alpha) <= errors) <= delta``.
    """
    low = high = zero_error_size(alpha, delta) + errors
    while binomial_cdf(errors, high, alpha) > delta:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        if binomial_cdf(errors, middle, alpha) > delta:
            low = middle + 1
        else:
            high = middle
    return high


def unpaired_difference_bound(
    first_successes: int, first_trials: int, second_successes: int, second_trials: int, delta: float
) -> float:
    """Upper bound of ``p_first - p_second`` at confidence ``1 - delta``, for separate samples.

    Clopper-Pearson upper bound of the first rate minus the lower bound of the second, with
    ``delta`` split between them (union bound), so it holds at every sample size. The split depends
    on the sample sizes alone: it minimises ``z(d1) / sqrt(n1) + z(d2) / sqrt(n2)`` over a grid,
    which gives the smaller sample the larger part.
    """
    if not first_trials or not second_trials:
        return 1.0
    part = delta * _split(first_trials, second_trials, delta)
    high = upper_bound(first_successes, first_trials, part)
    return high - lower_bound(second_successes, second_trials, delta - part)


def paired_difference_bound(
    only_first: int, only_second: int, pairs: int, delta: float, share: float = 0.5
) -> float:
    """Upper bound of ``p_first - p_second`` at confidence ``1 - delta``, for paired outcomes.

    The difference is ``P(only the first wins) - P(only the second wins)``: an upper Clopper-Pearson
    bound of the former at ``share * delta`` minus a lower bound of the latter at the rest (union
    bound). Assumes independent pairs.

    Args:
        only_first: Pairs that only the first arm won.
        only_second: Pairs that only the second arm won.
        pairs: All pairs.
        delta: Allowed probability that the bound is wrong.
        share: Part of ``delta`` for the first bound; to be fixed before the data are seen.
    """
    _check_count(only_first + only_second, pairs)
    lost = upper_bound(only_first, pairs, delta * share)
    return lost - lower_bound(only_second, pairs, delta * (1 - share))


def _split(first_trials: int, second_trials: int, delta: float) -> float:
    normal = NormalDist()

    def width(share: float) -> float:
        return -normal.inv_cdf(delta * share) / sqrt(first_trials) - normal.inv_cdf(
            delta * (1 - share)
        ) / sqrt(second_trials)

    return min((step / 100 for step in range(1, 100)), key=width)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    # The fraction converges fast only below this point; the other side is its mirror image.
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(b, a, 1 - x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    change, m = 2.0, 0
    while abs(change - 1) > 1e-15 and m < 10_000:
        m += 1
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            change = d * c
            value *= change
    return min(1.0, front * value)


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _relative_entropy(mean: float, alpha: float) -> float:
    one = mean * log(mean / alpha) if mean > 0 else 0.0
    zero = (1 - mean) * (log1p(-mean) - log1p(-alpha)) if mean < 1 else 0.0
    return one + zero


def _check_count(successes: float, trials: float) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"successes = {successes} is not in [0, {trials}]")


def _check_level(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} = {value}: give a probability between 0 and 1, both excluded")
