"""Bounds against scipy, by enumeration of all outcomes, and at their edges."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from tutelage.cascade.bounds import (
    Interval,
    beta_quantile,
    binomial_cdf,
    binomial_p_value,
    bounded_upper_bound,
    certifying_size,
    clopper_pearson,
    hoeffding_bentkus_p_value,
    lower_bound,
    paired_difference_bound,
    unpaired_difference_bound,
    upper_bound,
    wilson,
    zero_error_size,
)

CASES = [(0, 1), (0, 59), (1, 1), (3, 20), (17, 20), (20, 20), (10, 300), (40, 5000)]


@pytest.mark.parametrize(("successes", "trials"), CASES)
@pytest.mark.parametrize("rate", [0.0, 0.001, 0.05, 0.3, 0.9, 1.0])
def test_the_binomial_tail_is_that_of_scipy(successes: int, trials: int, rate: float) -> None:
    from scipy.stats import binom

    assert binomial_cdf(successes, trials, rate) == pytest.approx(
        binom.cdf(successes, trials, rate), abs=1e-12
    )


@pytest.mark.parametrize(("successes", "trials"), CASES)
def test_exact_bounds_are_those_of_scipy(successes: int, trials: int) -> None:
    from scipy.stats import beta, binomtest

    high = 1.0 if successes == trials else beta.ppf(0.95, successes + 1, trials - successes)
    low = 0.0 if successes == 0 else beta.ppf(0.05, successes, trials - successes + 1)
    assert upper_bound(successes, trials, 0.05) == pytest.approx(high, abs=1e-12)
    assert lower_bound(successes, trials, 0.05) == pytest.approx(low, abs=1e-12)
    exact = binomtest(successes, trials).proportion_ci(method="exact")
    ours = clopper_pearson(successes, trials)
    assert (ours.low, ours.high) == pytest.approx((exact.low, exact.high), abs=1e-12)
    score = binomtest(successes, trials).proportion_ci(method="wilson")
    near = wilson(successes, trials)
    assert (near.low, near.high) == pytest.approx((score.low, score.high), abs=1e-12)


@pytest.mark.parametrize(("a", "b"), [(1.0, 59.0), (0.4, 30.2), (7.5, 2.5), (400.0, 0.8)])
def test_beta_quantiles_are_those_of_scipy(a: float, b: float) -> None:
    from scipy.stats import beta

    for probability in (0.025, 0.5, 0.975):
        assert beta_quantile(probability, a, b) == pytest.approx(
            beta.ppf(probability, a, b), abs=1e-10
        )


def test_without_trials_nothing_is_known() -> None:
    assert upper_bound(0, 0, 0.05) == 1.0
    assert lower_bound(0, 0, 0.05) == 0.0
    assert wilson(0, 0) == Interval(0.0, 1.0)
    assert binomial_p_value(0, 0, 0.05) == 1.0
    assert hoeffding_bentkus_p_value(0.0, 0, 0.05) == 1.0
    assert bounded_upper_bound(0.0, 0, 0.05) == 1.0
    assert unpaired_difference_bound(0, 0, 3, 4, 0.05) == 1.0


def test_sizes_without_an_error_are_the_known_ones() -> None:
    assert [zero_error_size(alpha, 0.05) for alpha in (0.05, 0.02, 0.01)] == [59, 149, 299]
    assert zero_error_size(0.5, 0.125) == 3


@pytest.mark.parametrize("errors", [0, 1, 5, 40])
@pytest.mark.parametrize("alpha", [0.02, 0.1])
def test_a_certifying_size_is_the_least_one(errors: int, alpha: float) -> None:
    size = certifying_size(errors, alpha, 0.05)
    assert binomial_p_value(errors, size, alpha) <= 0.05
    assert binomial_p_value(errors, size - 1, alpha) > 0.05
    assert upper_bound(errors, size, 0.05) <= alpha + 1e-12


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2, 0.5])
def test_the_exact_bound_covers_at_every_rate(rate: float) -> None:
    trials = 60
    missed = sum(
        comb(trials, k) * rate**k * (1 - rate) ** (trials - k)
        for k in range(trials + 1)
        if upper_bound(k, trials, 0.05) < rate
    )
    assert missed <= 0.05


@pytest.mark.parametrize("mean", [0.0, 0.01, 0.04])
def test_the_bounded_loss_test_never_beats_the_exact_one(mean: float) -> None:
    exact = binomial_p_value(round(mean * 200), 200, 0.05)
    assert exact <= hoeffding_bentkus_p_value(mean, 200, 0.05) <= min(1.0, 2.7183 * exact)


def test_the_bounded_loss_test_is_valid_for_losses_between_0_and_1() -> None:
    generator = np.random.default_rng(5)
    alpha, units = 0.1, 100
    losses = generator.beta(0.2, 1.8, size=(20_000, units))
    rejected = [hoeffding_bentkus_p_value(mean, units, alpha) <= 0.1 for mean in losses.mean(1)]
    assert losses.mean() == pytest.approx(alpha, abs=0.001)
    assert np.mean(rejected) <= 0.1


def test_a_mean_at_or_above_alpha_is_never_rejected() -> None:
    assert hoeffding_bentkus_p_value(0.05, 10_000, 0.05) == 1.0


def test_the_bounded_upper_bound_inverts_the_test() -> None:
    bound = bounded_upper_bound(0.03, 300, 0.05)
    assert hoeffding_bentkus_p_value(0.03, 300, bound) <= 0.05
    assert hoeffding_bentkus_p_value(0.03, 300, bound - 1e-6) > 0.05
    assert bounded_upper_bound(1.0, 300, 0.05) == 1.0
    assert bounded_upper_bound(0.0, 59, 0.05) == pytest.approx(upper_bound(0, 59, 0.05))


@pytest.mark.parametrize(("first", "second"), [(0.9, 0.9), (0.95, 0.7), (0.5, 0.6), (1.0, 0.97)])
def test_the_unpaired_difference_is_covered(first: float, second: float) -> None:
    generator = np.random.default_rng(3)
    wins = generator.binomial([40, 300], [first, second], size=(400, 2))
    bounds = [unpaired_difference_bound(int(a), 40, int(b), 300, 0.05) for a, b in wins]
    assert np.mean(np.array(bounds) < first - second) <= 0.05


def test_the_smaller_sample_gets_more_of_delta() -> None:
    fair = upper_bound(36, 40, 0.025) - lower_bound(3600, 4000, 0.025)
    assert unpaired_difference_bound(36, 40, 3600, 4000, 0.05) < fair


def test_the_paired_difference_is_covered() -> None:
    generator = np.random.default_rng(4)
    outcomes = generator.multinomial(200, [0.06, 0.02, 0.92], size=400)
    bounds = [paired_difference_bound(int(a), int(b), 200, 0.05) for a, b, _ in outcomes]
    assert np.mean(np.array(bounds) < 0.04) <= 0.05


def test_pairs_tell_more_than_separate_samples() -> None:
    paired = paired_difference_bound(10, 8, 300, 0.05)
    assert paired < unpaired_difference_bound(270, 300, 268, 300, 0.05)


def test_impossible_counts_and_levels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"successes = 5 is not in \[0, 4\]"):
        upper_bound(5, 4, 0.05)
    with pytest.raises(ValueError, match="successes = -1"):
        wilson(-1, 4)
    with pytest.raises(ValueError, match=r"delta = 1\.0"):
        upper_bound(1, 4, 1.0)
    with pytest.raises(ValueError, match="alpha = 0"):
        zero_error_size(0, 0.05)
    with pytest.raises(ValueError, match=r"mean = 1\.5"):
        hoeffding_bentkus_p_value(1.5, 4, 0.05)
    with pytest.raises(ValueError, match="is not in"):
        paired_difference_bound(3, 3, 5, 0.05)
