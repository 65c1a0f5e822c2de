"""Tests and bounds against scipy, by enumeration of all outcomes, and at their edges."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.errors import TrainingError
from tutelage.training.gates.paired import (
    lower_bound,
    mean_lower_bound,
    mean_p_value,
    p_value,
    pairs_needed,
    score,
    sign_test,
)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 0), (0, 5), (12, 4), (300, 260)])
def test_the_sign_test_is_that_of_scipy(wins: int, losses: int) -> None:
    from scipy.stats import binomtest

    expected = (
        binomtest(wins, wins + losses, alternative="greater").pvalue if wins + losses else 1.0
    )
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_the_score_without_a_difference_is_that_of_mcnemar() -> None:
    found = score(np.array([12.0]), np.array([4.0]), 50, 0.0)
    assert found[0] == pytest.approx(8 / 16**0.5)


def test_the_score_without_discordant_pairs_is_no_evidence() -> None:
    assert score(np.array([0.0]), np.array([0.0]), 50, 0.0)[0] == 0


def test_the_score_agrees_with_the_likelihood_found_by_search() -> None:
    wins, losses, pairs, difference = 7, 11, 60, -0.1
    rates = np.linspace(0.1001, 0.5499, 200_001)
    likelihood = (
        wins * np.log(rates + difference)
        + losses * np.log(rates)
        + (pairs - wins - losses) * np.log(1 - 2 * rates - difference)
    )
    q = rates[np.argmax(likelihood)]
    expected = (wins - losses - pairs * difference) / (
        pairs * (2 * q + difference * (1 - difference))
    ) ** 0.5
    found = score(np.array([float(wins)]), np.array([float(losses)]), pairs, difference)
    assert found[0] == pytest.approx(expected, rel=1e-4)


def _false_passes(pairs: int, margin: float, lost: float, delta: float) -> float:
    """Exact probability that a candidate that is worse by the margin passes."""
    total = 0.0
    for wins in range(pairs + 1):
        for losses in range(pairs + 1 - wins):
            if p_value(wins, losses, pairs, -margin) <= delta:
                ways = factorial(pairs) // (
                    factorial(wins) * factorial(losses) * factorial(pairs - wins - losses)
                )
                total += (
                    ways
                    * (lost - margin) ** wins
                    * lost**losses
                    * (1 - 2 * lost + margin) ** (pairs - wins - losses)
                )
    return total


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0.1, 0.12, 0.2, 0.37, 0.55])
def test_a_candidate_worse_by_the_margin_passes_at_most_as_often_as_stated(lost: float) -> None:
    assert _false_passes(40, 0.1, lost, 0.05) <= 0.05 + 1e-6


def test_without_a_discordant_pair_29_pairs_certify_a_margin_of_a_tenth() -> None:
    # 0.9 ** 28 = 0.0523 and 0.9 ** 29 = 0.0471.
    assert p_value(0, 0, 28, -0.1) > 0.05 >= p_value(0, 0, 29, -0.1)


def test_many_pairs_are_tested_by_the_normal_distribution() -> None:
    exact, near = p_value(36, 36, 400, -0.05), p_value(36, 36, 401, -0.05)
    assert near == pytest.approx(exact, abs=0.004)


@given(
    st.integers(1, 60).flatmap(
        lambda pairs: st.tuples(
            st.just(pairs), st.integers(0, pairs), st.integers(0, pairs)
        ).filter(lambda found: found[1] + found[2] <= found[0])
    )
)
def test_a_lower_bound_lies_below_what_was_seen_and_rises_with_wins(
    found: tuple[int, int, int],
) -> None:
    pairs, wins, losses = found
    bound = lower_bound(wins, losses, pairs, 0.05)
    assert -1 <= bound <= (wins - losses) / pairs
    if wins + losses < pairs:
        assert lower_bound(wins + 1, losses, pairs, 0.05) >= bound - 2e-3


def test_a_mean_bound_covers_as_often_as_stated() -> None:
    generator = np.random.default_rng(3)
    missed = 0
    for _ in range(400):
        values = generator.choice([0.0, 0.5, 1.0], size=60, p=[0.15, 0.7, 0.15])
        missed += mean_lower_bound(list(values), 0.05) > 0.5
    # 0.05 of 400 is 20; the bound is below that by construction.
    assert missed <= 20


def test_a_mean_bound_does_not_depend_on_the_order_and_never_trusts_constants() -> None:
    values = [0.0, 1.0, 0.5, 0.5, 1.0] * 10
    assert mean_lower_bound(values, 0.05) == pytest.approx(mean_lower_bound(values[::-1], 0.05))
    assert mean_lower_bound([0.5] * 5, 0.05) < 0.3
    assert mean_p_value([0.0], 0.0) == 1.0
    assert mean_p_value([0.1], 0.0) == 0.0
    assert mean_lower_bound([], 0.05) == 0.0


def test_more_pairs_are_needed_for_a_smaller_margin() -> None:
    assert pairs_needed(0.18, 0.1, 0.05) == 111
    assert pairs_needed(0.18, 0.05, 0.05) == 445


def test_without_pairs_nothing_is_known() -> None:
    assert p_value(0, 0, 0, -0.1) == 1.0
    assert p_value(5, 5, 50, 0.0) == 1.0
    assert lower_bound(0, 0, 0, 0.05) == -1.0


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(TrainingError, match="do not fit into 3 pairs"):
        p_value(2, 2, 3, 0.0)
    with pytest.raises(TrainingError, match=r"delta = 0\.7"):
        lower_bound(1, 1, 3, 0.7)
    with pytest.raises(TrainingError, match="must not be negative"):
        sign_test(-1, 2)
