from __future__ import annotations

from math import comb, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.benchmarks.statistics import (
    Interval,
    bootstrap_ratio,
    mcnemar_exact,
    mean_interval,
    paired_difference_interval,
    student_t_quantile,
    wilson_interval,
    wilson_share,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # 129/134 and 119/134 are the paper's 0.96 and 0.89: (0.92, 0.98) and (0.82, 0.93).
        (129, 134, 0.9156, 0.9840),
        (119, 134, 0.8236, 0.9308),
        # By hand: z^2 = 3.8415, centre (0.5 + 0.19207) / 1.38415, reach 0.2633.
        (5, 10, 0.2366, 0.7634),
        (0, 12, 0.0, 0.2425),
        (12, 12, 0.7575, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_intervals_match_the_hand(
    successes: int, trials: int, low: float, high: float
) -> None:
    interval = wilson_interval(successes, trials)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=6e-4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_wilson_interval_holds_the_share_and_mirrors(pair: tuple[int, int]) -> None:
    successes, trials = pair
    interval = wilson_interval(successes, trials)
    mirrored = wilson_interval(trials - successes, trials)
    assert 0 <= interval.low <= successes / trials <= interval.high <= 1
    assert interval.low == pytest.approx(1 - mirrored.high)


def test_more_confidence_makes_a_wider_interval() -> None:
    narrow, wide = wilson_interval(5, 10, 0.8), wilson_interval(5, 10, 0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(("successes", "trials"), [(-1, 3), (4, 3)])
def test_impossible_counts_are_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="is not in"):
        wilson_interval(successes, trials)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (0, 0, 1.0),
        (3, 3, 1.0),
        # 2 (1 + 10) / 2^10
        (1, 9, 22 / 1024),
        # 2 / 2^5: five pairs that all point one way are not enough.
        (0, 5, 0.0625),
        (6, 0, 0.03125),
        (2, 1, 1.0),
    ],
)
def test_mcnemar_matches_the_hand(first: int, second: int, p: float) -> None:
    assert mcnemar_exact(first, second) == pytest.approx(p)


def test_mcnemar_survives_thousands_of_pairs() -> None:
    assert 0.0 < mcnemar_exact(1400, 1600) < 0.001


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_two_sided_binomial_test(first: int, second: int) -> None:
    n = first + second
    tail = sum(comb(n, k) for k in range(n + 1) if comb(n, k) <= comb(n, first)) / 2**n
    assert mcnemar_exact(first, second) == pytest.approx(tail)
    assert mcnemar_exact(first, second) == mcnemar_exact(second, first)


def generator() -> np.random.Generator:
    return np.random.default_rng(1)


def test_equal_units_have_a_bootstrap_interval_of_no_width() -> None:
    assert bootstrap_ratio([2.0] * 9, [4.0] * 9, generator()) == Interval(0.5, 0.5)


def test_a_bootstrap_of_a_mean_agrees_with_the_normal_interval() -> None:
    values = [float(value) for value in range(100)]
    interval = bootstrap_ratio(values, [1.0] * 100, generator(), resamples=4000)
    assert interval is not None
    # Mean 49.5, standard error sqrt(833.25 / 100) = 2.887.
    assert interval.low == pytest.approx(49.5 - 1.96 * 2.887, abs=0.4)
    assert interval.high == pytest.approx(49.5 + 1.96 * 2.887, abs=0.4)


def test_the_same_seed_gives_the_same_interval() -> None:
    given = ([1.0, 2.0, 5.0], [1.0, 0.0, 1.0])
    assert bootstrap_ratio(*given, generator()) == bootstrap_ratio(*given, generator())


def test_a_ratio_that_may_have_no_denominator_is_unbounded() -> None:
    interval = bootstrap_ratio([1.0] * 4, [1.0, 0.0, 0.0, 0.0], generator())
    assert interval is not None
    assert interval.high == inf
    assert 1.0 <= interval.low < inf


def test_one_unit_has_no_interval() -> None:
    assert bootstrap_ratio([1.0], [1.0], generator()) is None


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        bootstrap_ratio([1.0], [1.0, 2.0], generator())


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(4, 2.776), (9, 2.262), (29, 2.045), (1000, 1.962)]
)
def test_quantiles_of_student_match_the_tables(freedom: int, quantile: float) -> None:
    assert student_t_quantile(freedom) == pytest.approx(quantile, rel=0.01)


def test_the_interval_of_a_mean_matches_the_hand() -> None:
    interval = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])

    # Mean 3, standard deviation 1.5811, t 2.776 with 4 degrees of freedom.
    assert interval is not None
    assert interval.low == pytest.approx(3 - 2.776 * 1.5811 / 5**0.5, rel=0.02)
    assert interval.high == pytest.approx(3 + 2.776 * 1.5811 / 5**0.5, rel=0.02)
    assert mean_interval([1.0]) is None


def test_a_weighted_share_has_the_interval_of_so_many_trials() -> None:
    assert wilson_share(0.5, 10.0) == wilson_interval(5, 10)
    assert wilson_share(0.5, 2.5).low < wilson_share(0.5, 10.0).low
    assert wilson_share(1.0, 3.5).high == 1.0


@pytest.mark.parametrize(("share", "trials"), [(-0.1, 5.0), (1.1, 5.0), (0.5, 0.0)])
def test_a_share_that_is_none_is_refused(share: float, trials: float) -> None:
    with pytest.raises(ValueError, match="give"):
        wilson_share(share, trials)


def test_a_paired_difference_has_the_published_interval() -> None:
    interval = paired_difference_interval(36, 2, 12, 0)

    # Newcombe 1998, table II, 50 pairs, method 10.
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.0569, 0.3404)


@given(*[st.integers(min_value=0, max_value=60)] * 4)
def test_a_paired_difference_is_inside_its_interval(
    both: int, only_first: int, only_second: int, neither: int
) -> None:
    interval = paired_difference_interval(both, only_first, only_second, neither)
    turned = paired_difference_interval(both, only_second, only_first, neither)
    pairs = both + only_first + only_second + neither
    difference = (only_second - only_first) / pairs if pairs else 0.0

    assert -1 - 1e-12 <= interval.low <= difference + 1e-12
    assert difference - 1e-12 <= interval.high <= 1 + 1e-12
    assert (turned.low, turned.high) == pytest.approx((-interval.high, -interval.low))
