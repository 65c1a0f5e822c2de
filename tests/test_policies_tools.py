"""Calls that differ only in what their tool's schema makes equal, through a whole runtime."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.configured_policies import settings
from tests.isolation import isolate

from tutelage.assembly import Assembly, open_assembly
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.pipeline import Runtime
from tutelage.runtime.types import (
    ChatRequest,
    Demonstration,
    Message,
    Reason,
    Retrieved,
    Step,
    Turn,
)

PARAMETERS = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "limit": {"type": "integer", "default": 10}},
}
FIND = {"type": "function", "function": {"name": "find", "parameters": PARAMETERS}}
SHORT, FULL = '{"name":"a"}', '{"limit":10,"name":"a"}'
OTHER = '{"limit":20,"name":"a"}'
READS: dict[str, Any] = {"cascade__effects": {"find": "read"}}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def calls(arguments: str, id: str = "c1") -> Message:
    function = {"name": "find", "arguments": arguments}
    call = {"id": id, "type": "function", "function": function}
    return Message(role="assistant", tool_calls=[call])


def request(*past: str, tools: Sequence[Any] = (FIND,)) -> ChatRequest:
    """An episode that called ``find`` with these arguments, and saw the same each time."""
    messages: list[Message] = [Message(role="user", content="Task: tidy.\nA room.")]
    for place, arguments in enumerate(past):
        messages.append(calls(arguments, f"c{place}"))
        messages.append(
            Message.model_validate(
                {"role": "tool", "content": "A room.", "tool_call_id": f"c{place}"}
            )
        )
    return ChatRequest(model="agent", messages=messages, tools=list(tools))


class Shelf:
    """Finds demonstrations that call ``find`` with these arguments."""

    def __init__(self, *shown: str) -> None:
        self.shown = shown

    async def search(self, step: Step) -> Sequence[Retrieved]:
        return [
            Retrieved(
                Demonstration(
                    id=f"d{place}:0",
                    tenant=step.tenant,
                    trajectory_id=f"d{place}",
                    step_index=0,
                    goal="tidy the hall.",
                    window=(Turn("A hall.", call_text(arguments)),),
                    source="oracle:test",
                ),
                0.9,
            )
            for place, arguments in enumerate(self.shown)
        ]


def call_text(arguments: str) -> str:
    return json.dumps(
        {"tool_calls": [{"name": "find", "arguments": arguments}]}, separators=(",", ":")
    )


@asynccontextmanager
async def opened(
    student: Sequence[str], shown: Sequence[str] = (), teacher: str = FULL, **changes: Any
) -> AsyncIterator[tuple[Assembly, Runtime, ScriptedModel]]:
    """A runtime as configured, whose student calls ``find`` in one sample after the other."""
    async with open_assembly(settings(**changes)) as assembly:
        sampled = ScriptedModel([[calls(arguments) for arguments in student]])
        runtime = assembly.runtime(
            teacher=ScriptedModel([calls(teacher)] * 9),
            student=sampled,
            retriever=Shelf(*shown),
        )
        yield assembly, runtime, sampled
        await runtime.aclose()


@pytest.mark.parametrize("rule", ["votes", "asymmetric", "majority"])
async def test_samples_agree_by_the_schema_of_their_step(rule: str) -> None:
    samples = [SHORT, FULL, '{"name":"a","limit":"10"}']
    changes: dict[str, Any] = {"cascade__rule": rule, "cascade__rule_threshold": 0.8}
    async with opened(samples, **changes) as (_, runtime, _student):
        answer = await runtime.complete(request())
    assert answer.decision.reason is Reason.AGREED
    assert answer.trace.agreement == 1.0
    assert len({sample.action for sample in answer.trace.samples}) == 1


async def test_without_the_schema_of_the_tool_they_differ() -> None:
    tools = [{"type": "function", "function": {"name": "find"}}]
    async with opened([SHORT, FULL, SHORT]) as (_, runtime, _student):
        answer = await runtime.complete(request(tools=tools))
    assert answer.trace.agreement == pytest.approx(2 / 3)
    assert answer.decision.reason is Reason.DISAGREED


@pytest.mark.parametrize(("past", "reason"), [(FULL, Reason.LOOP), (OTHER, Reason.AGREED)])
async def test_a_repeated_call_is_a_loop_however_it_is_written(past: str, reason: Reason) -> None:
    async with opened([SHORT] * 3, cascade__guards=["loop"]) as (_, runtime, _student):
        answer = await runtime.complete(request(past))
    assert answer.decision.reason is reason


@pytest.mark.parametrize(("said", "agrees"), [(FULL, True), (OTHER, False)])
async def test_an_audit_compares_by_the_schema(said: str, agrees: bool) -> None:
    async with opened([SHORT] * 3, teacher=said, evidence__audits=1.0) as (assembly, runtime, _):
        answer = await runtime.complete(request())
        await runtime.aclose()
        (audit,) = await assembly.audits.audits("default")
    assert answer.decision.served == "student"
    assert audit.agrees is agrees


async def test_demonstrations_show_one_call_however_they_write_it() -> None:
    changes: dict[str, Any] = {"routing__recall": 0.5, "routing__votes": 2, **READS}
    async with opened([OTHER] * 3, [SHORT, FULL], **changes) as (_, runtime, student):
        answer = await runtime.complete(request())
        assert student.calls == []
        without_schema = {"type": "function", "function": {"name": "find"}}
        apart = await runtime.complete(request(tools=[without_schema]))
    assert (answer.decision.reason, answer.trace.agreement) == (Reason.RECALLED, 1.0)
    assert apart.decision.reason is Reason.AGREED
    assert len(student.calls) == 1


async def test_an_easy_call_is_confirmed_by_its_schema() -> None:
    changes: dict[str, Any] = {"routing__easy": 0.5, "routing__votes": 2}
    async with opened([SHORT], [FULL, FULL], **changes) as (_, runtime, student):
        answer = await runtime.complete(request())
    assert (answer.decision.reason, student.calls[0].n) == (Reason.AGREED, 1)


async def test_features_count_a_call_by_its_schema() -> None:
    async with opened([SHORT] * 3, [FULL, FULL, OTHER], **READS) as (_, runtime, _student):
        found = (await runtime.complete(request(FULL, OTHER))).trace.features
    assert (found["repeats"], found["mutating"]) == (1.0, 0.0)
    assert found["support"] == found["consensus"] == pytest.approx(2 / 3)


async def test_what_is_not_declared_is_mutating() -> None:
    async with opened([SHORT] * 3) as (_, runtime, _student):
        answer = await runtime.complete(request())
    assert answer.trace.features["mutating"] == 1.0


async def test_calls_that_are_recalled_have_an_id_of_their_own_that_any_api_takes() -> None:
    changes: dict[str, Any] = {"routing__recall": 0.5, "routing__votes": 2, **READS}
    async with opened([OTHER], [SHORT, SHORT], cascade__guards=[], **changes) as (_, runtime, _s):
        answers = [await runtime.complete(request(*[OTHER] * index)) for index in range(3)]
    ids = []
    for answer in answers:
        assert answer.decision.reason is Reason.RECALLED
        (call,) = answer.completion.choices[0].message.tool_calls or [{}]
        assert json.loads(call["function"]["arguments"]) == json.loads(SHORT)
        ids.append(call["id"])
    assert len(set(ids)) == 3
    # OpenAI takes 40 characters at most.
    assert all(len(id) <= 40 and id.replace("_", "").isalnum() for id in ids)
