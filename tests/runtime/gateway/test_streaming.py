"""Streams over the socket: what comes in which order, pings, usage, and the end."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
from tests.served_gateway import (
    WIRES,
    Got,
    Served,
    World,
    call,
    error_event_of,
    error_of,
    is_complete,
    streamed_text,
    tool,
)

wires = pytest.mark.parametrize("wire", WIRES)
STUDENT, TEACHER = "go to desk 1", "go to the teacher's desk"
SERVED = {
    "passthrough": TEACHER,
    "route": STUDENT,
    "cascade": STUDENT,
    "shadow": TEACHER,
    "teacher": TEACHER,
    "student": STUDENT,
}
models = pytest.mark.parametrize("model", SERVED)
FAST_PINGS = {"gateway.ping_s": 0.03}


def asked(wire: str, model: str, **fields: Any) -> dict[str, Any]:
    return call(wire, model, stream=True, **fields)


def models_named(got: Got) -> set[str]:
    """All names of models in the events of a stream."""
    holders = [
        holder
        for event in got.data
        for holder in (event, event.get("message"), event.get("response"))
        if isinstance(holder, dict)
    ]
    return {holder["model"] for holder in holders if "model" in holder}


def usages(wire: str, got: Got) -> list[dict[str, Any]]:
    """What the events of a stream say of tokens, but for the beginning of a message."""
    if wire == "responses":
        return [event["response"]["usage"] for event in got.data[-1:]]
    return [event["usage"] for event in got.data if event.get("usage")]


@wires
@models
async def test_each_mode_streams_whole_answers(
    wire: str, model: str, served: Served, world: World
) -> None:
    got = await served.ask(wire, asked(wire, model))
    (trace,) = await served.traces()

    assert got.status == 200
    assert got.headers["content-type"].startswith("text/event-stream")
    assert streamed_text(wire, got) == SERVED[model] == trace.answer
    assert is_complete(wire, got)
    assert models_named(got) == {model}
    assert got.told("decision-id") == trace.id


@wires
async def test_a_refused_student_is_not_seen_in_the_stream(
    wire: str, served: Served, world: World
) -> None:
    world.student.disagree()

    got = await served.ask(wire, asked(wire, "cascade"))

    assert streamed_text(wire, got) == TEACHER
    assert is_complete(wire, got)
    assert (got.told("served"), got.told("reason")) == ("teacher", "disagreed")


@wires
@pytest.mark.parametrize("model", ["passthrough", "teacher", "cascade"])
@pytest.mark.parametrize("upstream_wire", WIRES)
async def test_teachers_of_any_wire_serve_clients_of_any_wire(
    wire: str, model: str, upstream_wire: str, world: World
) -> None:
    async with world.serve(wires=[upstream_wire]) as served:
        got = await served.ask(wire, asked(wire, model))

    assert streamed_text(wire, got) == SERVED[model]
    assert is_complete(wire, got)
    assert models_named(got) == {model}


@wires
async def test_a_replayed_answer_comes_in_pieces(wire: str, world: World) -> None:
    world.student.say = "go to desk 1 and then to every other desk of the room " * 8
    async with world.serve() as served:
        got = await served.ask(wire, asked(wire, "cascade"))

    pieces = [data for _, data in got.events]
    assert streamed_text(wire, got) == world.student.say
    # The stream of an unhurried model: no event but the last ones says much.
    assert len(pieces) > 10


# Usage.


@pytest.mark.parametrize("model", ["passthrough", "route", "cascade", "teacher"])
@pytest.mark.parametrize("native", [True, False], ids=["same-wire", "other-wire"])
async def test_a_chat_client_sees_the_usage_only_if_it_asks(
    model: str, native: bool, world: World
) -> None:
    async with world.serve(wires=["chat"] if native else ["messages"]) as served:
        options = {"include_usage": True}
        silent = await served.ask("chat", asked("chat", model))
        told = await served.ask("chat", asked("chat", model, stream_options=options))
        first, second = await served.traces(2)

    assert usages("chat", silent) == []
    assert len(usages("chat", told)) == 1
    *others, last = told.data
    assert (last["choices"], bool(last["usage"])) == ([], True)
    assert all(event.get("usage") is None for event in others)
    # The meter runs either way.
    tokens = [sum(used.prompt_tokens for used in one.usage.values()) for one in (first, second)]
    assert tokens == [12, 12]


@wires
@models
async def test_a_stream_tells_the_tokens_of_its_own_answer(
    wire: str, model: str, served: Served
) -> None:
    fields = {"stream_options": {"include_usage": True}} if wire == "chat" else {}

    got = await served.ask(wire, asked(wire, model, **fields))

    usage = usages(wire, got)[-1]
    output = usage["completion_tokens"] if wire == "chat" else usage["output_tokens"]
    assert output == (3 if SERVED[model] == STUDENT else 5)
    if SERVED[model] == STUDENT:
        assert usage["prompt_tokens" if wire == "chat" else "input_tokens"] == 3


@wires
@pytest.mark.parametrize("native", [True, False], ids=["same-wire", "other-wire"])
@pytest.mark.parametrize("model", ["route", "cascade", "student", "teacher", "two-cascade"])
@pytest.mark.parametrize("fields", [{}, {"stream_options": {"include_usage": True}}])
async def test_the_end_of_a_stream_says_what_it_cost(
    wire: str, native: bool, model: str, fields: dict[str, Any], world: World
) -> None:
    if model == "two-cascade":
        world.student.disagree()
    upstream_wires = [wire] if native else ["messages" if wire == "chat" else "chat"]
    async with world.serve(wires=upstream_wires) as served:
        got = await served.ask(wire, asked(wire, model, **(fields if wire == "chat" else {})))
        (trace,) = await served.traces()

    facts = facts_of(got)
    assert is_complete(wire, got)
    assert facts["decision_id"] == trace.id
    assert facts["cost_usd"] == pytest.approx(sum(trace.cost_usd.values()))
    role = "teacher" if model in ("teacher", "two-cascade") else "student@small"
    assert facts["served"] == role
    assert facts["reason"] == trace.decision.reason.value


def facts_of(got: Got) -> dict[str, Any]:
    """What the one event that tells it says of the decision."""
    holders = [holder for event in got.data for holder in (event, event.get("response") or {})]
    (facts,) = (holder["tutelage"] for holder in holders if "tutelage" in holder)
    assert isinstance(facts, dict)
    return facts


# Tool calls.


def streamed_calls(wire: str, got: Got) -> list[tuple[str, str, str]]:
    """Id, name and arguments of the calls in a stream, whose indices must be in order."""
    calls: list[list[str]] = []
    places: list[Any] = []
    for event in got.data:
        if wire == "chat":
            for choice in event.get("choices", ()):
                for piece in choice["delta"].get("tool_calls") or ():
                    function = piece.get("function") or {}
                    if piece["index"] == len(calls):
                        calls.append([piece["id"], function["name"], ""])
                    assert piece.get("id") in (None, calls[piece["index"]][0])
                    calls[piece["index"]][2] += function.get("arguments") or ""
        elif wire == "messages":
            if event["type"] == "content_block_start":
                places.append(event["index"])
                block = event["content_block"]
                if block["type"] == "tool_use":
                    assert block["input"] == {}
                    calls.append([block["id"], block["name"], ""])
            elif event["type"] == "content_block_delta" and "partial_json" in event["delta"]:
                assert event["index"] == places[-1]
                calls[-1][2] += event["delta"]["partial_json"]
        elif event["type"] == "response.output_item.added":
            places.append(event["output_index"])
            item = event["item"]
            if item["type"] == "function_call":
                calls.append([item["call_id"], item["name"], "", item["id"]])
        elif event["type"] == "response.function_call_arguments.delta":
            (one,) = (call for call in calls if call[3] == event["item_id"])
            one[2] += event["delta"]
    assert places == list(range(len(places)))
    return [(one[0], one[1], one[2]) for one in calls]


def stop_reason(wire: str, got: Got) -> object:
    if wire == "responses":
        return got.data[-1]["response"]["status"]
    if wire == "messages":
        return next(e["delta"]["stop_reason"] for e in got.data if e["type"] == "message_delta")
    choices = [choice for event in got.data for choice in event.get("choices", ())]
    return next(one["finish_reason"] for one in choices if one["finish_reason"])


@wires
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("model", "upstream_wire"),
    [
        ("cascade", "chat"),
        ("route", "chat"),
        *(("teacher", upstream_wire) for upstream_wire in WIRES),
        *(("passthrough", upstream_wire) for upstream_wire in WIRES),
    ],
)
async def test_tool_calls_are_streamed_in_order_under_stable_ids(
    wire: str, count: int, model: str, upstream_wire: str, world: World
) -> None:
    fault = f"tools;count={count}"
    world.student.fault = world.teacher.fault = fault
    async with world.serve(wires=[upstream_wire]) as served:
        got = await served.ask(wire, asked(wire, model, tools=[tool(wire)]))

    calls = streamed_calls(wire, got)
    assert len({id for id, _, _ in calls}) == count
    for id, name, arguments in calls:
        assert (bool(id), name) == (True, "walk")
        assert json.loads(arguments) == {"where": "desk 1", "how": "quietly"}
    ends = {"chat": "tool_calls", "messages": "tool_use", "responses": "completed"}
    assert stop_reason(wire, got) == ends[wire]
    assert is_complete(wire, got)


# Bytes.


@wires
async def test_a_stream_of_the_same_wire_is_passed_on_byte_by_byte(wire: str, world: World) -> None:
    fields = {"stream_options": {"include_usage": True}} if wire == "chat" else {}
    body = json.dumps(asked(wire, "anything", **fields), indent=3).encode()
    aliases = {"*": {"mode": "passthrough"}}
    teacher = {"base_url": world.teacher.base_url, "wires": list(WIRES)}
    async with world.serve({"aliases": aliases, "teacher": teacher}) as served:
        got = await served.ask(wire, body)
        path = f"{world.teacher.base_url}/{'chat/completions' if wire == 'chat' else wire}"
        async with served.client.post(path, data=body) as response:
            direct = await response.read()

    assert world.teacher.requests[0].raw == body
    assert got.raw == direct


@wires
@pytest.mark.parametrize("model", ["passthrough", "teacher", "route"])
async def test_events_are_passed_on_before_the_upstream_has_ended(
    wire: str, model: str, served: Served, world: World
) -> None:
    world.teacher.fault = world.student.fault = "hang-body"

    async with served.open("POST", f"/v1/{path_of(wire)}", asked(wire, model)) as response:
        raw = b""
        while b"\n\n" not in raw:
            raw += await response.content.readany()

    assert response.status == 200
    assert raw.startswith((b"data: {", b"event: "))


def path_of(wire: str) -> str:
    return "chat/completions" if wire == "chat" else wire


# Pings.


@wires
@pytest.mark.parametrize("model", ["cascade", "student"])
async def test_a_slow_student_is_bridged_by_pings(wire: str, model: str, world: World) -> None:
    world.student.fault = "slow;delay-ms=250"
    async with world.serve(FAST_PINGS) as served:
        got = await served.ask(wire, asked(wire, model))
        (trace,) = await served.traces()

    assert got.pings >= 2
    first = got.raw.index(b"ping")
    assert first < got.raw.index(STUDENT[:6].encode())
    assert streamed_text(wire, got) == STUDENT
    assert is_complete(wire, got)
    # What was not known at the first ping stands in the last event.
    assert got.told("decision-id") == trace.id
    assert got.told("cost-usd") is None
    assert facts_of(got)["cost_usd"] == pytest.approx(sum(trace.cost_usd.values()))


@wires
async def test_a_ping_comes_as_its_wire_writes_it(wire: str, world: World) -> None:
    world.student.fault = "slow;delay-ms=250"
    async with world.serve(FAST_PINGS) as served:
        got = await served.ask(wire, asked(wire, "cascade"))

    ping = b'event: ping\ndata: {"type":"ping"}\n\n' if wire == "messages" else b": ping\n\n"
    assert got.raw.replace(b'"type": "ping"', b'"type":"ping"').startswith(ping)


@wires
@pytest.mark.parametrize("model", ["passthrough", "teacher"])
async def test_no_ping_stands_inside_an_event(wire: str, model: str, world: World) -> None:
    world.teacher.fault = "dribble;size=150;delay-ms=15"
    async with world.serve({"gateway.ping_s": 0.01}) as served:
        got = await served.ask(wire, asked(wire, model))

    assert streamed_text(wire, got) == TEACHER
    assert is_complete(wire, got)
    for block in got.raw.decode().split("\n\n"):
        assert block.count("ping") == 0 or block in (
            ": ping",
            'event: ping\ndata: {"type":"ping"}',
            'event: ping\ndata: {"type": "ping"}',
        )


@wires
async def test_a_lively_stream_has_no_pings(wire: str, world: World) -> None:
    world.teacher.fault = "dribble;size=64;delay-ms=2"
    async with world.serve({"gateway.ping_s": 5.0}) as served:
        got = await served.ask(wire, asked(wire, "passthrough"))

    # The Messages API sends one of its own.
    assert got.pings == (1 if wire == "messages" else 0)


@wires
async def test_an_answer_that_is_no_stream_has_no_pings(wire: str, world: World) -> None:
    world.student.fault = "slow;delay-ms=150"
    async with world.serve(FAST_PINGS) as served:
        got = await served.ask(wire, call(wire, "cascade"))

    assert got.pings == 0
    assert got.json["model"] == "cascade"


@wires
async def test_a_failure_after_a_ping_is_told_in_the_stream(wire: str, world: World) -> None:
    world.student.fault = "slow;delay-ms=200"
    world.student.disagree()
    world.teacher.fault = "500;say=out of memory"
    async with world.serve(FAST_PINGS) as served:
        got = await served.ask(wire, asked(wire, "cascade"))
        (trace,) = await served.traces()

    assert got.status == 200
    assert got.pings >= 1
    assert "out of memory" in error_event_of(wire, got)["message"]
    assert not is_complete(wire, got)
    assert trace.error is not None
    assert "out of memory" in trace.error


@wires
async def test_a_failure_before_a_ping_is_a_status(wire: str, served: Served, world: World) -> None:
    world.student.disagree()
    world.teacher.fault = "500;say=out of memory"

    got = await served.ask(wire, asked(wire, "cascade"))

    assert got.status == 502
    assert "out of memory" in error_of(wire, got)["message"]


async def test_small_events_are_not_gathered_by_the_socket(served: Served, world: World) -> None:
    world.teacher.fault = "dribble;size=4096;delay-ms=1"

    async with served.client.post(
        f"{served.base_url}/v1/chat/completions", json=asked("chat", "passthrough")
    ) as response:
        assert isinstance(response, aiohttp.ClientResponse)
        (connection,) = served.server.server_state.connections
        socket = connection.transport.get_extra_info("socket")
        no_delay = socket.getsockopt(6, 1)
        await response.read()

    assert no_delay == 1
