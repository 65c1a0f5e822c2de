"""What a client gets when the teacher fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.served_gateway import (
    PATHS,
    WIRES,
    Got,
    Served,
    World,
    call,
    error_event_of,
    error_of,
    is_complete,
    received,
    streamed_text,
    text_of,
)

wires = pytest.mark.parametrize("wire", WIRES)
streamed = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
STUDENT, TEACHER, SECOND = "go to desk 1", "go to the teacher's desk", "go to the second desk"

# Ways in which a request reaches the teacher: relayed as bytes, written anew, or after a student.
teachers = pytest.mark.parametrize("path", ["relayed", "other-wire", "refused-student"])
MODEL_OF = {
    "relayed": "passthrough",
    "other-wire": "teacher",
    "refused-student": "cascade",
    "shadow": "shadow",
}
QUICK = {"connect_s": 5.0, "first_byte_s": 0.1, "idle_s": 0.1, "total_s": 5.0}


def wires_of(path: str, wire: str) -> tuple[str, ...]:
    return ("messages" if wire == "chat" else "chat",) if path == "other-wire" else WIRES


async def ask(served: Served, world: World, wire: str, path: str, stream: bool) -> Got:
    """A call that reaches the teacher by a path."""
    if path == "refused-student":
        world.student.disagree()
    return await served.ask(wire, call(wire, MODEL_OF[path], stream=stream))


# The teacher, before its first byte.


@wires
@teachers
@streamed
async def test_a_rate_limit_is_passed_on_with_its_retry_after(
    wire: str, path: str, stream: bool, world: World
) -> None:
    world.teacher.fault = "429;retry-after=7;say=slow down"
    async with world.serve(wires=wires_of(path, wire)) as served:
        got = await ask(served, world, wire, path, stream)
        (trace,) = await served.traces()

    assert (got.status, got.headers["retry-after"]) == (429, "7")
    assert "slow down" in error_of(wire, got)["message"]
    assert error_of(wire, got)["type"] == "rate_limit_error"
    assert trace.error is not None


@wires
@teachers
@streamed
@pytest.mark.parametrize("fault", ["500", "529", "502"])
async def test_a_failing_teacher_is_told_in_the_words_of_the_wire(
    wire: str, path: str, stream: bool, fault: str, world: World
) -> None:
    world.teacher.fault = fault
    async with world.serve(wires=wires_of(path, wire)) as served:
        got = await ask(served, world, wire, path, stream)

    assert got.status == (int(fault) if fault in ("503", "529") else 502)
    error_of(wire, got)
    # The page of a proxy in between tells of the inside of the house.
    assert b"nginx" not in got.raw
    assert b"10.0.0.7" not in got.raw


# A stream is committed with its first byte, and a message of the Messages API may be empty.
FALLEN_BACK = [
    (wire, stream, "two", fault)
    for wire in WIRES
    for stream in (False, True)
    for fault in ("500", "502", "429", "401", "reset", "wrong-type", "empty")
    if fault not in ("wrong-type", "empty") or not (stream or wire == "messages")
]
FALLEN_BACK += [(wire, stream, "two-cascade", "500") for wire in WIRES for stream in (False, True)]


@pytest.mark.parametrize(("wire", "stream", "model", "fault"), FALLEN_BACK)
async def test_the_next_upstream_answers_where_the_first_one_fails(
    wire: str, stream: bool, model: str, fault: str, served: Served, world: World
) -> None:
    world.teacher.fault = fault
    world.student.disagree()

    got = await served.ask(wire, call(wire, model, stream=stream))

    assert got.status == 200
    assert (streamed_text(wire, got) if stream else text_of(wire, got.json)) == SECOND
    assert got.told("served") == "second"
    assert (world.teacher.calls(), world.second.calls()) == (1, 1)


@wires
async def test_a_request_that_an_upstream_refuses_goes_no_further(
    wire: str, served: Served, world: World
) -> None:
    world.teacher.fault = "400;say=no such thing"

    got = await served.ask(wire, call(wire, "two"))

    assert got.status == 400
    assert "no such thing" in error_of(wire, got)["message"]
    assert world.second.calls() == 0


@wires
@streamed
async def test_all_upstreams_failing_is_one_clean_error(
    wire: str, stream: bool, served: Served, world: World
) -> None:
    world.teacher.fault, world.second.fault = "500", "500;say=out of memory"

    got = await served.ask(wire, call(wire, "two", stream=stream))

    assert got.status == 502
    assert "out of memory" in error_of(wire, got)["message"]


BROKEN = [
    (wire, path, fault)
    for wire in WIRES
    for path in ("relayed", "other-wire", "refused-student")
    for fault in ("truncated", "empty", "wrong-type", "malformed", "cut", "reset")
    # Without content a message is a whole answer of the Messages API.
    if fault != "empty" or (wire == "messages") == (path == "other-wire")
]


@pytest.mark.parametrize(("wire", "path", "fault"), BROKEN)
async def test_a_broken_answer_is_a_failure_and_not_passed_on(
    wire: str, path: str, fault: str, world: World
) -> None:
    world.teacher.fault = fault
    async with world.serve(wires=wires_of(path, wire)) as served:
        got = await ask(served, world, wire, path, stream=False)
        (trace,) = await served.traces()

    assert got.status == 502
    error_of(wire, got)
    assert trace.error is not None
    assert trace.answer == ""


@wires
@streamed
async def test_a_redirect_is_not_followed(
    wire: str, stream: bool, served: Served, world: World
) -> None:
    world.teacher.fault = "307"

    got = await served.ask(wire, call(wire, "passthrough", stream=stream))

    assert got.status == 502
    assert world.teacher.calls() == 1


@wires
@streamed
async def test_the_teachers_refusal_of_our_key_is_not_the_clients(
    wire: str, stream: bool, served: Served, world: World
) -> None:
    world.teacher.fault = "401;say=bad key"

    got = await served.ask(wire, call(wire, "teacher", stream=stream))

    assert got.status == 502
    assert error_of(wire, got)["type"] in ("server_error", "api_error")


@wires
@teachers
@streamed
async def test_a_teacher_that_cannot_be_reached_is_a_bad_gateway(
    wire: str, path: str, stream: bool, world: World, unused_tcp_port: int
) -> None:
    endpoint = {
        "base_url": f"http://127.0.0.1:{unused_tcp_port}/v1",
        "model": "large",
        "wires": list(wires_of(path, wire)),
        "price": {"input": 10.0, "output": 20.0},
        "attempts": 1,
    }
    async with world.serve({"teacher": endpoint}) as served:
        got = await ask(served, world, wire, path, stream)

    assert got.status == 502
    error_of(wire, got)


@wires
@teachers
async def test_a_teacher_that_never_answers_is_a_timeout(
    wire: str, path: str, world: World
) -> None:
    world.teacher.fault = "hang"
    async with world.serve({"teacher.timeouts": QUICK}, wires_of(path, wire)) as served:
        asking = (ask(served, world, wire, path, stream) for stream in (False, True))
        answers = await asyncio.gather(*asking)
        await world.teacher.disconnected(2)

    for got in answers:
        assert got.status == 504
        assert "first_byte_s" in error_of(wire, got)["message"]


@wires
@teachers
async def test_a_teacher_that_falls_silent_is_a_timeout(wire: str, path: str, world: World) -> None:
    world.teacher.fault = "hang-body"
    async with world.serve({"teacher.timeouts": QUICK}, wires_of(path, wire)) as served:
        asking = (ask(served, world, wire, path, stream) for stream in (False, True))
        whole, stream = await asyncio.gather(*asking)

    assert whole.status == 504
    assert "idle_s" in error_of(wire, whole)["message"]
    assert stream.status == 200
    assert "idle_s" in error_event_of(wire, stream)["message"]
    assert not is_complete(wire, stream)


@wires
async def test_a_teacher_that_never_ends_is_a_timeout(wire: str, world: World) -> None:
    # It ends inside an event, which must not reach the client in part.
    world.teacher.fault = "dribble;size=50;delay-ms=20"
    timeouts = {"first_byte_s": 5.0, "idle_s": 5.0, "total_s": 0.3}
    aliases = {"*": {"mode": "passthrough"}}
    teacher = {"base_url": world.teacher.base_url, "wires": list(WIRES), "timeouts": timeouts}
    fields: dict[str, Any] = {}
    if wire == "chat":
        fields["stream_options"] = {"include_usage": True}
    async with world.serve({"teacher": teacher, "aliases": aliases}) as served:
        got = await served.ask(wire, call(wire, "any", stream=True, **fields))

    assert len(got.data) > 1
    assert "total_s" in error_event_of(wire, got)["message"]
    assert not is_complete(wire, got)


@wires
@streamed
async def test_retries_are_bounded_and_made_before_the_first_byte_only(
    wire: str, stream: bool, world: World
) -> None:
    async with world.serve({"teacher.attempts": 2}) as served:
        world.teacher.fault = "503;times=1"
        healed = await served.ask(wire, call(wire, "passthrough", stream=stream))
        calls_healed = world.teacher.calls()
        world.teacher.fault = "cut"
        cut = await served.ask(wire, call(wire, "passthrough", stream=True))

    assert (healed.status, calls_healed) == (200, 2)
    assert not is_complete(wire, cut)
    assert world.teacher.calls() == 3


async def test_no_wait_goes_beyond_the_deadline(world: World) -> None:
    world.teacher.fault = "429;retry-after=60"
    timeouts = {"total_s": 5.0}
    async with world.serve({"teacher.attempts": 3, "teacher.timeouts": timeouts}) as served:
        got = await served.ask("chat", call("chat", "passthrough"))

    assert (got.status, got.headers["retry-after"]) == (429, "60")
    assert world.teacher.calls() == 1


@wires
async def test_an_upstream_that_keeps_failing_is_left_alone(wire: str, world: World) -> None:
    world.teacher.fault = "500"
    async with world.serve({"teacher.break_after": 2}) as served:
        first = [(await served.ask(wire, call(wire, "passthrough"))).status for _ in range(2)]
        got = await served.ask(wire, call(wire, "passthrough"))
        by_student = await served.ask(wire, call(wire, "cascade"))
        fallen_back = await served.ask(wire, call(wire, "two"))
        metrics = await served.metrics()

    assert first == [502, 502]
    assert got.status in (502, 503)
    assert int(got.headers["retry-after"]) >= 1
    assert world.teacher.calls() == 2
    assert text_of(wire, by_student.json) == STUDENT
    assert text_of(wire, fallen_back.json) == SECOND
    assert 'upstream="teacher"' in metrics


# The teacher, after its first byte.


@wires
@pytest.mark.parametrize("path", MODEL_OF)
@pytest.mark.parametrize("fault", ["cut", "malformed", "error-event", "no-end"])
async def test_a_stream_that_breaks_off_says_so_and_does_not_end_well(
    wire: str, path: str, fault: str, world: World
) -> None:
    world.teacher.fault, world.teacher.gate = fault, asyncio.Event()
    if path == "refused-student":
        world.student.disagree()
    async with world.serve(wires=wires_of(path, wire)) as served:
        body = call(wire, MODEL_OF[path], stream=True)
        async with served.open("POST", PATHS[wire], body) as response:
            begun = await response.content.readuntil(b"\n\n")
            world.teacher.gate.set()
            rest = await received(response)
        (trace,) = await served.traces()

    stream = replace(rest, raw=begun + rest.raw)
    assert stream.status == 200
    assert error_event_of(wire, stream)["message"]
    assert not is_complete(wire, stream)
    assert trace.error is not None
    # What the client did get is on the books.
    assert streamed_text(wire, stream)
    assert TEACHER.startswith(trace.answer)
    assert trace.answer.startswith(streamed_text(wire, stream))
    assert trace.usage["teacher"].output_tokens > 0


@wires
@teachers
@pytest.mark.parametrize("fault", ["malformed", "error-event"])
async def test_a_stream_that_fails_before_anything_was_passed_on_is_an_error_or_says_so(
    wire: str, path: str, fault: str, world: World
) -> None:
    world.teacher.fault = fault
    async with world.serve(wires=wires_of(path, wire)) as served:
        stream = await ask(served, world, wire, path, stream=True)

    told = error_event_of(wire, stream) if stream.status == 200 else error_of(wire, stream)
    assert stream.status in (200, 502)
    assert told["message"]
    assert not is_complete(wire, stream)


@wires
@teachers
@pytest.mark.parametrize("fault", ["empty", "wrong-type"])
async def test_a_stream_without_an_answer_is_a_failure(
    wire: str, path: str, fault: str, world: World
) -> None:
    world.teacher.fault = fault
    async with world.serve(wires=wires_of(path, wire)) as served:
        got = await ask(served, world, wire, path, stream=True)

    if got.status == 200:
        error_event_of(wire, got)
    else:
        assert got.status == 502
        error_of(wire, got)
    assert not is_complete(wire, got)
    assert b"nginx" not in got.raw
