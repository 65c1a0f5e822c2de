"""The budget for demonstrations, the unaided student and ``pinned-delta``, as configured."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate

from tutelage.assembly import Assembly, open_assembly
from tutelage.demonstrating import budget
from tutelage.retrieval.selection import KeyedRetriever
from tutelage.runtime.config import Config, load_config
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.prompt import demonstration_tokens
from tutelage.runtime.types import ChatRequest, Reason, Retrieved, Step, Trajectory, Turn

GOAL = "put the mug on the desk"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def settings(**changes: Any) -> Config:
    given = {
        "retrieval.embedder": "hash",
        "retrieval.k": 6,
        "teacher.priced_as": "gpt-4.1",
        "student.priced_as": "gpt-4.1-mini",
        "store.url": "sqlite:///store.sqlite",
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    return load_config(environment={}, overrides=given)


def trajectory(number: int) -> Trajectory:
    return Trajectory(
        id=f"t{number}",
        tenant="default",
        goal=GOAL,
        turns=(
            Turn("A room with a desk 1." + " and a mug" * 5 * number, "go to desk 1"),
            Turn("A desk. pen pen pen pen pen", "put mug on desk 1"),
        ),
        success=True,
        source="oracle:test",
    )


def step() -> Step:
    return Step("default", "e", 0, GOAL, "A room with a desk 1." + " and a mug" * 40)


def request() -> ChatRequest:
    content = f"Task: {GOAL}\nA room with a desk 1."
    return ChatRequest.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": content}]}
    )


async def filled(**changes: Any) -> AsyncIterator[Assembly]:
    async with open_assembly(settings(**changes)) as assembly:
        await assembly.bank.add([trajectory(number) for number in range(6)])
        yield assembly


async def found(**changes: Any) -> tuple[Sequence[Retrieved], int]:
    """What a step is shown, and its tokens."""
    async for assembly in filled(**changes):
        shown = await assembly.retriever().search(step())
        counted = [
            demonstration_tokens(one.demonstration, "turns", assembly.count_tokens) for one in shown
        ]
    return shown, sum(counted)


async def test_without_a_budget_the_best_are_shown_whatever_they_cost() -> None:
    shown, tokens = await found()
    assert len(shown) == 6
    assert tokens > 200
    async for assembly in filled():
        assert budget(assembly) is None


@pytest.mark.parametrize("limit", [0, 60, 150])
async def test_a_budget_in_tokens_is_kept_by_the_count_of_the_prompt(limit: int) -> None:
    shown, tokens = await found(retrieval__budget_tokens=limit, retrieval__saved_per_value=1.0)
    assert tokens <= limit
    assert bool(shown) == bool(limit)


async def test_a_budget_in_dollars_is_kept_at_the_students_price() -> None:
    free, _ = await found(retrieval__budget_tokens=10_000, retrieval__saved_per_value=1.0)
    shown, tokens = await found(retrieval__budget_usd=60e-6, retrieval__saved_per_value=1.0)
    # gpt-4.1-mini: 0.40 USD per million tokens.
    assert 0 < tokens <= 150
    assert len(shown) < len(free)


async def test_samples_in_turn_pay_a_prompt_several_times() -> None:
    limits = {"retrieval__budget_usd": 60e-6, "retrieval__saved_per_value": 1.0}
    _, together = await found(**limits)
    _, in_turn = await found(cascade__draw="sequential", **limits)
    # The second and third sample read the prompt from the cache at 0.10 USD.
    assert in_turn <= 100 < together <= 150


async def test_none_is_shown_that_costs_more_than_it_saves() -> None:
    shown, _ = await found(retrieval__budget_tokens=10_000, retrieval__saved_per_value=0.001)
    assert shown == []
    cheap = {"teacher__price": {"input": 0.01, "output": 0.01}}
    shown, _ = await found(retrieval__budget_tokens=10_000, **cheap)
    assert shown == []


async def test_a_teacher_without_a_known_price_makes_no_demonstration_too_dear() -> None:
    free = {"teacher__price": {"input": 0.0, "output": 0.0}}
    shown, _ = await found(retrieval__budget_tokens=10_000, **free)
    assert shown


async def test_copies_are_shunned_under_a_budget_unless_diversity_is_off() -> None:
    given = {"retrieval__budget_tokens": 10_000, "retrieval__saved_per_value": 1.0}
    shunned, _ = await found(**given)
    kept, _ = await found(retrieval__diversity=0.0, **given)
    assert len(shunned) < len(kept)


async def test_pinned_trajectories_have_no_budget() -> None:
    async for assembly in filled(retrieval__budget_tokens=0, prompt__layout="pinned-delta"):
        pinned = assembly.pinned_retriever()
        assert isinstance(pinned, KeyedRetriever)
        assert len(await pinned.search(step())) == 1
        assert await assembly.retriever().search(step()) == []


async def test_a_pinned_delta_prompt_shows_the_step_what_its_prefix_lacks() -> None:
    student = ScriptedModel("go to desk 1")
    async for assembly in filled(prompt__layout="pinned-delta", retrieval__k=2):
        runtime = assembly.runtime(teacher=ScriptedModel("look"), student=student)
        async with runtime.episode(goal=GOAL) as episode:
            answer = await episode.complete(request())
    shown = [id.partition(":")[0] for id in answer.trace.demonstrations]
    assert len(set(shown)) == len(shown) == 2


async def test_an_unaided_student_is_asked_first_where_that_is_configured() -> None:
    student = ScriptedModel("go to desk 1")
    async for assembly in filled(retrieval__unaided_first=True):
        runtime = assembly.runtime(teacher=ScriptedModel("look"), student=student)
        answer = await runtime.complete(request())
    assert (answer.decision.served, answer.decision.reason) == ("student", Reason.AGREED)
    assert answer.trace.demonstrations == ()
    assert answer.trace.features["unaided"] == 1.0
    assert "similarity" not in answer.trace.features
    assert len(student.calls) == 1


async def test_what_demonstrations_were_worth_is_read_from_the_traffic() -> None:
    async for assembly in filled(retrieval__budget_tokens=500):
        runtime = assembly.runtime(
            teacher=ScriptedModel("look"), student=ScriptedModel("go to desk 1"), releases=True
        )
        async with runtime.episode(goal=GOAL) as episode:
            answer = await episode.complete(request())
            await episode.feedback(success=True)
        await assembly.exposures.flush()
        # The search has already looked, at nothing; a new one looks again.
        del assembly.worth
        await assembly.worth.utilities("default")
        await assembly.worth.aclose()
        known = await assembly.worth.utilities("default")
    shown = {id.partition(":")[0] for id in answer.trace.demonstrations}
    assert shown
    assert known == pytest.approx(dict.fromkeys(shown, (1 + 0.99 * 2) / 3 / 0.99))


@pytest.mark.parametrize(
    ("key", "wrong"),
    [("budget_tokens", -1), ("budget_usd", -0.1), ("diversity", -1), ("saved_per_value", 1.5)],
)
def test_a_wrong_budget_names_its_key(key: str, wrong: float) -> None:
    with pytest.raises(ConfigError, match=rf"retrieval\.{key} = {wrong}"):
        settings(**{f"retrieval__{key}": wrong})
