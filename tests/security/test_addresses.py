"""Clients are told which upstream failed and how, not where it is."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest
from tests.served_gateway import WIRES, Got, Served, World, call, error_event_of, error_of

wires = pytest.mark.parametrize("wire", WIRES)
streamed = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
WORDS = "prompt is too long: 9 tokens"
BEFORE = {
    "400;say=" + WORDS: 400,
    "401": 502,
    "403": 502,
    "404": 404,
    "429;retry-after=7": 429,
    "500": 502,
    "502": 502,
    "529": 529,
    "307": 502,
    "reset": 502,
    "list": 502,
    "wrong-type": 502,
    "hang": 504,
}
"""What goes wrong before an answer, and the status of ours."""
WITHIN = ("cut", "malformed", "error-event", "no-end", "hang-body")
TIMEOUTS = {"first_byte_s": 0.2, "idle_s": 0.2, "total_s": 5.0}


def is_hidden(world: World, raw: bytes) -> bool:
    """Whether no address of an upstream stands in what a client got."""
    for upstream in (world.teacher, world.second, world.student):
        port = upstream.base_url.rsplit(":", 1)[1].removesuffix("/v1")
        # Five digits alone stand in ids and latencies by chance; an address has a host before them.
        if re.search(
            rf"([\w.\]]:|port )0*{port}(?!\d)", raw.decode(errors="replace"), re.IGNORECASE
        ):
            return False
        if upstream.base_url.encode() in raw:
            return False
    return b"127.0.0.1" not in raw and b"10.0.0.7" not in raw


async def asked(served: Served, wire: str, model: str, stream: bool) -> Got:
    got = await served.ask(wire, call(wire, model, stream=stream))
    await served.idle()
    return got


def settings(fault: str) -> dict[str, Any]:
    times = {name: value for name, value in TIMEOUTS.items() if fault.startswith("hang")}
    return {"teacher.timeouts": times, "upstreams.second.timeouts": times}


@wires
@streamed
@pytest.mark.parametrize("fault", BEFORE)
@pytest.mark.parametrize("native", [True, False], ids=["native", "other"])
async def test_a_client_is_told_the_name_and_the_status_of_a_failed_upstream(
    wire: str, stream: bool, fault: str, native: bool, world: World
) -> None:
    world.teacher.fault = fault
    spoken = WIRES if native else [one for one in WIRES if one != wire][:1]
    async with world.serve(settings(fault), spoken) as served:
        got = await asked(served, wire, "teacher", stream)
        (trace,) = await served.traces()
        page = await served.send("GET", f"/v1/decisions/{got.told('decision-id')}")
    assert got.status == BEFORE[fault]
    message = error_of(wire, got)["message"]
    assert is_hidden(world, got.raw), got.raw
    if fault[:3] in ("400", "404", "429", "500", "529"):
        # Its own words, which clients look for.
        assert "upstream teacher" not in message
        assert ("prompt is too long" in message) == fault.startswith("400")
    else:
        assert message.startswith("upstream teacher ")
        if fault.isdigit():
            assert f"answered {fault}" in message
    # Whoever runs the gateway reads it in the trace, which clients see without it.
    assert trace.error is not None
    assert world.teacher.base_url in trace.error
    assert page.status == 200
    assert is_hidden(world, page.raw), page.json["error"]
    assert page.json["error"].partition(":")[0] == trace.error.partition(":")[0]


@wires
@pytest.mark.parametrize("fault", WITHIN)
@pytest.mark.parametrize("model", ["passthrough", "teacher", "route"])
async def test_a_stream_that_breaks_off_names_no_address(
    wire: str, fault: str, model: str, world: World
) -> None:
    for upstream in (world.teacher, world.student):
        upstream.fault = fault
    timeouts = TIMEOUTS if fault == "hang-body" else {}
    chosen = {"student.timeouts": timeouts, **settings(fault)}
    async with world.serve(chosen) as served:
        got = await asked(served, wire, model, True)
    assert is_hidden(world, got.raw), got.raw
    if got.status == 200:
        assert error_event_of(wire, got)["message"]
    else:
        assert got.status in (502, 504)
        message = error_of(wire, got)["message"]
        assert message.startswith("upstream teacher ") or fault == "error-event"


@wires
async def test_an_upstream_that_is_not_there_is_named_without_its_address(
    wire: str, world: World, unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"http://127.0.0.1:{unused_tcp_port}/v1"
    chosen = {"teacher.base_url": address, "upstreams.second.base_url": address}
    with caplog.at_level(logging.DEBUG):
        async with world.serve({**chosen, "teacher.break_after": 2}) as served:
            answers = [await asked(served, wire, model, False) for model in ("teacher", "two") * 3]
            broken = await asked(served, wire, "teacher", False)
            relayed = await served.send("POST", "/v1/embeddings", {"model": "two", "input": "x"})
            traces = await served.traces()
    for got in (*answers, broken, relayed):
        assert got.status in (502, 503)
        assert is_hidden(world, got.raw), got.raw
        assert str(unused_tcp_port).encode() not in got.raw
    assert error_of(wire, answers[0])["message"] == "upstream teacher cannot be reached"
    assert error_of(wire, answers[1])["message"] == "upstream second cannot be reached"
    assert broken.status == 503
    assert "upstream teacher failed" in error_of(wire, broken)["message"]
    assert int(broken.headers["retry-after"]) > 0
    assert any(address in str(trace.error) for trace in traces)
    assert address in caplog.text
    assert not any("127.0.0.1'" in str(trace.error) for trace in traces)


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("fault", ["500", "401", "cut", "malformed", "reset", "wrong-type"])
async def test_what_is_only_relayed_names_no_address(
    stream: bool, fault: str, world: World
) -> None:
    world.teacher.fault = fault
    async with world.serve() as served:
        for path in ("/v1/completions", "/v1/embeddings", "/v1/messages/count_tokens"):
            body = {**call("messages", "passthrough"), "input": "x", "prompt": "x"}
            got = await served.send("POST", path, {**body, "stream": stream})
            assert is_hidden(world, got.raw), got.raw


@wires
async def test_an_upstreams_own_words_stay_as_they_are(wire: str, world: World) -> None:
    """Also where they hold an address: it is theirs to tell, such as that of a manual."""
    words = "read https://docs.example/limits: too long"
    world.teacher.fault = f"400;say={words}"
    async with world.serve() as served:
        got = await asked(served, wire, "teacher", False)
    assert error_of(wire, got)["message"] == words
    assert json.loads(got.raw)["error"]["message"] == words
