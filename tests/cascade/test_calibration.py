"""Thresholds with a certified risk, on a student whose true risk is known."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from tests.cascade.synthetic_student import Played, SyntheticWorld, play

from tutelage.cascade.calibration import FixedSequence, Measured, certify, certify_lazily
from tutelage.cascade.certificate import Certificate, Refusal
from tutelage.cascade.risk_curve import logged_losses
from tutelage.runtime.errors import ConfigError

GRID = [round(1 - 0.05 * place, 2) for place in range(21)]
ALPHA, DELTA = 0.05, 0.05
SETS = 1000
TOLERANCE = 2 * sqrt(DELTA * (1 - DELTA) / SETS)
"""Two standard errors of the violation rate."""


@pytest.fixture(scope="module")
def population() -> Played:
    """All episodes there are: calibration sets are drawn from it, so its means are the truth."""
    return play(SyntheticWorld(), np.array(GRID), 20_000, np.random.default_rng(0))


def step_losses(played: Played) -> np.ndarray:
    losses: np.ndarray = played.wrong_accepted / played.steps
    return losses


@pytest.mark.parametrize("episodes", [100, 300, 1000])
def test_the_certified_risk_per_episode_holds(population: Played, episodes: int) -> None:
    truth = population.lost.mean(axis=0)
    generator = np.random.default_rng(episodes)
    violations, certified = 0, 0
    for _ in range(SETS):
        drawn = population.lost[generator.integers(0, len(population.lost), episodes)]
        outcome = certify(drawn, GRID, alpha=ALPHA, delta=DELTA)
        if isinstance(outcome, Certificate):
            certified += 1
            violations += truth[GRID.index(outcome.threshold)] > ALPHA
    assert certified / SETS > 0.9
    assert violations / SETS <= DELTA + TOLERANCE


def test_the_certified_risk_per_step_holds(population: Played) -> None:
    losses = step_losses(population)
    truth = losses.mean(axis=0)
    generator = np.random.default_rng(1)
    violations, certified = 0, 0
    for _ in range(SETS):
        drawn = losses[generator.integers(0, len(losses), 300)]
        outcome = certify(drawn, GRID, alpha=ALPHA, delta=DELTA, unit="step")
        if isinstance(outcome, Certificate):
            certified += 1
            assert outcome.loss_kind == "bounded"
            violations += truth[GRID.index(outcome.threshold)] > ALPHA
    assert certified / SETS > 0.9
    assert violations / SETS <= DELTA + TOLERANCE


def test_taking_the_seen_risk_for_the_true_one_does_violate(population: Played) -> None:
    truth = population.lost.mean(axis=0)
    generator = np.random.default_rng(2)
    violations = 0
    for _ in range(SETS):
        drawn = population.lost[generator.integers(0, len(population.lost), 300)]
        allowed = np.flatnonzero(drawn.mean(axis=0) <= ALPHA)
        violations += truth[allowed[-1]] > ALPHA
    assert violations / SETS > 3 * DELTA


def test_a_threshold_from_logged_states_does_not_carry_over_to_rollouts(population: Played) -> None:
    # The teacher's own path never derails, so the student looks better than it acts.
    generator = np.random.default_rng(3)
    world = SyntheticWorld()
    scores = generator.random((400, world.goal))
    right = generator.random(scores.shape) < world.right_rate(scores)
    names = [f"e{place // world.goal}" for place in range(scores.size)]
    losses, shares = logged_losses(
        names, scores.ravel().tolist(), right.ravel().tolist(), GRID, unit="step"
    )
    outcome = certify(
        losses,
        GRID,
        alpha=0.1,
        delta=DELTA,
        unit="step",
        scope="logged states",
        teacher_share=shares.tolist(),
    )
    assert isinstance(outcome, Certificate)
    assert outcome.scope == "logged states"
    assert "logged states only" in outcome.statement
    place = GRID.index(outcome.threshold)
    assert outcome.teacher_share == pytest.approx(shares[place])
    assert step_losses(population)[:, place].mean() > 0.1


def test_the_cheapest_certified_threshold_is_chosen(population: Played) -> None:
    costs = population.cost_usd.mean(axis=0)
    costs[5] = 0.0
    outcome = certify(
        population.lost[:2000], GRID, alpha=ALPHA, delta=DELTA, cost_usd=costs.tolist()
    )
    assert isinstance(outcome, Certificate)
    assert outcome.threshold == GRID[5]
    assert outcome.cost_usd == 0.0
    assert outcome.certified > 6
    assert outcome.tested == outcome.certified + 1


def test_a_lazy_calibration_plays_only_what_it_reaches(population: Played) -> None:
    asked: list[float] = []

    def measure(threshold: float) -> Measured:
        asked.append(threshold)
        place = GRID.index(threshold)
        return Measured(population.lost[:500, place], teacher_share=0.5)

    lazy = certify_lazily(measure, GRID, alpha=ALPHA, delta=DELTA)
    eager = certify(
        population.lost[:500], GRID, alpha=ALPHA, delta=DELTA, teacher_share=[0.5] * len(GRID)
    )
    assert lazy == eager
    assert isinstance(lazy, Certificate)
    assert len(asked) == lazy.tested < len(GRID)
    assert asked == GRID[: len(asked)]


def test_a_certified_grid_leaves_nothing_pending() -> None:
    sequence = FixedSequence([0.9, 0.5], alpha=0.05, delta=0.05)
    assert sequence.pending == 0.9
    assert sequence.record(Measured(np.zeros(59)))
    assert sequence.pending == 0.5
    assert sequence.record(Measured(np.zeros(59)))
    assert sequence.pending is None
    outcome = sequence.outcome()
    assert isinstance(outcome, Certificate)
    assert (outcome.threshold, outcome.risk, outcome.units) == (0.5, 0.0, 59)
    assert outcome.risk_bound <= 0.05
    with pytest.raises(ValueError, match="testing is over"):
        sequence.record(Measured(np.zeros(59)))


def test_one_episode_too_few_is_refused_with_what_is_missing() -> None:
    outcome = certify(np.zeros((58, 1)), [0.9], alpha=0.05, delta=0.05)
    assert isinstance(outcome, Refusal)
    assert (outcome.units, outcome.missing_units, outcome.risk) == (58, 1, 0.0)
    assert "58 episodes are too few" in outcome.reason
    assert "1 more episodes" in outcome.reason


def test_without_episodes_the_least_number_is_named() -> None:
    outcome = certify(np.zeros((0, 1)), [0.9], alpha=0.02, delta=0.05)
    assert isinstance(outcome, Refusal)
    assert (outcome.missing_units, outcome.risk) == (149, None)
    assert "takes at least 149" in outcome.reason
    assert FixedSequence([0.9], alpha=0.02, delta=0.05).outcome() == outcome


def test_the_missing_episodes_would_have_been_enough() -> None:
    losses = np.zeros((100, 1))
    losses[:2] = 1.0
    outcome = certify(losses, [0.9], alpha=0.05, delta=0.05)
    assert isinstance(outcome, Refusal)
    assert outcome.missing_units is not None
    enough = np.zeros((100 + outcome.missing_units, 1))
    enough[: int(np.ceil(0.02 * len(enough)))] = 1.0
    assert isinstance(certify(enough, [0.9], alpha=0.05, delta=0.05), Certificate)


def test_a_risk_above_alpha_is_not_cured_by_more_episodes() -> None:
    losses = np.zeros((100, 1))
    losses[:5] = 1.0
    outcome = certify(losses, [0.9], alpha=0.05, delta=0.05)
    assert isinstance(outcome, Refusal)
    assert outcome.missing_units is None
    assert "more episodes will not help" in outcome.reason


def test_a_risk_at_the_edge_of_alpha_is_refused_without_a_number() -> None:
    losses = np.full((1000, 1), 0.0499999)
    outcome = certify(losses, [0.9], alpha=0.05, delta=0.05, unit="step")
    assert isinstance(outcome, Refusal)
    assert outcome.missing_units is None
    assert "too near" in outcome.reason


def test_bad_levels_thresholds_and_losses_are_refused() -> None:
    good = np.zeros((60, 2))
    with pytest.raises(ConfigError, match="alpha = 1"):
        certify(good, [0.9, 0.5], alpha=1, delta=0.05)
    with pytest.raises(ConfigError, match="delta = 0"):
        certify(good, [0.9, 0.5], alpha=0.05, delta=0)
    with pytest.raises(ConfigError, match="order them strict to permissive"):
        certify(good, [0.5, 0.9], alpha=0.05, delta=0.05)
    with pytest.raises(ConfigError, match="finite"):
        certify(good, [float("inf"), 0.9], alpha=0.05, delta=0.05)
    with pytest.raises(ConfigError, match="empty"):
        certify(np.zeros((60, 0)), [], alpha=0.05, delta=0.05)
    with pytest.raises(ValueError, match="do not fit 3 thresholds"):
        certify(good, [0.9, 0.5, 0.1], alpha=0.05, delta=0.05)
    with pytest.raises(ValueError, match="1 values do not fit"):
        certify(good, [0.9, 0.5], alpha=0.05, delta=0.05, cost_usd=[1.0])
    with pytest.raises(ValueError, match="binary losses are 0 or 1"):
        certify(good + 0.5, [0.9, 0.5], alpha=0.05, delta=0.05)
    with pytest.raises(ValueError, match="bounded losses are between 0 and 1"):
        certify(good - 0.5, [0.9, 0.5], alpha=0.05, delta=0.05, unit="step")
    with pytest.raises(ValueError, match="2 axes"):
        certify_lazily(lambda threshold: Measured(good), [0.9], alpha=0.05, delta=0.05)
