from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import pytest
from tests.fault_upstream import FaultUpstream

from tutelage.runtime.errors import (
    BadRequest,
    BadResponse,
    RateLimited,
    Refused,
)
from tutelage.runtime.models.retries import Retries
from tutelage.runtime.models.transport import Transport, anthropic, bearer
from tutelage.runtime.secret import Secret

KEY = "sk-a-key-that-nobody-may-see"
CHAT = "/chat/completions"
NEVER = Retries(attempts=1)

Connect = Callable[..., Transport]


async def no_wait(seconds: float) -> None:
    """Takes the place of the waits between attempts."""


@pytest.fixture
async def faulty() -> AsyncIterator[FaultUpstream]:
    async with FaultUpstream() as opened:
        yield opened


@pytest.fixture
async def reach(faulty: FaultUpstream) -> AsyncIterator[Connect]:
    made: list[Transport] = []

    def make(**options: Any) -> Transport:
        made.append(Transport(faulty.base_url, **{"sleep": no_wait, **options}))
        return made[-1]

    yield make
    for each in made:
        await each.aclose()


def body(model: str = "m", **fields: Any) -> bytes:
    messages = [{"role": "user", "content": "hi"}]
    return json.dumps({"model": model, "messages": messages, **fields}).encode()


async def test_an_answer_is_returned_as_it_was_sent(reach: Connect, faulty: FaultUpstream) -> None:
    reply = await reach().open(CHAT, body(n=1))

    content = await reply.read()

    assert reply.status == 200
    assert reply.content_type == "application/json"
    assert reply.headers["X-Request-Id"] == reply.headers["x-request-id"] == "req_up"
    assert json.loads(content)["choices"][0]["message"]["content"] == "go to desk 1"
    assert faulty.last.raw == body(n=1)


async def test_other_methods_and_paths_with_a_query_are_asked(
    reach: Connect, faulty: FaultUpstream
) -> None:
    reply = await reach().open("/models?limit=2", method="GET")

    assert b"small" in await reply.read()
    assert (faulty.last.method, faulty.last.path, faulty.last.query) == (
        "GET", "/models", "limit=2",
    )  # fmt: skip
    assert faulty.last.raw == b""
    assert "content-type" not in faulty.last.headers


@pytest.mark.parametrize("path", ["responses", "/responses/../models", "/./models", ""])
async def test_a_path_that_leads_out_of_the_endpoint_is_not_asked(
    reach: Connect, faulty: FaultUpstream, path: str
) -> None:
    with pytest.raises(BadRequest, match="does not exist"):
        await reach().open(path, method="GET")

    assert faulty.calls() == 0


async def test_pieces_are_passed_on_as_they_arrive(reach: Connect, faulty: FaultUpstream) -> None:
    reply = await reach().open(CHAT, body("fault:hang-body", stream=True))
    pieces = reply.pieces()

    first = await anext(pieces)

    assert b"go to" in first
    assert not faulty.last.ended
    await pieces.aclose()
    await faulty.disconnected()


async def test_a_dribble_adds_up_to_the_answer(reach: Connect) -> None:
    transport = reach()
    whole = await (await transport.open(CHAT, body(stream=True))).read()
    reply = await transport.open(CHAT, body(stream=True), {"x-fault": "dribble;size=40;delay-ms=1"})

    pieces = [piece async for piece in reply.pieces()]

    assert b"".join(pieces) == whole
    assert len(pieces) > 5


async def test_small_writes_are_sent_at_once(reach: Connect) -> None:
    reply = await reach().open(CHAT, body("fault:hang-body", stream=True))

    connection = reply._response.connection
    assert connection is not None
    assert connection.transport is not None
    sock = connection.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    reply.close()


async def test_a_connection_is_used_again_when_its_answer_was_read_to_the_end(
    reach: Connect, faulty: FaultUpstream
) -> None:
    transport = reach()
    for _ in range(3):
        await (await transport.open(CHAT, body())).read()
        reply = await transport.open(CHAT, body(stream=True))
        while b"[DONE]" not in await reply.piece():
            pass
        await reply.drain()
        reply.close()

    assert faulty.connections == 1


async def test_an_answer_that_is_closed_early_takes_its_connection_with_it(
    reach: Connect, faulty: FaultUpstream
) -> None:
    transport = reach()
    (await transport.open(CHAT, body("fault:hang-body"))).close()
    await faulty.disconnected()

    await (await transport.open(CHAT, body())).read()

    assert faulty.connections == 2


async def test_the_rest_of_an_answer_is_read_so_that_its_connection_is_kept(
    reach: Connect, faulty: FaultUpstream
) -> None:
    transport = reach()
    reply = await transport.open(CHAT, body(stream=True), {"x-fault": "dribble;size=300"})
    await reply.drain()
    reply.close()

    await (await transport.open(CHAT, body())).read()

    assert faulty.connections == 1


async def test_a_silent_rest_is_not_waited_for_long(reach: Connect, faulty: FaultUpstream) -> None:
    reply = await reach().open(CHAT, body("fault:hang-body"))
    async with asyncio.timeout(5):
        await reply.drain()
    reply.close()

    await faulty.disconnected()


@pytest.mark.parametrize("kind", ["hang", "hang-body"])
async def test_a_cancelled_call_hangs_up(reach: Connect, faulty: FaultUpstream, kind: str) -> None:
    async def ask() -> bytes:
        return await (await reach().open(CHAT, body(f"fault:{kind}"))).read()

    call = asyncio.create_task(ask())
    await faulty.arrived()
    await asyncio.sleep(0)

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    await faulty.disconnected()


