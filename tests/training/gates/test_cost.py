from __future__ import annotations

import numpy as np
import pytest
from tests.training.gates.planted import Student, outcomes, planted

from tutelage.runtime.errors import TrainingError
from tutelage.training.gates.cost import CostPerSolved
from tutelage.training.gates.evaluation import Evaluation, PairedEpisode, PlayedEpisode
from tutelage.training.gates.resampling import ratio


def _priced(costs: list[tuple[float, bool, float, bool]]) -> Evaluation:
    return Evaluation(
        tuple(
            PairedEpisode(
                str(place),
                PlayedEpisode(before_won, before, 2 * before, 1),
                PlayedEpisode(won, cost, 4 * cost, 1),
            )
            for place, (before, before_won, cost, won) in enumerate(costs)
        )
    )


def test_failed_episodes_are_paid_for_by_solved_ones() -> None:
    verdict = CostPerSolved().check(_priced([(1.0, True, 0.5, True), (1.0, True, 0.5, False)] * 20))
    assert verdict.value == pytest.approx(1.0)
    assert "1 USD a solved task against 1 USD (cached prices)" in verdict.text


def test_a_cheaper_candidate_passes_and_a_dearer_one_does_not() -> None:
    cheap, dear = (1.0, True, 0.5, True), (1.0, True, 1.5, True)
    assert CostPerSolved().check(_priced([cheap] * 30)).passed
    verdict = CostPerSolved().check(_priced([dear] * 30))
    assert (verdict.passed, verdict.blocking, verdict.bound) == (False, True, 1.5)


def test_uncached_prices_are_judged_where_they_are_asked_for() -> None:
    verdict = CostPerSolved(pricing="uncached").check(_priced([(1.0, True, 1.0, True)] * 30))
    assert verdict.value == pytest.approx(2.0)


def test_the_bound_covers_as_often_as_stated_within_a_few_points() -> None:
    # Equal students: the true ratio is 1. Stated are 5 of 100.
    missed = sum(
        (CostPerSolved(resamples=400).check(planted(Student(), seed, tasks=40)).bound or 9) < 1
        for seed in range(100)
    )
    assert missed <= 12


def test_free_students_have_nothing_to_judge() -> None:
    verdict = CostPerSolved().check(outcomes([(True, True)] * 5))
    assert verdict.passed
    assert "no prices" in verdict.text


def test_a_candidate_that_solves_nothing_is_blocked() -> None:
    assert not CostPerSolved().check(_priced([(1.0, True, 0.1, False)] * 30)).passed
    assert not CostPerSolved().check(_priced([(1.0, False, 0.1, False)] * 30)).passed


def test_a_candidate_that_solves_what_was_never_solved_passes() -> None:
    verdict = CostPerSolved().check(_priced([(1.0, False, 1.0, True)] * 30))
    assert verdict.passed
    assert "nothing solved" in verdict.text


def test_few_tasks_do_not_pass() -> None:
    verdict = CostPerSolved().check(_priced([(1.0, True, 0.1, True)] * 19))
    assert not verdict.passed
    assert "play at least 20" in verdict.text
    assert not CostPerSolved().check(Evaluation(())).passed


def test_ratios_of_infinite_figures() -> None:
    assert ratio(1.0, 0.0) == np.inf
    assert ratio(1.0, np.inf) == 0.0
    assert ratio(np.inf, np.inf) == np.inf


def test_a_ratio_of_zero_is_refused() -> None:
    with pytest.raises(TrainingError, match="most = 0"):
        CostPerSolved(most=0)
