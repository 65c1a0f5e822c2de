from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from tutelage.benchmarks.copying_student import CopyingStudent
from tutelage.cascade.agreement import Unanimous
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.runtime.errors import ModelError, ModelTimeout
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.sampling import Drawing
from tutelage.runtime.types import ChatRequest, Choice, Completion, Draw, SamplePlan, Usage

PROMPT = ChatRequest.model_validate(
    {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.3}
)
ONE = Usage(input_tokens=10, output_tokens=1)


class Gated:
    """A student whose calls come back when they are told to, in any order."""

    def __init__(self) -> None:
        self.gates: list[asyncio.Future[str]] = []
        self.cancelled = 0

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        try:
            text = await gate
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        message = {"role": "assistant", "content": text}
        return Completion.model_validate(
            {"id": text, "model": "m", "choices": [{"index": 0, "message": message}], "usage": ONE}
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        raise AssertionError("samples are not streamed")
        yield {}


def never(choices: Sequence[Choice]) -> bool:
    return False


def two(choices: Sequence[Choice]) -> bool:
    return len(choices) >= 2


def drawn(drawing: Drawing) -> list[tuple[int, str]]:
    assert drawing.completion is not None
    return [(choice.index, choice.message.text) for choice in drawing.completion.choices]


async def test_together_is_one_call_at_the_temperature_of_the_plan() -> None:
    student = ScriptedModel([["a", "b", "c"]], usage=ONE)
    drawing = Drawing(student, PROMPT, SamplePlan(3, 0.7), never)
    await drawing.run()
    assert [(call.n, call.request.temperature) for call in student.calls] == [(3, 0.7)]
    assert drawn(drawing) == [(0, "a"), (1, "b"), (2, "c")]


async def test_without_a_temperature_the_request_keeps_its_own() -> None:
    student = ScriptedModel("a")
    await Drawing(student, PROMPT, SamplePlan(2), never).run()
    assert student.requests[0].temperature == 0.3


async def test_one_by_one_stops_when_it_is_settled() -> None:
    student = ScriptedModel(["a", "b", "c"], usage=ONE)
    drawing = Drawing(student, PROMPT, SamplePlan(3, 0.7, "sequential"), two)
    await drawing.run()
    assert drawn(drawing) == [(0, "a"), (1, "b")]
    assert drawing.completion is not None
    assert drawing.completion.usage == Usage(input_tokens=20, output_tokens=2)
    assert drawing.given_up == 0


async def test_the_greedy_sample_comes_first() -> None:
    student = ScriptedModel(["a", ["b", "c"]])
    drawing = Drawing(student, PROMPT, SamplePlan(3, 0.7, greedy_first=True), never)
    await drawing.run()
    assert [(call.n, call.request.temperature) for call in student.calls] == [(1, 0.0), (2, 0.7)]
    assert drawn(drawing) == [(0, "a"), (1, "b"), (2, "c")]


async def test_a_race_gives_up_the_late_calls_when_it_is_settled() -> None:
    student = Gated()
    drawing = Drawing(student, PROMPT, SamplePlan(4, 0.7, "racing"), two)
    race = asyncio.create_task(drawing.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    student.gates[2].set_result("third")
    student.gates[0].set_result("first")
    await race
    assert drawn(drawing) == [(0, "first"), (1, "third")]
    assert (student.cancelled, drawing.given_up) == (2, 2)


async def test_a_race_waits_for_its_first_sample() -> None:
    student = Gated()
    drawing = Drawing(student, PROMPT, SamplePlan(3, 0.7, "racing", greedy_first=True), two)
    race = asyncio.create_task(drawing.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    student.gates[1].set_result("b")
    student.gates[2].set_result("c")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not race.done()
    student.gates[0].set_result("greedy")
    await race
    assert drawn(drawing) == [(0, "greedy"), (1, "b"), (2, "c")]


@pytest.mark.parametrize("draw", ["sequential", "racing"])
async def test_what_was_drawn_before_a_failure_is_kept(draw: str) -> None:
    student = ScriptedModel("a", usage=ONE, failures={1: ModelTimeout("late")})
    plan = SamplePlan(3, 0.7, "sequential" if draw == "sequential" else "racing")
    drawing = Drawing(student, PROMPT, plan, never)
    with pytest.raises(ModelError):
        await drawing.run()
    assert drawing.completion is not None
    assert drawing.given_up >= 1


async def test_whoever_leaves_cancels_every_call() -> None:
    student = Gated()
    drawing = Drawing(student, PROMPT, SamplePlan(3, 0.7, "racing"), never)
    race = asyncio.create_task(drawing.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert (student.cancelled, drawing.given_up, drawing.completion) == (3, 3, None)


@pytest.mark.parametrize("draw", ["sequential", "racing"])
async def test_calls_of_one_step_do_not_share_a_seed(draw: Draw) -> None:
    seeded = ChatRequest.model_validate({**PROMPT.wire(), "seed": 7})
    student = ScriptedModel("a")
    await Drawing(student, seeded, SamplePlan(3, 0.7, draw), never).run()
    assert [(request.model_extra or {}).get("seed") for request in student.requests] == [7, 8, 9]
    await Drawing(student, PROMPT, SamplePlan(2, 0.7, draw), never).run()
    assert "seed" not in (student.requests[-1].model_extra or {})


async def test_one_by_one_decides_as_all_at_once_and_draws_less() -> None:
    """The rule of three identical samples, over 300 prompts of a student that often disagrees."""
    rule = Unanimous(TextCanonicalizer())
    decided, drawn = [], {"together": 0, "sequential": 0}
    for seed in range(300):
        turns = [
            {"role": role, "content": text}
            for place in range(4)
            for role, text in (("user", f"a b {place}"), ("assistant", f"go {place % 3}"))
        ]
        request = ChatRequest.model_validate(
            {"model": "m", "messages": [*turns, {"role": "user", "content": "a b"}], "seed": seed}
        )
        told = []
        for draw in ("together", "sequential"):
            plan = SamplePlan(3, 0.7, "together" if draw == "together" else "sequential")
            drawing = Drawing(
                CopyingStudent(), request, plan, lambda choices: rule.measure(choices, 3).settled
            )
            await drawing.run()
            assert drawing.completion is not None
            vote = rule.measure(drawing.completion.choices, 3)
            told.append((vote.agreed, vote.modal if vote.agreed else None))
            drawn[draw] += vote.samples
        decided.append(told)
    assert all(together == sequential for together, sequential in decided)
    assert any(agreed for (agreed, _), _ in decided)
    assert drawn["together"] == 900
    assert drawn["sequential"] < 0.8 * drawn["together"]
