from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tutelage.benchmarks.off_policy import (
    PolicyValue,
    WeightedEpisode,
    effective_size,
    policy_value,
    step_weight,
)
from tutelage.runtime.errors import BenchmarkError

TEACHER_USD, STUDENT_USD, STEPS = 0.01, 0.001, 3
RUNS, EPISODES = 1000, 300
HARD = 0.4


def logged(
    generator: np.random.Generator, p_teacher: float, episodes: int
) -> tuple[list[WeightedEpisode], list[WeightedEpisode]]:
    """Costs and outcomes of a policy that tosses a coin in each step, weighed for another.

    The other policy gives hard steps to the teacher. A student's hard step loses the episode in
    half of the cases, so the value of the other policy is known: 3 steps that cost
    0.4 * 0.01 + 0.6 * 0.001 USD each, and a share of 0.9 that is won.
    """
    hard = generator.random((episodes, STEPS)) < HARD
    teacher = generator.random((episodes, STEPS)) < p_teacher
    lost = ((hard & ~teacher) & (generator.random((episodes, STEPS)) < 0.5)).any(axis=1)
    won = ~lost & (generator.random(episodes) < 0.9)
    chances = np.where(teacher, p_teacher, 1 - p_teacher)
    usd = np.where(teacher, TEACHER_USD, STUDENT_USD).sum(axis=1)
    costs, outcomes = [], []
    for number in range(episodes):
        same = (hard[number] == teacher[number]).tolist()
        weight = step_weight(list(zip(same, chances[number].tolist(), strict=True)))
        costs.append(WeightedEpisode(f"e{number}", weight, float(usd[number])))
        outcomes.append(WeightedEpisode(f"e{number}", weight, float(won[number])))
    return costs, outcomes


def found(p_teacher: float) -> tuple[list[PolicyValue], list[PolicyValue]]:
    generator = np.random.default_rng(7)
    costs, outcomes = [], []
    for _ in range(RUNS):
        usd, won = logged(generator, p_teacher, EPISODES)
        costs.append(policy_value(usd))
        outcomes.append(policy_value(won, is_share=True))
    return costs, outcomes


def covered(values: list[PolicyValue], truth: float) -> float:
    inside = [one.interval.low <= truth <= one.interval.high for one in values]
    return sum(inside) / len(inside)


def spread(values: list[PolicyValue]) -> NDArray[np.float64]:
    return np.array([one.value for one in values])


@pytest.mark.slow
@pytest.mark.parametrize("p_teacher", [0.5, 0.35])
def test_a_known_value_is_met_without_bias_and_covered_as_promised(p_teacher: float) -> None:
    costs, outcomes = found(p_teacher)
    cost = STEPS * (HARD * TEACHER_USD + (1 - HARD) * STUDENT_USD)

    for values, truth in ((costs, cost), (outcomes, 0.9)):
        means = spread(values)
        print(f"coverage {covered(values, truth):.3f}, bias {means.mean() / truth - 1:+.4f}")
        # Four standard errors of the mean of all runs.
        assert abs(means.mean() - truth) < 4 * means.std() / RUNS**0.5 + 0.002 * truth
        assert covered(values, truth) >= 0.94


def test_equal_weights_give_the_plain_mean() -> None:
    episodes = [WeightedEpisode(str(n), 2.0, float(n)) for n in range(20)]

    value = policy_value(episodes)

    assert value.value == pytest.approx(9.5)
    assert value.method == "exact, t"
    assert (value.episodes, value.used) == (20, 20)
    assert value.effective == pytest.approx(20.0)
    assert value.interval.low < 9.5 < value.interval.high


def test_a_policy_that_does_otherwise_everywhere_has_no_support() -> None:
    episodes = [WeightedEpisode(str(n), 0.0, 1.0) for n in range(20)]

    with pytest.raises(BenchmarkError, match="none of them did what it would do") as refused:
        policy_value(episodes)

    assert "evidence.holdout" in str(refused.value)


def test_too_few_effective_episodes_are_refused_with_how_many_are_needed() -> None:
    episodes = [WeightedEpisode(str(n), float(n < 2), 1.0) for n in range(20)]

    with pytest.raises(BenchmarkError, match=r"worth 2\.0 .*about 100 recorded episodes"):
        policy_value(episodes)


def test_a_share_keeps_within_zero_and_one() -> None:
    value = policy_value([WeightedEpisode(str(n), 1.0, 1.0) for n in range(12)], is_share=True)

    assert value.interval.high == 1.0
    assert 0.7 < value.interval.low < 1.0


def test_a_step_that_differs_takes_the_whole_weight() -> None:
    assert step_weight([(True, 0.5), (True, 0.25)], arm=0.5) == 16.0
    assert step_weight([(True, 0.5), (False, 0.25)]) == 0.0
    assert step_weight([]) == 1.0


@pytest.mark.parametrize("chance", [0.0, -0.1, 1.1])
def test_a_chance_outside_of_its_range_is_refused(chance: float) -> None:
    with pytest.raises(ValueError, match="is not in"):
        step_weight([(True, chance)])


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="episode a"):
        WeightedEpisode("a", weight, 1.0)


def test_the_effective_size_is_between_one_and_all() -> None:
    assert effective_size(np.array([1.0, 1.0, 0.0])) == pytest.approx(2.0)
    assert effective_size(np.zeros(3)) == 0.0


def test_a_value_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"value = -0\.1"):
        WeightedEpisode("a", 1.0, -0.1)
