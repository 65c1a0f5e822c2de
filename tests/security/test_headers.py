"""Headers that a client makes up reach no upstream, and decide nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.fault_upstream import Received
from tests.security.raw import request, send_raw, statuses
from tests.served_gateway import PATHS, WIRES, Served, World, call, error_of

wires = pytest.mark.parametrize("wire", WIRES)
streamed = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
MODELS = ("passthrough", "cascade", "route", "shadow", "teacher", "two")
ALLOWED = {
    "host", "user-agent", "accept", "accept-encoding", "content-type", "content-length",
    "authorization", "x-api-key", "anthropic-version",
}  # fmt: skip
"""What an upstream gets of a call that asks for nothing special."""
FORWARDED = {
    "anthropic-beta": "a-2025-01-01",
    "openai-beta": "b=v1",
    "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
    "anthropic-version": "2023-01-01",
}
"""What is passed on, and how it looks."""
FORGED = {
    # Ours, as if a gateway before us had said it.
    "x-tutelage-tenant": "bolt",
    "x-tutelage-key-id": "key_1",
    "x-tutelage-served": "student",
    "x-tutelage-upstream": "second",
    "x-tutelage-decision-id": "1",
    "x-tutelage-cost-usd": "0",
    # Of other gateways, which let clients choose by them.
    "x-litellm-api-base": "http://evil.example/v1",
    "x-litellm-api-key": "sk-evil",
    "x-litellm-model-id": "other",
    "x-litellm-tags": "evil",
    "x-portkey-provider": "openai",
    "x-portkey-custom-host": "http://evil.example/v1",
    "x-portkey-config": '{"provider": "evil"}',
    "x-portkey-api-key": "evil",
    "helicone-openai-api-base": "http://evil.example",
    "helicone-auth": "Bearer evil",
    "x-bf-vk": "evil",
    "x-ai-eg-model": "other",
    "x-vsr-selected-model": "other",
    "cf-aig-authorization": "Bearer evil",
    "x-stainless-helper-method": "evil",
    # Of proxies.
    "x-forwarded-for": "10.0.0.1",
    "x-forwarded-host": "evil.example",
    "x-forwarded-proto": "https",
    "x-forwarded-port": "1",
    "x-forwarded-prefix": "/evil",
    "x-forwarded-user": "admin",
    "x-forwarded-client-cert": "evil",
    "forwarded": "for=10.0.0.1;host=evil.example",
    "x-real-ip": "10.0.0.1",
    "x-original-url": "/admin/keys",
    "x-rewrite-url": "/admin/keys",
    "x-http-method-override": "DELETE",
    "via": "1.1 evil",
    "x-host": "evil.example",
    "x-remote-user": "admin",
    # Keys, and what names a person.
    "cookie": "session=evil",
    "api-key": "evil",
    "x-goog-api-key": "evil",
    "proxy-authorization": "Basic evil",
    "openai-organization": "org-evil",
    "openai-project": "proj-evil",
    "anthropic-dangerous-direct-browser-access": "true",
    "referer": "http://evil.example/secret",
    "origin": "http://localhost:3000",
    "user-agent": "evil/1.0",
    "accept-language": "evil",
    "accept-encoding": "evil-zip",
    "x-fault": "500;say=evil",
    "baggage": "evil=1",
    "tracestate": "evil=1",
    "b3": "evil",
    "expect": "",
    "te": "trailers",
    "range": "bytes=0-1",
    "if-none-match": "evil",
    "x-claude-code-session-id": "evil-session",
    "x-session-id": "evil-session",
}


async def ask_all(served: Served, wire: str, stream: bool, headers: dict[str, str]) -> None:
    for model in MODELS:
        got = await served.ask(wire, call(wire, model, stream=stream), headers)
        assert got.status == 200
    await served.idle()


def heard(world: World) -> list[Received]:
    return [one for up in (world.teacher, world.second, world.student) for one in up.requests]


@wires
@streamed
async def test_no_header_of_a_client_reaches_an_upstream(
    wire: str, stream: bool, world: World
) -> None:
    headers = {name: value for name, value in FORGED.items() if value}
    async with world.serve({"upstreams.second.wires": ["chat"]}) as served:
        await ask_all(served, wire, stream, headers)
        await served.traces(len(MODELS))
    requests = heard(world)
    assert len(requests) >= len(MODELS)
    for one in requests:
        assert set(one.headers) <= ALLOWED
        assert "evil" not in str(one.headers)
        assert "evil" not in one.raw.decode()
        assert one.headers["host"].startswith("127.0.0.1:")
        assert one.headers["user-agent"].startswith("tutelage/")


@wires
@streamed
async def test_only_what_an_api_needs_is_passed_on_and_to_the_teacher_alone(
    wire: str, stream: bool, world: World
) -> None:
    async with world.serve() as served:
        await ask_all(served, wire, stream, FORWARDED)
    for one in world.student.requests:
        assert not set(FORWARDED) & set(one.headers)
    relayed = [one for one in world.teacher.requests if "anthropic-beta" in one.headers]
    assert relayed
    for one in relayed:
        assert {name: one.headers[name] for name in FORWARDED} == FORWARDED


@pytest.mark.parametrize(
    "value", ["", "00-xyz-1-01", f"00-{'a' * 32}-{'b' * 16}-01-more", "00-" + "a" * 5000]
)
async def test_a_header_that_is_not_well_formed_is_not_passed_on(value: str, world: World) -> None:
    async with world.serve() as served:
        got = await served.ask("chat", call("chat", "passthrough"), {"traceparent": value})
    assert got.status == 200
    assert "traceparent" not in world.teacher.last.headers


async def test_a_header_that_is_no_ascii_or_has_tabs_is_passed_on_as_it_is_or_not_at_all(
    world: World,
) -> None:
    async with world.serve() as served:
        for value in (b"a\tb", b"\xff\xfe", "ключ".encode(), b"a, b"):
            sent = request(
                b"POST",
                b"/v1/messages",
                [b"anthropic-beta: " + value],
                call("messages", "passthrough"),
            )
            assert statuses(await send_raw(served.base_url, sent)) == [200]
    seen = [one.headers.get("anthropic-beta") for one in world.teacher.requests]
    assert seen == ["a\tb", None, None, "a, b"]


async def test_connection_headers_cannot_take_ours_away(world: World) -> None:
    """``Connection: authorization`` names what the next hop is to drop."""
    async with world.serve(wires=["messages"]) as served:
        sent = request(
            b"POST",
            b"/v1/messages",
            [b"connection: anthropic-version, content-type, host", b"keep-alive: timeout=1"],
            call("messages", "passthrough"),
        )
        assert statuses(await send_raw(served.base_url, sent)) == [200]
    last = world.teacher.last.headers
    assert last["anthropic-version"] == "2023-06-01"
    assert last["content-type"] == "application/json"
    assert "keep-alive" not in last


async def test_a_forged_tenant_changes_nothing(world: World) -> None:
    async with world.serve(is_open=False) as served:
        served.key = await served.issue(tenant="acme")
        headers = {name: value for name, value in FORGED.items() if value}
        got = await served.ask("chat", call("chat", "cascade"), headers)
        (trace,) = await served.traces(tenant="acme")
        others = await served.gateway.parts.traces.traces("bolt")
    assert got.told("decision-id") == trace.id
    assert trace.tenant == "acme"
    assert others == []


@wires
async def test_headers_never_choose_less_of_the_teacher_than_is_configured(
    wire: str, world: World
) -> None:
    """A client may ask for the teacher; nobody may switch a student on that is not."""
    async with world.serve() as served:
        for model, mode in (("passthrough", "cascade"), ("shadow", "route"), ("cascade", "route")):
            got = await served.ask(wire, call(wire, model), {"x-tutelage-mode": mode})
            assert got.status == 400
            assert error_of(wire, got)["message"].startswith("x-tutelage-mode")
        got = await served.ask(wire, call(wire, "passthrough"), {"x-tutelage-force": "student"})
        assert got.told("served") == "teacher"
    assert world.student.calls() == 0


# Where a call goes.


@asynccontextmanager
async def listener() -> AsyncIterator[tuple[str, list[bytes]]]:
    """An address, and what came there."""
    came: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.read(65536))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", came


@pytest.mark.parametrize(
    "target",
    [b"/v1/chat/completions", b"http://%s/v1/chat/completions", b"//%s/v1/chat/completions"],
)
async def test_no_host_of_a_client_is_where_its_call_goes(target: bytes, world: World) -> None:
    async with listener() as (address, came), world.serve() as served:
        evil = address.encode()
        lines = [b"x-forwarded-host: " + evil, b"forwarded: host=" + evil]
        sent = request(
            b"POST",
            target.replace(b"%s", evil),
            lines,
            call("chat", "passthrough"),
            host=evil,
        )
        answer = await send_raw(served.base_url, sent)
    assert statuses(answer) in ([200], [404], [400])
    assert came == []
    assert all(evil.decode() not in str(one.headers) for one in world.teacher.requests)


@pytest.mark.parametrize(
    "query",
    [
        "?api_base=http://%s/v1",
        "?base_url=http://%s",
        "?url=http://%s&key=evil",
        "?@%s/",
        "?/../../@%s",
        "?%%0d%%0ahost:%%20%s",
        "#@%s",
    ],
)
async def test_no_query_of_a_client_is_where_its_call_goes(query: str, world: World) -> None:
    async with listener() as (address, came), world.serve() as served:
        for model in ("passthrough", "cascade"):
            target = (PATHS["chat"] + query % address).encode()
            sent = request(b"POST", target, [], call("chat", model))
            assert statuses(await send_raw(served.base_url, sent))[0] in (200, 400, 404)
    assert came == []
    for one in heard(world):
        assert one.path == "/chat/completions"
        assert one.headers["host"].startswith("127.0.0.1:")


@pytest.mark.parametrize("query", [b"?x=\xff\xfe", b"?x=%zz", b"?" + b"a=b&" * 3000, b'?x="<>`{|}'])
async def test_an_odd_query_breaks_nothing(query: bytes, world: World) -> None:
    async with world.serve() as served:
        for path in (*PATHS.values(), "/v1/completions", "/v1/embeddings"):
            body: dict[str, Any] = {
                **call("messages", "passthrough"),
                "input": "x",
                "prompt": "x",
            }
            sent = request(b"POST", path.encode() + query, [], body)
            assert statuses(await send_raw(served.base_url, sent))[0] in (200, 400, 404, 431)


@wires
@streamed
@pytest.mark.parametrize("model", ["passthrough", "teacher", "cascade", "route", "two"])
async def test_a_redirect_of_an_upstream_is_not_followed(
    wire: str, stream: bool, model: str, world: World
) -> None:
    """It would carry the request, and our key, to wherever the upstream says."""
    for upstream in (world.teacher, world.second, world.student):
        upstream.fault = "307"
    async with world.serve() as served:
        got = await served.ask(wire, call(wire, model, stream=stream))
    assert got.status == 502
    error_of(wire, got)
    assert "location" not in got.headers
    assert [one.path for one in heard(world) if one.path == "/elsewhere"] == []


async def test_nothing_of_an_upstream_comes_back_but_what_helps_a_client(world: World) -> None:
    """Cookies, server names and our own headers are not its to set."""

    server = await asyncio.start_server(_chatty, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with world.serve({"teacher.base_url": url}) as served:
            got = await served.ask("chat", call("chat", "passthrough"))
    assert got.status == 200
    assert got.headers["x-request-id"] == "req_1"
    assert got.headers["x-ratelimit-remaining-requests"] == "7"
    for name in ("set-cookie", "server", "x-powered-by", "access-control-allow-origin", "location"):
        assert name not in got.headers
    assert got.told("served") == "teacher"
    assert got.told("cost-usd") != "0"


async def _chatty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    body = json.dumps({"id": "c", "model": "large", "choices": [choice]}).encode()
    lines = [
        "HTTP/1.1 200 OK",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "set-cookie: evil=1",
        "server: evil",
        "x-powered-by: evil",
        "access-control-allow-origin: *",
        "location: http://evil.example",
        "x-tutelage-served: evil",
        "x-tutelage-cost-usd: 0",
        "x-request-id: req_1",
        "x-ratelimit-remaining-requests: 7",
        "connection: close",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()
    writer.close()
