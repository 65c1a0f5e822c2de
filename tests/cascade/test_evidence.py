"""Estimators on randomised traffic whose truth is known: bias and coverage."""

from __future__ import annotations

from math import inf, log, sqrt

import numpy as np
import pytest
from tests.cascade.synthetic_student import SyntheticWorld, play

from tutelage.cascade.evidence import (
    EpisodeEvidence,
    QualityDifference,
    Savings,
    quality_difference,
    savings,
)

POPULATION = 20_000


class Traffic:
    """All episodes there could be: what each would cost, and bring, in either arm."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        # Threshold 2 is the teacher alone; 0.45 the cascade.
        played = play(SyntheticWorld(teacher=0.93), np.array([2.0, 0.45]), POPULATION, generator)
        length = generator.lognormal(0.0, 0.8, (POPULATION, 1))
        self.uncached = played.cost_usd * length
        self.cached = self.uncached * np.array([0.3, 0.5])
        self.won = played.won
        saved = self.cached.mean(axis=0)
        self.saved_usd = float(saved[0] - saved[1])
        self.saved_share = float(1 - saved[1] / saved[0])
        rates = self.won.mean(axis=0)
        self.quality = float(rates[1] - rates[0])

    def drawn(
        self, episodes: int, generator: np.random.Generator, *, mixed: bool = False
    ) -> list[EpisodeEvidence]:
        """Episodes at random, a random part of them holdouts; with ``mixed`` by two propensities.

        Long episodes then have the higher one, so that plain means of the arms are biased.
        """
        rows = generator.integers(0, POPULATION, episodes)
        long = self.uncached[rows, 0] > np.median(self.uncached[:, 0])
        odds = np.where(long, 0.3, 0.1) if mixed else np.full(episodes, 0.15)
        holdout = generator.random(episodes) < odds
        return [
            EpisodeEvidence(
                episode_id=str(place),
                holdout=bool(out),
                propensity=float(chance),
                cost_usd=float(self.cached[row, 0 if out else 1]),
                uncached_cost_usd=float(self.uncached[row, 0 if out else 1]),
                success=bool(self.won[row, 0 if out else 1]),
            )
            for place, (row, out, chance) in enumerate(zip(rows, holdout, odds, strict=True))
        ]


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return Traffic()


def repeated(
    traffic: Traffic, *, mixed: bool, sets: int, episodes: int
) -> tuple[list[Savings], list[QualityDifference]]:
    generator = np.random.default_rng(1)
    saved, quality = [], []
    for _ in range(sets):
        drawn = traffic.drawn(episodes, generator, mixed=mixed)
        money = savings(drawn, "cached", generator=generator, resamples=400)
        difference = quality_difference(drawn)
        assert money is not None
        assert difference is not None
        saved.append(money)
        quality.append(difference)
    return saved, quality


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True])
def test_estimates_are_unbiased_and_intervals_cover(traffic: Traffic, mixed: bool) -> None:
    saved, quality = repeated(traffic, mixed=mixed, sets=1000, episodes=600)
    for estimates, truth in (
        ([one.usd for one in saved], traffic.saved_usd),
        ([one.share for one in saved], traffic.saved_share),
        ([one.difference for one in quality], traffic.quality),
    ):
        values = np.array([one.value for one in estimates])
        error = values.std() / sqrt(len(values))
        assert abs(values.mean() - truth) < 3 * error + 0.1 * values.std()
        covered = [one.interval.low <= truth <= one.interval.high for one in estimates]
        assert np.mean(covered) >= 0.94
        assert np.mean(covered) < 0.99


def test_plain_means_are_biased_where_propensities_differ(traffic: Traffic) -> None:
    drawn = traffic.drawn(POPULATION, np.random.default_rng(2), mixed=True)
    money = savings(drawn, "cached", generator=np.random.default_rng(0), resamples=200)
    assert money is not None
    assert money.usd.value == pytest.approx(traffic.saved_usd, rel=0.1)
    plain = np.mean([one.cost_usd for one in drawn if one.holdout]) - np.mean(
        [one.cost_usd for one in drawn if not one.holdout]
    )
    assert plain > 1.2 * traffic.saved_usd


def test_both_pricings_are_told_apart(traffic: Traffic) -> None:
    drawn = traffic.drawn(2000, np.random.default_rng(3))
    figures = {
        pricing: savings(drawn, pricing, generator=np.random.default_rng(0), resamples=200)
        for pricing in ("cached", "uncached")
    }
    cached, uncached = figures["cached"], figures["uncached"]
    assert cached is not None
    assert uncached is not None
    assert (cached.pricing, uncached.pricing) == ("cached", "uncached")
    assert cached.teacher_usd == pytest.approx(0.3 * uncached.teacher_usd)
    # The teacher's cache is better than the student's, so the cascade saves less against it.
    assert cached.share.value < uncached.share.value
    assert cached.usd.units == 2000
    assert cached.usd.value == pytest.approx(cached.teacher_usd - cached.cascade_usd)
    assert cached.share.value == pytest.approx(cached.usd.value / cached.teacher_usd)


def episode(holdout: bool, cost_usd: float, success: bool | None = True) -> EpisodeEvidence:
    return EpisodeEvidence("e", holdout, 0.5, cost_usd, cost_usd, success)


def test_too_few_episodes_of_an_arm_give_nothing() -> None:
    generator = np.random.default_rng(0)
    one_sided = [episode(True, 1.0), episode(True, 1.0), episode(False, 1.0)]
    assert savings(one_sided, "cached", generator=generator) is None
    assert quality_difference([episode(True, 1.0), episode(False, 1.0, None)]) is None


def test_equal_costs_have_an_interval_without_width() -> None:
    episodes = [episode(True, 2.0)] * 5 + [episode(False, 0.5)] * 5
    found = savings(episodes, "cached", generator=np.random.default_rng(0))
    assert found is not None
    assert (found.usd.value, found.usd.interval.low, found.usd.interval.high) == (1.5, 1.5, 1.5)
    assert found.share.value == 0.75
    assert found.share.interval.low == pytest.approx(0.75)


def test_a_free_teacher_has_no_share_to_save() -> None:
    episodes = [episode(True, 0.0)] * 5 + [episode(False, 0.5)] * 5
    found = savings(episodes, "cached", generator=np.random.default_rng(0))
    assert found is not None
    assert found.share.value == 0.0
    assert (found.share.interval.low, found.share.interval.high) == (-inf, 1.0)
    assert found.usd.value == -0.5


def test_resamples_too_few_to_rank_give_a_normal_interval(traffic: Traffic) -> None:
    drawn = traffic.drawn(400, np.random.default_rng(4))
    few = savings(drawn, "cached", generator=np.random.default_rng(0), resamples=50)
    many = savings(drawn, "cached", generator=np.random.default_rng(0), resamples=2000)
    assert few is not None
    assert many is not None
    assert few.usd.value == many.usd.value
    # On the log scale of the cost ratio a normal interval lies evenly about its estimate.
    logs = [log(1 - x) for x in (few.share.interval.low, few.share.value, few.share.interval.high)]
    assert logs[0] - logs[1] == pytest.approx(logs[1] - logs[2])


def test_episodes_without_feedback_are_counted_and_left_out() -> None:
    episodes = [episode(True, 1.0, True), episode(True, 1.0, False), episode(False, 1.0, True)]
    found = quality_difference([*episodes, episode(False, 1.0, None)])
    assert found is not None
    assert (found.teacher_rate, found.cascade_rate, found.unknown) == (0.5, 1.0, 1)
    assert found.difference.value == 0.5
    assert found.difference.interval.low < 0 < found.difference.interval.high <= 1


def test_a_draw_that_could_only_go_one_way_is_refused() -> None:
    for propensity in (0.0, 1.0):
        with pytest.raises(ValueError, match="both arms must be possible"):
            EpisodeEvidence("e", True, propensity, 1.0, 1.0)
