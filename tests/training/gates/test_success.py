from __future__ import annotations

import numpy as np
import pytest
from tests.training.gates.planted import outcomes

from tutelage.runtime.errors import TrainingError
from tutelage.training.gates.evaluation import Evaluation
from tutelage.training.gates.success import Improvement, NonInferiority


def test_a_candidate_that_loses_nothing_on_enough_tasks_is_not_inferior() -> None:
    verdict = NonInferiority().check(outcomes([(True, True)] * 30))
    assert verdict.passed
    assert verdict.value == 0
    assert verdict.bound is not None
    assert -0.1 <= verdict.bound < -0.08
    assert verdict.threshold == -0.1


def test_an_equal_candidate_on_few_tasks_is_blocked_and_told_how_many_it_takes() -> None:
    pairs = [(True, True)] * 16 + [(True, False)] * 2 + [(False, True)] * 2
    verdict = NonInferiority().check(outcomes(pairs))
    assert (verdict.passed, verdict.blocking) == (False, True)
    assert "an equal student needs about 124" in verdict.text


def test_a_worse_candidate_is_blocked_without_asking_for_more_tasks() -> None:
    verdict = NonInferiority().check(outcomes([(True, True)] * 70 + [(True, False)] * 30))
    assert not verdict.passed
    assert "needs about" not in verdict.text


def test_repeats_of_a_task_do_not_count_as_tasks() -> None:
    pairs = [(True, True)] * 3
    assert not NonInferiority().check(outcomes(pairs * 10, repeats=30)).passed
    assert NonInferiority().check(outcomes(pairs * 60, repeats=3)).passed


def test_a_worse_candidate_seldom_passes_with_repeats() -> None:
    generator = np.random.default_rng(5)
    passed = 0
    for _ in range(100):
        pairs = [
            (bool(generator.random() < 0.8), bool(generator.random() < 0.7)) for _ in range(240)
        ]
        passed += NonInferiority().check(outcomes(pairs, repeats=2)).passed
    assert passed <= 5


def test_without_a_task_nothing_passes() -> None:
    verdict = NonInferiority().check(Evaluation(()))
    assert not verdict.passed
    assert not Improvement().check(Evaluation(())).passed


@pytest.mark.parametrize(("wins", "passed"), [(4, False), (5, True)])
def test_five_wins_without_a_loss_are_an_improvement(wins: int, passed: bool) -> None:
    verdict = Improvement().check(outcomes([(False, True)] * wins + [(True, True)] * 20))
    assert verdict.passed is passed
    assert verdict.bound == pytest.approx(0.5**wins)
    assert not verdict.blocking


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(TrainingError, match="margin = 0"):
        NonInferiority(margin=0)
    with pytest.raises(TrainingError, match="confidence = 5"):
        Improvement(confidence=5)
