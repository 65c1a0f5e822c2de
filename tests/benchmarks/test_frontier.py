from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.benchmarks.frontier import Gap, gaps, hull_success
from tutelage.benchmarks.results import EpisodeResult
from tutelage.runtime.errors import BenchmarkError


def played(arm: str, task: int, *, success: bool, cost: float, seed: int = 0) -> EpisodeResult:
    made: dict[str, Any] = {
        "arm": arm,
        "task_id": f"t{task}",
        "category": "c",
        "seed": seed,
        "episode_id": f"{arm}-{task}-{seed}",
        "success": success,
        "steps": 4,
        "teacher_steps": 2,
        "student_steps": 2,
        "cost_usd": {"teacher": cost},
        "uncached_cost_usd": {"teacher": 2 * cost},
        "wall_s": 1.0,
        "finished_at_s": 1.0,
        "run": "r",
    }
    return EpisodeResult.model_validate(made)


def compared(
    results: Sequence[EpisodeResult], ours: Sequence[str], others: Sequence[str], **changes: Any
) -> list[Gap]:
    given = {"pricing": "cached", "generator": np.random.default_rng(1), "resamples": 200}
    return gaps(results, ours, others, **{**given, **changes})


# The hull.


def test_between_two_arms_a_coin_toss_reaches_every_point() -> None:
    costs, successes = np.array([1.0, 3.0]), np.array([0.4, 0.8])

    assert hull_success(costs, successes, 2.0) == pytest.approx(0.6)
    assert hull_success(costs, successes, 3.0) == pytest.approx(0.8)


def test_beyond_the_dearest_arm_the_hull_is_flat_and_below_the_cheapest_in_proportion() -> None:
    costs, successes = np.array([2.0, 4.0]), np.array([0.6, 0.9])

    assert hull_success(costs, successes, 9.0) == pytest.approx(0.9)
    assert hull_success(costs, successes, 1.0) == pytest.approx(0.3)
    assert hull_success(costs, successes, 0.0) == 0.0


def test_an_arm_below_the_line_of_its_neighbours_is_no_part_of_it() -> None:
    costs, successes = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.55, 0.9])

    assert hull_success(costs, successes, 2.0) == pytest.approx(0.7)


def test_an_arm_that_is_dearer_and_worse_is_no_part_of_it() -> None:
    costs, successes = np.array([1.0, 2.0]), np.array([0.5, 0.4])

    assert hull_success(costs, successes, 2.0) == pytest.approx(0.5)


@given(
    st.lists(
        st.tuples(st.floats(0.001, 10), st.floats(0, 1)),
        min_size=1,
        max_size=8,
    )
)
def test_the_hull_lies_on_or_above_every_arm_and_is_concave(
    arms: list[tuple[float, float]],
) -> None:
    costs = np.array([cost for cost, _ in arms])
    successes = np.array([success for _, success in arms])
    for cost, success in arms:
        assert hull_success(costs, successes, cost) >= success - 1e-9
    low, high = 0.0, float(costs.max())
    middle = hull_success(costs, successes, (low + high) / 2)
    ends = hull_success(costs, successes, low) + hull_success(costs, successes, high)
    assert middle >= ends / 2 - 1e-9


# Gaps.


def half_right(arm: str, cost: float, every: int) -> list[EpisodeResult]:
    """40 tasks, of which every n-th is lost."""
    return [played(arm, n, success=n % every != 0, cost=cost) for n in range(40)]


def test_a_gap_is_what_the_frontier_wins_at_the_same_cost() -> None:
    results = [
        *(played("ours", n, success=n % 4 != 0, cost=2.0) for n in range(40)),
        *(played("other", n, success=n % 2 == 0, cost=2.0) for n in range(40)),
    ]

    (gap,) = compared(results, ["ours"], ["other"])

    assert (gap.arm, gap.cost_usd, gap.success) == ("other", 2.0, 0.5)
    assert gap.gap == pytest.approx(0.25)
    assert gap.low < 0.25 < gap.high


def test_what_tasks_have_in_common_cancels() -> None:
    results = half_right("ours", 2.0, 4) + half_right("other", 2.0, 4)

    (gap,) = compared(results, ["ours"], ["other"])

    assert gap.gap == gap.low == gap.high == 0.0


def test_costs_are_those_of_the_pricing_and_seeds_of_a_task_are_averaged() -> None:
    results = [
        played(arm, n, success=seed == 0, cost=cost + seed, seed=seed)
        for arm, cost in (("ours", 1.0), ("other", 2.0))
        for n in range(5)
        for seed in (0, 1)
    ]

    (cached,) = compared(results, ["ours"], ["other"])
    (uncached,) = compared(results, ["ours"], ["other"], pricing="uncached")

    assert (cached.cost_usd, uncached.cost_usd) == (2.5, 5.0)
    assert cached.success == 0.5


def test_the_interval_holds_the_true_gap_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    held = 0
    for _ in range(100):
        results = [
            played(arm, n, success=bool(generator.random() < rate), cost=1.0)
            for arm, rate in (("ours", 0.8), ("other", 0.7))
            for n in range(60)
        ]
        (gap,) = compared(results, ["ours"], ["other"], generator=generator, resamples=100)
        held += gap.low <= 0.1 <= gap.high
    # 95 of 100 expected; the chance of fewer than 88 is below 0.002.
    assert held >= 88


def test_an_arm_that_has_not_played_a_task_is_named() -> None:
    results = half_right("ours", 1.0, 4) + half_right("other", 1.0, 4)[1:]

    with pytest.raises(BenchmarkError, match="arm other has not played task t0: play all arms"):
        compared(results, ["ours"], ["other"])
