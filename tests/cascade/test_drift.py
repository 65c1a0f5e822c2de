"""Detectors: false alarms, delay, and what they stand on."""

from __future__ import annotations

import json
from math import sqrt
from typing import Any

import numpy as np
import pytest

from tutelage.cascade.drift import (
    BettingDetector,
    CusumDetector,
    Detector,
    detection_delay,
    detector_from_json,
    rank_loss,
)
from tutelage.runtime.errors import ConfigError

DELTA = 0.05


def firing(detector: Detector, losses: np.ndarray) -> int | None:
    """Index of the loss at which it fires."""
    for place, loss in enumerate(losses.tolist()):
        detector = detector.update(loss)
        if detector.fired:
            return place
    return None


def betting_peaks(losses: np.ndarray, target: float) -> np.ndarray:
    """Peaks of wealth, all streams at once: the detector in other words. losses (streams, n)."""
    shares = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])
    wealth, peak = np.zeros((len(losses), 8)), np.ones(len(losses))
    for at, column in enumerate(losses.T, start=1):
        waiting = 1 / np.log2(at + 2)
        start = 1 / np.log2(at + 1) - waiting
        wealth = (wealth + start) * (1 + shares * ((column - target) / target)[:, None])
        peak = np.maximum(peak, wealth.mean(axis=1) + waiting)
    return peak


def cusum_peaks(losses: np.ndarray, reference: float) -> np.ndarray:
    value, peak = np.zeros(len(losses)), np.zeros(len(losses))
    for column in losses.T:
        value = np.maximum(0, value + column - reference)
        peak = np.maximum(peak, value)
    return peak


def test_the_fast_copies_are_the_detectors() -> None:
    losses = np.random.default_rng(0).random((3, 60)) * 0.3
    peaks, sums = betting_peaks(losses, 0.2), cusum_peaks(losses, CUSUM.reference)
    for row, peak, total in zip(losses, peaks, sums, strict=True):
        betting, cusum = BettingDetector(0.2, 1e-9), CUSUM
        for loss in row.tolist():
            betting, cusum = betting.update(loss), cusum.update(loss)
        assert betting.peak == pytest.approx(peak)
        assert cusum.peak == pytest.approx(total)


CUSUM = CusumDetector(0.05, DELTA, 0.1, horizon=5000)


@pytest.mark.parametrize("target", [0.02, 0.05, 0.5])
def test_betting_gives_false_alarms_at_most_at_delta(target: float) -> None:
    streams = 1000
    losses = (np.random.default_rng(1).random((streams, 5000)) < target).astype(np.float64)
    rate = (betting_peaks(losses, target) >= 1 / DELTA).mean()
    assert rate <= DELTA + 2 * sqrt(DELTA * (1 - DELTA) / streams)


def test_cusum_gives_false_alarms_at_most_at_delta_within_its_horizon() -> None:
    losses = (np.random.default_rng(2).random((1000, 5000)) < 0.05).astype(np.float64)
    assert (cusum_peaks(losses, CUSUM.reference) >= CUSUM.limit).mean() <= DELTA


def test_losses_between_0_and_1_raise_no_more_false_alarms() -> None:
    losses = np.random.default_rng(3).beta(0.1, 1.9, size=(1000, 5000))
    assert (betting_peaks(losses, 0.05) >= 1 / DELTA).mean() <= DELTA
    assert (cusum_peaks(losses, CUSUM.reference) >= CUSUM.limit).mean() <= DELTA


def test_the_premise_fails_for_steps_that_follow_each_others_errors() -> None:
    # The mean is 0.05, but errors come ten at a time: one loss an episode is what may be given.
    generator = np.random.default_rng(4)
    clumps = np.repeat(generator.random((500, 300)) < 0.05, 10, axis=1).astype(np.float64)
    assert (betting_peaks(clumps, 0.05) >= 1 / DELTA).mean() > 0.5
    episodes = clumps.reshape(500, 300, 10).mean(axis=2)
    assert (betting_peaks(episodes, 0.05) >= 1 / DELTA).mean() <= DELTA


