"""A client that demands a call, or JSON: an answer of another form is no answer to it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fault_upstream import Fault, Received
from tests.served_gateway import (
    WIRES,
    Served,
    Steered,
    World,
    call,
    is_complete,
    streamed_text,
    text_of,
    tool,
)
from tests.upstream_answers import Said

wires = pytest.mark.parametrize("wire", WIRES)
streams = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
STUDENT, TEACHER = "go to desk 1", "go to the teacher's desk"
ARGUMENTS = json.dumps({"where": "desk 1", "how": "quietly"})


def forced(wire: str) -> list[dict[str, Any]]:
    """What a client says so that a tool is called."""
    if wire == "messages":
        return [{"tool_choice": {"type": "any"}}, {"tool_choice": {"type": "tool", "name": "walk"}}]
    named: dict[str, Any] = {"type": "function", "function": {"name": "walk"}}
    allowed: dict[str, Any] = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [named]},
    }
    if wire == "responses":
        named = {"type": "function", "name": "walk"}
        allowed = {"type": "allowed_tools", "mode": "required", "tools": [named]}
    return [{"tool_choice": choice} for choice in ("required", named, allowed)]


def formed(wire: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """What a client says so that an answer is JSON."""
    if wire == "messages":
        return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    named = {"name": "place", "schema": schema, "strict": True}
    if wire == "responses":
        return {"text": {"format": {"type": "json_schema", **named}}}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


FORCED = [(wire, fields) for wire in WIRES for fields in forced(wire)]
SCHEMA = {
    "type": "object",
    "properties": {"Where": {"type": "string"}},
    "required": ["Where"],
    "additionalProperties": False,
}


@streams
@pytest.mark.parametrize("model", ["cascade", "route", "student"])
@pytest.mark.parametrize(("wire", "fields"), FORCED)
async def test_a_text_is_not_served_where_a_call_is_due(
    wire: str, fields: dict[str, Any], model: str, stream: bool, served: Served, world: World
) -> None:
    body = call(wire, model, tools=[tool(wire)], stream=stream, **fields)
    got = await served.ask(wire, body)
    (trace,) = await served.traces()

    assert trace.answer == TEACHER
    assert (trace.decision.reason.value, trace.decision.detail) == ("wrong_form", "tool_choice")
    assert (got.told("reason"), got.told("detail")) == ("wrong_form", "tool_choice")
    assert got.told("served") == "teacher"


@pytest.mark.parametrize(("wire", "fields"), FORCED)
async def test_a_call_that_is_due_is_served(
    wire: str, fields: dict[str, Any], served: Served, world: World
) -> None:
    world.student.fault = "tools"
    got = await served.ask(wire, call(wire, "cascade", tools=[tool(wire)], **fields))
    assert (got.told("reason"), world.teacher.calls()) == ("agreed", 0)


@pytest.mark.parametrize(
    ("wire", "fields", "detail"),
    [
        ("chat", {"tool_choice": "none"}, "tool_choice"),
        ("responses", {"tool_choice": "none"}, "tool_choice"),
        ("messages", {"tool_choice": {"type": "none"}}, "tool_choice"),
        ("chat", {"parallel_tool_calls": False}, "parallel_tool_calls"),
        ("responses", {"parallel_tool_calls": False}, "parallel_tool_calls"),
        (
            "messages",
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            "parallel_tool_calls",
        ),
    ],
)
async def test_calls_that_the_client_rules_out_are_not_served(
    wire: str, fields: dict[str, Any], detail: str, served: Served, world: World
) -> None:
    world.student.fault = "tools;count=2"
    got = await served.ask(wire, call(wire, "cascade", tools=[tool(wire)], **fields))
    assert (got.told("reason"), got.told("detail")) == ("wrong_form", detail)


@streams
@wires
@pytest.mark.parametrize("model", ["cascade", "route", "student"])
@pytest.mark.parametrize("said", [STUDENT, '{"where": "desk 1"}', '{"Where": 1}', '{"Where": "'])
async def test_a_text_that_is_not_the_json_asked_for_is_not_served(
    wire: str, model: str, said: str, stream: bool, served: Served, world: World
) -> None:
    world.student.say = said
    got = await served.ask(wire, {**call(wire, model, stream=stream), **formed(wire, SCHEMA)})
    (trace,) = await served.traces()

    assert trace.answer == TEACHER
    assert (got.told("reason"), got.told("detail")) == ("wrong_form", "response_format")


@streams
@wires
@pytest.mark.parametrize("model", ["cascade", "route"])
async def test_the_json_asked_for_is_served_letter_by_letter(
    wire: str, model: str, stream: bool, served: Served, world: World
) -> None:
    world.student.say = said = '{"Where": "The Desk 1."}'
    got = await served.ask(wire, {**call(wire, model, stream=stream), **formed(wire, SCHEMA)})

    assert (streamed_text if stream else lambda w, g: text_of(w, g.json))(wire, got) == said
    assert world.teacher.calls() == 0


@pytest.mark.parametrize(
    ("wire", "fields"),
    [
        ("chat", {"response_format": {"type": "json_object"}}),
        ("responses", {"text": {"format": {"type": "json_object"}}}),
    ],
)
@pytest.mark.parametrize(("said", "role"), [("[1]", "teacher"), ('{"a": 1}', "student")])
async def test_an_object_is_asked_for_without_a_schema(
    wire: str, fields: dict[str, Any], said: str, role: str, served: Served, world: World
) -> None:
    world.student.say = said
    got = await served.ask(wire, {**call(wire, "cascade"), **fields})
    assert (got.told("served") or "").startswith(role)


async def test_a_client_cannot_force_a_student_that_has_not_the_form(served: Served) -> None:
    body = call("chat", "cascade", tools=[tool("chat")], tool_choice="required")
    got = await served.ask("chat", body, {"x-tutelage-force": "student"})
    assert (got.told("served"), got.told("reason")) == ("teacher", "wrong_form")


async def test_a_choice_that_is_not_known_here_asks_no_student(
    served: Served, world: World
) -> None:
    choice = {"type": "custom", "custom": {"name": "walk"}}
    body = call("chat", "cascade", tools=[tool("chat")], tool_choice=choice)
    got = await served.ask("chat", body)
    assert (got.told("reason"), got.told("detail")) == ("unsupported", "tool_choice")
    assert world.student.calls() == 0


# Which parameter it was.


@pytest.mark.parametrize(
    ("wire", "fields", "detail"),
    [
        ("chat", {"n": 2}, "n"),
        ("chat", {"logprobs": True}, "logprobs"),
        ("chat", {"seed": 7}, "seed"),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ("responses", {"truncation": "auto"}, "truncation"),
        ("responses", {"tools": [{"type": "web_search"}]}, "tools (web_search)"),
    ],
)
@streams
async def test_a_parameter_that_is_not_supported_is_named(
    wire: str, fields: dict[str, Any], detail: str, stream: bool, served: Served
) -> None:
    got = await served.ask(wire, call(wire, "cascade", stream=stream, **fields))
    (trace,) = await served.traces()
    decision = await served.decision(got.told("decision-id"))

    assert (got.told("reason"), got.told("detail")) == ("unsupported", detail)
    assert trace.decision.detail == detail
    assert decision["tutelage"]["detail"] == detail


async def test_a_reserved_tool_is_named(served: Served, world: World) -> None:
    world.student.fault = "tools"
    aliases = {"careful": {"teacher_only_tools": ["wa*"]}}
    async with world.serve({"aliases": aliases}) as careful:
        got = await careful.ask("chat", call("chat", "careful", tools=[tool("chat")]))
    assert (got.told("reason"), got.told("detail")) == ("teacher_only_tool", "walk")


# A call although no tool is offered.


class Caller(Steered):
    """A student that says something, and calls a tool all the same."""

    before = ""

    def said(self, request: Received, fault: Fault) -> Said:
        said = super().said(request, fault)
        return replace(said, text=self.before, calls=(("call_0", "pay", ARGUMENTS),))


@streams
@wires
async def test_a_call_of_a_tool_that_nobody_offered_never_reaches_a_routed_client(
    wire: str, stream: bool, world: World
) -> None:
    async with Caller() as student, world.serve({"student.base_url": student.base_url}) as served:
        got = await served.ask(wire, call(wire, "route", stream=stream))
        (trace,) = await served.traces()

    # Only our own facts name it.
    assert b"pay" not in got.raw.replace(b'"detail":"pay"', b"")
    assert (trace.answer, trace.decision.served) == (TEACHER, "teacher")
    assert (trace.decision.reason.value, trace.decision.detail) == ("unknown_tool", "pay")
    assert trace.usage["student"].prompt_tokens > 0
    if stream:
        assert is_complete(wire, got)
        assert streamed_text(wire, got) == TEACHER


@wires
async def test_a_call_after_a_text_is_left_out_of_a_routed_stream(wire: str, world: World) -> None:
    async with Caller() as student, world.serve({"student.base_url": student.base_url}) as served:
        student.before = STUDENT
        got = await served.ask(wire, call(wire, "route", stream=True))
        (trace,) = await served.traces()

    assert b"pay" not in got.raw
    assert is_complete(wire, got)
    assert streamed_text(wire, got) == trace.answer == STUDENT
    assert trace.decision.served == "student"


@wires
async def test_a_routed_student_that_streams_nothing_leaves_the_step_to_the_teacher(
    wire: str, served: Served, world: World
) -> None:
    world.student.fault = "empty"
    got = await served.ask(wire, call(wire, "route", stream=True))
    (trace,) = await served.traces()

    assert streamed_text(wire, got) == TEACHER
    assert (trace.decision.served, trace.decision.reason.value) == ("teacher", "student_failed")


LOADS = """
import asyncio, sys
from tutelage.runtime.config import load_config
from tutelage.serving import open_parts

async def main():
    ends = {"base_url": "http://127.0.0.1:1/v1", "model": "m", "price": {"input": 1, "output": 1}}
    settings = {"teacher": ends, "student": ends, "retrieval.enabled": False}
    settings |= {"store.url": sys.argv[1], "aliases": eval(sys.argv[2])}
    config = load_config(None, {}, settings)
    parts = await open_parts(config, is_open=True)
    print("jsonschema" in sys.modules, "referencing" in sys.modules)
    await parts.aclose()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("aliases", "loaded"),
    [
        ({"*": {"mode": "cascade"}}, "True True"),
        ({"*": {"mode": "passthrough"}}, "False False"),
        ({"*": {"policy": "always-teacher"}}, "False False"),
    ],
)
async def test_the_checks_are_loaded_at_start_where_a_student_is_asked(
    aliases: dict[str, Any], loaded: str, tmp_path: Path
) -> None:
    """Importing them at the first call would block every other client."""
    url = f"sqlite:///{tmp_path}/tutelage.sqlite"
    command = (sys.executable, "-c", LOADS, url, repr(aliases))
    asking = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await asking.communicate()
    assert out.decode().strip() == loaded
