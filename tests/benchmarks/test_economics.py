from __future__ import annotations

import pytest
from tests.benchmarks.tiny_world import result

from tutelage.benchmarks.economics import break_even_episodes, cost, episode_cost_usd, tokens
from tutelage.runtime.types import Usage

EPISODES = [
    result(
        cost_usd={"student": 0.1, "teacher": 0.3},
        uncached_cost_usd={"student": 0.2, "teacher": 0.6},
        usage={"student": Usage(input_tokens=5, output_tokens=1)},
    ),
    result(
        task=1,
        success=False,
        cost_usd={"student": 0.2},
        uncached_cost_usd={"student": 0.4},
        usage={"student": Usage(cache_read_tokens=7), "teacher": Usage(output_tokens=2)},
    ),
]


def test_the_break_even_of_the_paper_is_recovered() -> None:
    alfworld = break_even_episodes(500, 0.059, 0.024, bank_is_work=False)
    appworld = break_even_episodes(147, 0.589, 0.589 * 0.29, bank_is_work=False)
    assert alfworld == pytest.approx(842.86, abs=0.01)
    assert appworld == pytest.approx(207.04, abs=0.01)


def test_a_bank_of_real_work_is_repaid_at_once() -> None:
    assert break_even_episodes(500, 0.059, 0.024, bank_is_work=True) == 0.0


def test_an_arm_without_a_bank_has_nothing_to_repay() -> None:
    assert break_even_episodes(0, 0.059, 0.024, bank_is_work=False) == 0.0


@pytest.mark.parametrize("arm_usd", [0.059, 0.06])
@pytest.mark.parametrize("bank_is_work", [True, False])
def test_an_arm_that_saves_nothing_never_repays(arm_usd: float, bank_is_work: bool) -> None:
    assert break_even_episodes(500, 0.059, arm_usd, bank_is_work=bank_is_work) is None


def test_costs_of_an_episode_and_of_a_solved_task() -> None:
    cached, uncached = cost(EPISODES, "cached"), cost(EPISODES, "uncached")
    assert cached.episode_usd == pytest.approx(0.3)
    assert cached.solved_usd == pytest.approx(0.6)
    assert cached.components_usd == pytest.approx({"student": 0.15, "teacher": 0.15})
    assert uncached.episode_usd == pytest.approx(0.6)
    assert uncached.solved_usd == pytest.approx(1.2)
    assert episode_cost_usd(EPISODES[0], "uncached") == pytest.approx(0.8)


def test_a_solved_task_has_no_cost_where_none_was_solved() -> None:
    assert cost(EPISODES[1:], "cached").solved_usd is None


def test_tokens_add_up_by_component() -> None:
    assert tokens(EPISODES) == {
        "student": Usage(input_tokens=5, cache_read_tokens=7, output_tokens=1),
        "teacher": Usage(output_tokens=2),
    }
