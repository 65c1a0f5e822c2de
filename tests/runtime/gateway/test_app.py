"""The edge: who is let in, and how what goes wrong becomes an answer."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import aiohttp
import pytest
from tests.served_gateway import PATHS, WIRES, Served, World, call, error_of

from tutelage.runtime.errors import StoreError, Unauthenticated
from tutelage.runtime.gateway.keyring import Keyring
from tutelage.runtime.pipeline import Runtime

wires = pytest.mark.parametrize("wire", WIRES)


# Keys.


@wires
@pytest.mark.parametrize("style", ["authorization", "x-api-key"])
async def test_a_key_opens_in_the_header_of_either_api(
    wire: str, style: str, guarded: Served
) -> None:
    key = await guarded.issue(tenant="acme")
    value = f"Bearer {key}" if style == "authorization" else key

    got = await guarded.ask(wire, call(wire, "cascade"), {style: value})
    (trace,) = await guarded.traces(tenant="acme")

    assert got.status == 200
    assert trace.tenant == "acme"
    assert trace.key_id is not None
    assert trace.key_id not in key


@wires
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Basic dHV0LXg="},
        {"authorization": "Bearer tut-nothing"},
        {"authorization": "Bearer ' OR 1=1 --"},
        {"authorization": "Bearer " + "x" * 5000},
        {"authorization": "Bearer \u00e9\u00ff"},
        {"x-api-key": "tut-nothing"},
        {"x-api-key": "sk-ant-of-the-teacher"},
    ],
)
async def test_whoever_has_no_key_is_told_so_in_the_words_of_the_wire(
    wire: str, headers: dict[str, str], guarded: Served, world: World
) -> None:
    got = await guarded.ask(wire, call(wire, "cascade"), headers)

    assert got.status == 401
    assert error_of(wire, got)["type"] == "authentication_error"
    assert world.student.calls() == world.teacher.calls() == 0


async def test_a_key_of_the_administration_opens_no_model(guarded: Served) -> None:
    guarded.key = await guarded.issue(kind="admin", tenant=None)

    got = await guarded.ask("chat", call("chat", "cascade"))

    assert got.status == 403


async def test_the_administration_is_not_on_this_port(guarded: Served) -> None:
    guarded.key = await guarded.issue(kind="admin", tenant=None)

    for path in ("/admin", "/admin/keys", "/v1/admin/keys"):
        assert (await guarded.send("GET", path)).status == 404


async def test_keys_that_cannot_be_looked_up_let_nobody_in(
    guarded: Served, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = await guarded.issue()
    guarded.key = known
    assert (await guarded.ask("chat", call("chat", "cascade"))).status == 200

    async def fail(*_: object) -> object:
        raise StoreError("database sqlite cannot be read")

    monkeypatch.setattr(Keyring, "_call", fail)
    remembered = await guarded.ask("chat", call("chat", "cascade"))
    guarded.key = known[:-4] + "AAAA"
    unknown = await guarded.ask("chat", call("chat", "cascade"))

    assert remembered.status == 200
    assert unknown.status == 503
    assert int(unknown.headers["retry-after"]) >= 1
    assert world.student.calls() == 2


@wires
async def test_a_rate_limit_of_a_key_says_when_to_come_back(
    wire: str, guarded: Served, world: World
) -> None:
    guarded.key = await guarded.issue(requests_per_minute=1)

    first = await guarded.ask(wire, call(wire, "cascade"))
    second = await guarded.ask(wire, call(wire, "cascade"))

    assert (first.status, second.status) == (200, 429)
    assert error_of(wire, second)["type"] == "rate_limit_error"
    assert int(second.headers["retry-after"]) >= 1
    assert world.student.calls() == 1
    await guarded.counted('outcome="refused"')


# What goes wrong.


async def test_a_method_that_a_path_does_not_have_is_named(served: Served) -> None:
    got = await served.send("GET", "/v1/chat/completions")

    assert (got.status, got.headers["allow"]) == (405, "POST")
    assert error_of("chat", got)["code"] == "method_not_allowed"


@wires
async def test_an_error_of_ours_is_told_without_its_inside(
    wire: str, served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(*_: object, **__: object) -> object:
        raise ZeroDivisionError("the password is tulip")

    monkeypatch.setattr(Runtime, "begin", break_down)
    with caplog.at_level(logging.ERROR):
        got = await served.ask(wire, call(wire, "cascade"))

    assert got.status == 500
    error_of(wire, got)
    assert b"tulip" not in got.raw
    assert "ZeroDivisionError" in caplog.text
    await served.counted('outcome="internal_error"')


@wires
async def test_an_error_of_ours_in_mid_stream_breaks_the_stream_off(
    wire: str, served: Served, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object, **__: object) -> object:
        raise ZeroDivisionError("the password is tulip")

    world.teacher.gate = asyncio.Event()
    body = call(wire, "teacher", stream=True)
    async with served.open("POST", PATHS[wire], body) as response:
        raw: bytes = await response.content.readuntil(b"\n\n")
        monkeypatch.setattr("tutelage.runtime.models.sse.EventParser.feed", break_down)
        world.teacher.gate.set()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.readexactly(1_000_000)

    assert b"[DONE]" not in raw
    assert b"message_stop" not in raw
    assert b"tulip" not in raw
    await served.idle()


async def test_every_answer_of_a_step_names_its_decision_also_an_error(
    served: Served, world: World
) -> None:
    world.teacher.fault = "500"

    got = await served.ask("chat", call("chat", "teacher"))
    (trace,) = await served.traces()

    assert (got.status, got.told("decision-id")) == (502, trace.id)


async def test_no_key_and_no_secret_reaches_a_log_or_an_answer(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", "sk-the-key-of-the-teacher")
    world.teacher.fault = "401;say=the key sk-the-key-of-the-teacher is wrong"
    settings = {"teacher.api_key_env": "TEACHER_KEY"}
    with caplog.at_level(logging.DEBUG):
        async with world.serve(settings, is_open=False) as served:
            key = served.key = await served.issue()
            answers = [
                await served.ask(wire, call(wire, "two" if wire == "chat" else "teacher"))
                for wire in WIRES
            ]
            wrong = "tut-" + "w" * 43
            answers.append(
                await served.ask("chat", call("chat", "x"), {"authorization": f"Bearer {wrong}"})
            )
            traces = await served.traces(tenant="acme")
            metrics = served.gateway.metrics.render()[0].decode()

    sent = world.teacher.last.headers["authorization"]
    assert sent == "Bearer sk-the-key-of-the-teacher"
    everywhere = caplog.text + metrics + json.dumps([trace.model_dump() for trace in traces])
    everywhere += "".join(f"{one.headers} {one.raw.decode()}" for one in answers)
    for secret in ("sk-the-key-of-the-teacher", key, wrong, "a pepper of the tests"):
        assert secret not in everywhere


async def test_an_open_gateway_serves_the_configured_tenant(world: World) -> None:
    async with world.serve({"tenant": "home"}) as served:
        await served.ask("chat", call("chat", "cascade"), {"authorization": "Bearer anything"})
        (trace,) = await served.traces(tenant="home")
        metrics = await served.metrics()

    assert (trace.tenant, trace.key_id) == ("home", "open")
    assert "tutelage_requests_total" in metrics


async def test_requests_over_one_connection_follow_one_another(served: Served) -> None:
    port = int(served.base_url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps(call("chat", "cascade")).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
    writer.write((head.encode() + body) * 3)

    raw = b""
    async with asyncio.timeout(10):
        while raw.count(b"HTTP/1.1 200") < 3 or not raw.endswith(b"}"):
            raw += await reader.read(65536)
    writer.close()

    assert raw.count(b"go to desk 1") == 3


async def test_bytes_that_are_no_http_are_refused(served: Served) -> None:
    port = int(served.base_url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x16\x03\x01\x02\x00\r\n\r\n")

    raw = await asyncio.wait_for(reader.read(), 10)
    writer.close()

    assert raw.startswith(b"HTTP/1.1 400 ")


async def test_a_websocket_is_closed_and_other_events_are_ignored(served: Served) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    async def send(message: Any) -> None:
        sent.append(message)

    await served.gateway({"type": "websocket"}, receive, send)
    await served.gateway({"type": "lifespan"}, receive, send)

    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_a_key_that_opens_nothing_is_an_error_of_the_tree(guarded: Served) -> None:
    with pytest.raises(Unauthenticated):
        await guarded.gateway.parts.doorkeeper.identify("tut-nothing")
