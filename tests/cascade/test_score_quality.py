"""Measures of scores, against counting."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.cascade.score_quality import auroc, brier, calibration_error


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 6, 60) / 5
    right = generator.random(60) < scores
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0 for a in scores[right] for b in scores[~right]
    ]
    assert auroc(scores.tolist(), right.tolist()) == pytest.approx(np.mean(pairs))


def test_without_both_outcomes_the_area_is_a_half() -> None:
    assert auroc([0.1, 0.9], [True, True]) == 0.5


def test_brier_is_a_mean_of_squares() -> None:
    assert brier([0.5, 1.0], [True, False]) == pytest.approx((0.25 + 1) / 2)


def test_true_rates_are_calibrated_and_shifted_ones_are_not() -> None:
    generator = np.random.default_rng(1)
    rates = generator.random(50_000) * 0.5
    right = (generator.random(50_000) < rates).tolist()
    assert calibration_error(rates.tolist(), right) < 0.01
    assert calibration_error((rates + 0.2).tolist(), right) == pytest.approx(0.2, abs=0.01)
    assert calibration_error([0.5, 0.5], [True, False], bins=10) == pytest.approx(0.5)