async def test_cancelled_calls_never_leave_their_answers_to_others(reach: Connect) -> None:
    transport, draw = reach(), Random(11)

    async def ask(nonce: str) -> None:
        messages = [{"role": "user", "content": nonce}]
        stream = draw.random() < 0.5
        asked = body("fault:echo", messages=messages, stream=stream)
        content = await (await transport.open(CHAT, asked)).read()
        if not stream:
            assert json.loads(content)["choices"][0]["message"]["content"] == nonce
            return
        chunks = [
            json.loads(line[6:]) for line in content.split(b"\n\n") if line.startswith(b"data: {")
        ]
        said = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
        assert "".join(said) == nonce

    async def ask_and_cancel(nonce: str) -> bool:
        call = asyncio.create_task(ask(nonce))
        for _ in range(draw.randrange(40)):
            await asyncio.sleep(0)
        if draw.random() < 0.7:
            call.cancel()
        try:
            await call
        except asyncio.CancelledError:
            return False
        return True

    answered = 0
    for start in range(0, 600, 20):
        nonces = [f"nonce {start + index}" for index in range(20)]
        answered += sum(await asyncio.gather(*map(ask_and_cancel, nonces)))
        await ask(f"whole {start}")
    assert 0 < answered < 600


async def test_the_key_is_sent_as_the_endpoint_wants_it(
    reach: Connect, faulty: FaultUpstream
) -> None:
    await (await reach(secret=Secret(KEY)).open(CHAT, body())).read()
    await (await reach(secret=Secret(KEY), headers=anthropic).open("/messages", body())).read()
    await (await reach(headers={"x-team": "a"}, secret=Secret(KEY)).open(CHAT, body())).read()

    first, second, third = (one.headers for one in faulty.requests)
    assert first["authorization"] == f"Bearer {KEY}"
    assert (second["x-api-key"], second["anthropic-version"]) == (KEY, "2023-06-01")
    assert "authorization" not in second
    assert third["x-team"] == "a"
    assert KEY not in str(third)


def test_without_a_key_none_is_sent() -> None:
    assert bearer(None) == {}
    assert anthropic(None) == {"anthropic-version": "2023-06-01"}


async def test_a_caller_adds_headers_but_never_keys_or_those_of_a_connection(
    reach: Connect, faulty: FaultUpstream
) -> None:
    foreign = {
        "Anthropic-Version": "2026-01-01",
        "anthropic-beta": "x",
        "Authorization": "Bearer client",
        "X-Api-Key": "client",
        "Cookie": "client",
        "Host": "client",
        "Content-Length": "1",
        "Transfer-Encoding": "chunked",
        "Accept-Encoding": "gzip",
    }
    transport = reach(secret=Secret(KEY), headers=anthropic)

    await (await transport.open("/messages", body(), foreign)).read()

    sent = faulty.last.headers
    assert sent["anthropic-version"] == "2026-01-01"
    assert sent["anthropic-beta"] == "x"
    assert sent["x-api-key"] == KEY
    assert sent["accept-encoding"] == "identity"
    assert "client" not in str(sent)


async def test_an_error_keeps_what_the_endpoint_sent(reach: Connect) -> None:
    with pytest.raises(RateLimited) as caught:
        await reach(retries=NEVER).open("/messages", body("fault:429;retry-after=7"))

    error = caught.value
    assert error.retry_after_s == 7
    assert error.raw is not None
    assert json.loads(error.raw) == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "the upstream says 429"},
    }
    assert error.headers["X-Request-Id"] == "req_up"
    assert error.headers["content-type"] == "application/json"


async def test_the_raw_error_of_a_page_is_kept_beside_no_error_object(reach: Connect) -> None:
    with pytest.raises(BadResponse) as caught:
        await reach(retries=NEVER).open(CHAT, body("fault:502"))

    assert caught.value.body is None
    assert caught.value.raw is not None
    assert caught.value.raw.startswith(b"<html>")


async def test_an_error_that_echoes_the_key_is_masked(reach: Connect) -> None:
    with pytest.raises(Refused) as caught:
        await reach(secret=Secret(KEY)).open(CHAT, body(f"fault:401;say=no {KEY}"))

    error = caught.value
    assert KEY not in f"{error} {error.body} {error.raw!r} {dict(error.headers)}"
    assert "***" in str(error)


async def test_an_error_without_an_answer_has_no_raw_body(reach: Connect) -> None:
    with pytest.raises(BadResponse) as caught:
        await reach().open(CHAT, body("fault:reset"))

    assert caught.value.raw is None
    assert dict(caught.value.headers) == {}


async def test_an_endless_error_is_cut_off() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 400 No\r\ncontent-length: 999999999\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with Transport(f"http://127.0.0.1:{port}/v1") as transport:
            with pytest.raises(Refused) as caught:
                await transport.open("/models", method="GET")

    assert caught.value.raw is not None
    assert len(caught.value.raw) == 1 << 20


@pytest.mark.parametrize("fault", ["429", "500", "502", "503", "529", "reset"])
async def test_a_failed_call_is_made_again(
    reach: Connect, faulty: FaultUpstream, fault: str
) -> None:
    reply = await reach().open(CHAT, body(f"fault:{fault};times=2"))

    assert b"go to desk 1" in await reply.read()
    assert faulty.calls() == 3
    assert {one.raw for one in faulty.requests} == {faulty.last.raw}
