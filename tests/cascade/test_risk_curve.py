"""Cost-risk curves and losses of logged episodes."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from tests.cascade.synthetic_student import SyntheticWorld, play

from tutelage.cascade.risk_curve import logged_losses, risk_curve
from tutelage.runtime.errors import ConfigError

GRID = [0.9, 0.6, 0.3, 0.0]


def test_a_step_is_accepted_from_its_threshold_on() -> None:
    episodes = ["b", "b", "a", "b"]
    scores = [0.9, 0.7, 0.3, 0.2]
    right = [True, False, False, False]
    losses, shares = logged_losses(episodes, scores, right, GRID)
    assert losses.tolist() == [[0, 1, 1, 1], [0, 0, 1, 1]]
    assert shares.tolist() == pytest.approx([(2 / 3 + 1) / 2, (1 / 3 + 1) / 2, 1 / 6, 0.0])
    steps, _ = logged_losses(episodes, scores, right, GRID, unit="step")
    assert steps.tolist() == [pytest.approx([0, 1 / 3, 1 / 3, 2 / 3]), [0, 0, 1, 1]]


def test_no_steps_give_no_episodes() -> None:
    losses, shares = logged_losses([], [], [], GRID)
    assert losses.shape == (0, 4)
    assert shares.tolist() == [0, 0, 0, 0]


def test_the_band_covers_all_thresholds_at_once_and_the_bound_each() -> None:
    population = play(SyntheticWorld(), np.array(GRID), 20_000, np.random.default_rng(0)).lost
    truth = population.mean(axis=0)
    generator = np.random.default_rng(1)
    inside, together = np.zeros(4), 0
    for _ in range(500):
        drawn = population[generator.integers(0, len(population), 200)]
        points = risk_curve(drawn, GRID, delta=0.05).points
        inside += [point.bound >= risk for point, risk in zip(points, truth, strict=True)]
        together += all(point.band >= risk for point, risk in zip(points, truth, strict=True))
    least = 0.95 - 2 * sqrt(0.05 * 0.95 / 500)
    assert (inside / 500 >= least).all()
    assert together / 500 >= least


def test_a_curve_carries_shares_and_costs() -> None:
    curve = risk_curve(
        np.array([[0.0, 0.5], [0.1, 0.9]]),
        [0.9, 0.1],
        delta=0.05,
        loss_kind="bounded",
        teacher_share=[0.8, 0.2],
        cost_usd=[2.0, 1.0],
    )
    assert curve.units == 2
    assert [point.teacher_share for point in curve.points] == [0.8, 0.2]
    assert [point.cost_usd for point in curve.points] == [2.0, 1.0]
    assert [point.risk for point in curve.points] == pytest.approx([0.05, 0.7])
    assert all(point.risk <= point.bound <= point.band for point in curve.points)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 4 thresholds"):
        risk_curve(np.zeros((5, 3)), GRID, delta=0.05)
    with pytest.raises(ValueError, match="differ in length"):
        logged_losses(["a"], [0.5, 0.4], [True], GRID)
    with pytest.raises(ConfigError, match="order them"):
        risk_curve(np.zeros((5, 2)), [0.1, 0.2], delta=0.05)