def delays_of(detector: Detector, shifted: float) -> np.ndarray:
    generator = np.random.default_rng(5)
    delays = []
    for _ in range(100):
        rates = np.r_[np.full(300, 0.05), np.full(700, shifted)]
        found = firing(detector, (generator.random(1000) < rates).astype(np.float64))
        assert found is not None
        delays.append(found - 300)
    assert np.mean(np.array(delays) < 0) <= DELTA
    return np.array(delays)


@pytest.mark.parametrize("shifted", [0.15, 0.3])
def test_the_delay_of_betting_is_near_its_forecast(shifted: float) -> None:
    forecast = detection_delay(0.05, shifted, DELTA, quiet=300)
    assert forecast / 2 < np.median(delays_of(BettingDetector(0.05, DELTA), shifted)) < forecast


@pytest.mark.parametrize("shifted", [0.15, 0.3])
def test_the_delay_of_cusum_is_its_limit_over_its_drift(shifted: float) -> None:
    forecast = CUSUM.limit / (shifted - CUSUM.reference)
    assert np.median(delays_of(CUSUM, shifted)) == pytest.approx(forecast, rel=0.25)


def test_a_sure_change_needs_few_losses() -> None:
    assert detection_delay(0.05, 1.0, DELTA, quiet=0) < 3
    assert firing(BettingDetector(0.05, DELTA), np.ones(20)) is not None


def test_a_fired_detector_stays_fired_until_it_is_restarted() -> None:
    for detector in (BettingDetector(0.05, DELTA), CusumDetector(0.05, DELTA, 0.1, 100)):
        fired: Detector = detector
        for _ in range(200):
            fired = fired.update(1.0)
        assert fired.fired
        assert fired.update(0.0) == fired
        assert fired.restarted() == detector


@pytest.mark.parametrize("detector", [BettingDetector(0.05, DELTA), CUSUM])
def test_a_detector_goes_on_from_a_file(detector: Detector) -> None:
    losses = np.random.default_rng(6).random(50).tolist()
    whole = detector
    halved = detector
    for loss in losses[:25]:
        whole, halved = whole.update(loss * 0.1), halved.update(loss * 0.1)
    halved = detector_from_json(json.loads(json.dumps(halved.to_json())))
    for loss in losses[25:]:
        whole, halved = whole.update(loss * 0.1), halved.update(loss * 0.1)
    assert halved == whole


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"kind": "oracle"}, "kind = 'oracle': choose one of e-process, cusum"),
        ({"kind": "cusum", "target": 0.05}, "missing"),
        ({"kind": "cusum", "target": "low"}, "target = 'low' is not a number"),
        ({"kind": "e-process", "target": 0.1, "delta": 0.1, "wealth": [1]}, "holds not 8 numbers"),
        ({"kind": "e-process", "target": 2, "delta": 0.1}, "target = 2"),
    ],
)
def test_a_damaged_detector_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        detector_from_json(values)


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="shifted = 0"):
        CusumDetector(0.1, DELTA, 0.05, 100)
    with pytest.raises(ConfigError, match="horizon = 0"):
        CusumDetector(0.1, DELTA, 0.2, 0)
    with pytest.raises(ConfigError, match="delta = 0"):
        BettingDetector(0.1, 0)
    for detector in (BettingDetector(0.1, DELTA), CUSUM):
        with pytest.raises(ValueError, match=r"loss = 1\.5"):
            detector.update(1.5)


def test_ranks_are_even_where_nothing_changed() -> None:
    generator = np.random.default_rng(7)
    reference = np.sort(generator.normal(size=400)).tolist()
    ranks = [rank_loss(float(x), reference) for x in generator.normal(size=4000)]
    assert np.mean(ranks) == pytest.approx(0.5, abs=2 * 0.29 / sqrt(400))
    assert 0 < min(ranks) < max(ranks) < 1
    far = [rank_loss(float(x) + 1, reference) for x in generator.normal(size=1000)]
    assert np.mean(far) > 0.7


def test_tied_distances_count_half() -> None:
    assert rank_loss(0.5, [0.1, 0.5, 0.5, 0.9]) == pytest.approx((1 + 1 + 0.5) / 5)
    assert rank_loss(0.5, []) == 0.5
