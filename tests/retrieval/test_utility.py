from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.retrieval.exposures import Exposure
from tutelage.retrieval.utility import (
    Tally,
    Weighed,
    beta_quantile,
    tally_episodes,
    tally_steps,
    utility,
)


def exposure(
    episode: str, *, shown: tuple[str, ...] = (), left_out: tuple[str, ...] = (), **change: object
) -> Exposure:
    share = float(str(change.get("share", 0.5)))
    step = int(str(change.get("step", 0)))
    return Exposure("acme", episode, step, "step", 1.0, share, shown, left_out)


def weighed(wins: int, trials: int) -> Weighed:
    found = Weighed()
    for number in range(trials):
        found = found.plus(number < wins, 2.0)
    return found


@pytest.mark.parametrize(
    ("probability", "a", "b", "value"),
    [
        # Closed forms: Beta(1, 1) is uniform, Beta(a, 1) has x**a, Beta(1, b) has 1 - (1 - x)**b.
        (0.3, 1, 1, 0.3),
        (0.05, 4, 1, 0.05**0.25),
        (0.95, 1, 3, 1 - 0.05 ** (1 / 3)),
        (0.5, 700, 700, 0.5),
    ],
)
def test_a_beta_quantile_is_the_closed_form(
    probability: float, a: float, b: float, value: float
) -> None:
    assert beta_quantile(probability, a, b) == pytest.approx(value, abs=1e-9)


@given(st.floats(0.01, 0.99), st.floats(0.05, 500), st.floats(0.05, 500))
def test_a_beta_quantile_mirrors(probability: float, a: float, b: float) -> None:
    mirrored = 1 - beta_quantile(1 - probability, b, a)
    assert beta_quantile(probability, a, b) == pytest.approx(mirrored, abs=1e-6)


def test_little_evidence_condemns_nobody_and_much_does() -> None:
    few = utility("t", Tally(weighed(0, 3), weighed(1, 1)), 0.8)
    many = utility("t", Tally(weighed(10, 100), weighed(18, 20)), 0.8)
    fine = utility("t", Tally(weighed(80, 100), weighed(16, 20)), 0.8)

    assert not few.is_harmful
    assert many.is_harmful
    assert not fine.is_harmful
    assert many.lower < many.rate < many.upper < many.lower_without < many.rate_without
    assert (many.shown, many.left_out) == (100, 20)


def test_an_episode_counts_once_a_trajectory() -> None:
    exposures = [
        exposure("e1", shown=("a",), left_out=("b",)),
        exposure("e1", shown=("a",), step=1),
        exposure("e2", shown=("a", "b")),
        exposure("open", shown=("a",)),
    ]

    tallies, rate = tally_episodes(exposures, {"e1": True, "e2": False})

    assert rate == 0.5
    assert (tallies["a"].shown.trials, tallies["a"].shown.rate) == (2, 0.5)
    assert (tallies["b"].shown.rate, tallies["b"].left_out.rate) == (0.0, 1.0)


def test_steps_count_where_the_teacher_was_heard() -> None:
    exposures = [exposure("e1", shown=("a",), step=step) for step in range(3)]

    tallies, rate = tally_steps(exposures, {("e1", 0): True, ("e1", 2): False})

    assert (tallies["a"].shown.trials, rate) == (2, 0.5)
    assert tally_steps([], {}) == ({}, 0.5)


def test_a_share_that_changed_does_not_bend_the_comparison() -> None:
    """Success is rare while much is left out; a plain count would blame the demonstration."""
    rng = random.Random(5)
    exposures, success = [], {}
    for number in range(40_000):
        share, likely = (0.1, 0.9) if number % 2 else (0.5, 0.3)
        kept = rng.random() >= share
        ids = ("t",)
        exposures.append(
            exposure(
                str(number), shown=ids if kept else (), left_out=() if kept else ids, share=share
            )
        )
        success[str(number)] = rng.random() < likely

    tally = tally_episodes(exposures, success)[0]["t"]

    assert tally.shown.rate == pytest.approx(0.6, abs=0.02)
    assert tally.left_out.rate == pytest.approx(0.6, abs=0.02)
    assert tally.left_out.size < tally.left_out.trials


def test_bounds_hold_as_often_as_they_say() -> None:
    """Of 400 harmless trajectories few are called harmful: both 95 % bounds must fail at once."""
    rng = random.Random(3)
    harmful = 0
    for _ in range(400):
        shown = weighed(sum(rng.random() < 0.6 for _ in range(80)), 80)
        left_out = weighed(sum(rng.random() < 0.6 for _ in range(8)), 8)
        harmful += utility("t", Tally(shown, left_out), 0.6).is_harmful

    assert harmful <= 400 * 0.05
