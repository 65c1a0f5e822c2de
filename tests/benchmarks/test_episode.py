from __future__ import annotations

import pytest
from tests.benchmarks.tiny_world import Corridor, TinyRuntime, oracle, settings, tasks

from tutelage.benchmarks.arms import find_arms
from tutelage.benchmarks.budget import Budget, BudgetSpent
from tutelage.benchmarks.environment import OracleAction, Outcome
from tutelage.benchmarks.episode import EpisodePlay, clean_action, episode_seed, is_refusal
from tutelage.benchmarks.manner import Manner
from tutelage.runtime.steps import action_text


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


async def test_a_world_of_tool_calls_is_played_by_calls_and_their_results() -> None:
    call = '{"tool_calls":[{"name":"walk","arguments":"{}"},{"name":"look","arguments":"{}"}]}'

    class Hall(Corridor):
        async def oracle(self) -> OracleAction:
            return OracleAction(call, "expert")

        async def step(self, action: str) -> Outcome:
            return await super().step("go right" if action == call else action)

    tools = ({"type": "function", "function": {"name": "walk", "parameters": {}}},)
    arm = find_arms(["teacher"])[0]
    world = Hall()
    runtime = TinyRuntime(arm, oracle(world), 0)
    play = EpisodePlay(
        arm=arm,
        task=tasks(2)[1],
        seed=0,
        settings=settings(),
        run="r",
        tenant="t",
        clock=lambda: 0.0,
        timer=lambda: 0.0,
        manner=Manner("tools", stop=(), tools=tools),
    )

    result = await play.play(world, runtime, "e", Budget(None))

    assert result.success
    first, second = runtime.requests
    assert first.stop is None
    assert first.tools == second.tools == list(tools)
    called, result_of_walk, result_of_look = second.messages[-3:]
    assert action_text(called) == call
    assert called.tool_calls is not None
    ids = [one["id"] for one in called.tool_calls]
    assert [result_of_walk.role, result_of_look.role] == ["tool", "tool"]
    assert [(m.model_extra or {})["tool_call_id"] for m in second.messages[-2:]] == ids
    assert result_of_walk.text == "The goal is 1 rooms away."
