"""What an upstream is sent: our own words where a call is written anew, the client's where not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.served_gateway import PATHS, WIRES, World, call

COUNT = "/v1/messages/count_tokens"


@pytest.mark.parametrize("model", ["passthrough", "teacher"])
@pytest.mark.parametrize("given", [None, "2024-01-01"])
async def test_a_messages_call_has_a_version_whatever_else_its_upstream_speaks(
    model: str, given: str | None, world: World
) -> None:
    headers = {} if given is None else {"anthropic-version": given}
    async with world.serve(wires=["chat", "messages"]) as served:
        await served.ask("messages", call("messages", model), headers)
        await served.send("POST", COUNT, call("messages", "passthrough"), headers)
        await served.ask("chat", call("chat", model), headers)

    sent = [one.headers.get("anthropic-version") for one in world.teacher.requests]
    assert sent[:2] == [given or "2023-06-01"] * 2
    # Of another API it is nobody's business but the client's.
    assert sent[2] == given


def limited(wire: str, model: str) -> dict[str, Any]:
    field = {"chat": "max_tokens", "responses": "max_output_tokens", "messages": "max_tokens"}[wire]
    return {**call(wire, model), field: 17}


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("wire", ["responses", "messages"])
async def test_a_limit_is_told_in_the_field_that_the_upstream_takes(
    wire: str, field: str, world: World
) -> None:
    async with world.serve({"teacher.output_limit": field}, wires=["chat"]) as served:
        await served.ask(wire, limited(wire, "teacher"))
    sent = world.teacher.last.body
    assert {name: sent[name] for name in sent if name.startswith("max_")} == {field: 17}


@pytest.mark.parametrize("wire", WIRES)
async def test_what_a_client_sent_is_relayed_byte_by_byte_whatever_the_upstream_takes(
    wire: str, world: World
) -> None:
    body = limited(wire, "large")
    if wire != "messages":
        body["max_completion_tokens"] = 18
    raw = json.dumps(body, indent=1).encode()
    settings = {"teacher.output_limit": "max_completion_tokens"}
    async with world.serve({**settings, "aliases": {"*": {"mode": "passthrough"}}}) as served:
        await served.send("POST", PATHS[wire], raw)
    assert world.teacher.last.raw == raw


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_a_student_is_told_the_limit_in_its_own_field(field: str, world: World) -> None:
    async with world.serve({"student.output_limit": field}) as served:
        await served.ask("messages", limited("messages", "student"))
        await served.ask("responses", limited("responses", "student"))
    for one in world.student.requests:
        limits = {name: one.body[name] for name in one.body if name.startswith("max_")}
        assert limits == {field: 17}
