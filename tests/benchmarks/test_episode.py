from __future__ import annotations

import pytest
from tests.benchmarks.tiny_world import tasks

from tutelage.benchmarks.budget import Budget, BudgetSpent
from tutelage.benchmarks.episode import clean_action, episode_seed, is_refusal


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ("go to shelf 1", "go to shelf 1"),
        ("  Action: go to shelf 1 \n", "go to shelf 1"),
        ("ACTION :look", "look"),
        ("Action:", ""),
        ("", ""),
        ("take action: now", "take action: now"),
    ],
)
def test_an_answer_is_cleaned_to_its_action(answer: str, action: str) -> None:
    assert clean_action(answer) == action


@pytest.mark.parametrize(
    ("observation", "refused"),
    [
        ("Nothing happens.", True),
        (" nothing happens", True),
        ("You open the drawer. Nothing happens to be inside.", False),
        ("", False),
    ],
)
def test_a_refusal_is_recognised(observation: str, refused: bool) -> None:
    assert is_refusal(observation) is refused


def test_seeds_differ_by_task_and_repeat_and_fit_31_bits() -> None:
    seeds = [episode_seed(task, seed) for task in tasks(20) for seed in range(20)]
    assert len(set(seeds)) == 400
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert episode_seed(tasks(1)[0], 3) == episode_seed(tasks(1)[0], 3)


def test_a_budget_is_spent_at_its_cap_and_counts_what_came_before() -> None:
    budget = Budget(1.0, spent_usd=0.75)
    budget.check()
    budget.spend(0.25)
    assert budget.exhausted
    with pytest.raises(BudgetSpent):
        budget.check()


def test_a_budget_without_a_cap_is_never_spent() -> None:
    budget = Budget(None)
    budget.spend(1e9)
    budget.check()
    assert not budget.exhausted
