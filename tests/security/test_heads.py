"""Heads of requests: what no proper client sends costs little, and is never a second request."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from urllib.parse import urlsplit

import pytest
from tests.security.raw import send_raw, statuses
from tests.served_gateway import Served, World, call, until

BODY = json.dumps(call("chat", "passthrough")).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
CLOSE = b"connection: close\r\n"


class Line:
    """One connection, byte by byte."""

    def __init__(self, served: Served) -> None:
        self._address = urlsplit(served.base_url)
        self.got = b""

    async def __aenter__(self) -> Line:
        host, port = self._address.hostname, self._address.port
        self._reader, self._writer = await asyncio.open_connection(host, port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def say(self, *pieces: bytes) -> None:
        """Sends pieces that arrive one after another."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(0.02)

    async def flood(self, piece: bytes, most: int) -> int:
        """Sends a piece again and again until the server has had enough; how many bytes went."""
        sent = 0
        try:
            while sent < most:
                self._writer.write(piece)
                sent += len(piece)
                await self._writer.drain()
        except ConnectionError:
            pass
        return sent

    async def hear(self, count: int) -> list[int]:
        """The statuses of so many answers, or of all until the server hangs up."""
        async with asyncio.timeout(10):
            while len(statuses(self.got)) < count or not self.got.endswith((b"}", b"\n\n")):
                try:
                    piece = await self._reader.read(65536)
                except ConnectionError:
                    break
                if not piece:
                    break
                self.got += piece
        return statuses(self.got)

    async def is_over(self) -> bool:
        """Whether the server hangs up without another answer."""
        async with asyncio.timeout(10):
            try:
                return await self._reader.read(65536) == b""
            except ConnectionError:
                return True


@pytest.mark.parametrize(
    "piece",
    [b"a: b\r\n" * 1000, b"x" * 10_000, b"a: " + b"b" * 10_000, b"\r\n" * 5000],
    ids=["many", "a name without an end", "long", "empty lines"],
)
@pytest.mark.parametrize("start", [b"", HEAD], ids=["first", "second"])
async def test_a_head_without_an_end_is_given_up_long_before_its_time(
    piece: bytes, start: bytes, world: World
) -> None:
    """It is held in memory until it ends, and nobody has shown a key yet."""
    async with world.serve(is_open=False) as served:
        async with Line(served) as line:
            await line.say(start)
            sent = await line.flood(piece, 50_000_000)
            assert sent < 20_000_000
            assert (await line.hear(1))[:1] in ([431], [401], [])
        await until(lambda: not served.server.server_state.connections)


async def test_empty_lines_between_requests_are_few(world: World) -> None:
    async with world.serve() as served:
        async with Line(served) as line:
            await line.say(b"\r\n\r\n" + HEAD + LENGTH + b"\r\n" + BODY + b"\r\n")
            assert await line.hear(1) == [200]
            await line.say(b"\r\n" + HEAD + LENGTH + b"\r\n" + BODY)
            assert await line.hear(2) == [200, 200]
            assert await line.flood(b"\r\n" * 5000, 50_000_000) < 20_000_000
        await until(lambda: not served.server.server_state.connections)


# Trailers: fields after a body in chunks.


TRAILERS = [
    b"authorization: Bearer %s",
    b"x-api-key: %s",
    b"x-tutelage-force: student",
    b"x-tutelage-mode: no mode",
    b"host: evil.example",
    b"connection: keep-alive",
    b"traceparent: 00-%s-01",
]


@pytest.mark.parametrize("trailer", TRAILERS)
async def test_what_follows_a_body_is_no_header(trailer: bytes, world: World) -> None:
    async with world.serve() as served:
        answer = await send_raw(served.base_url, HEAD + CLOSE + CHUNKED + trailer + b"\r\n\r\n")
    assert statuses(answer) == [200]
    assert world.teacher.calls() == 1
    assert "traceparent" not in world.teacher.last.headers


async def test_no_key_comes_after_a_body(world: World) -> None:
    """A proxy may look at headers alone to say who calls."""
    async with world.serve(is_open=False) as served:
        key = (await served.issue()).encode()
        named = b"authorization: Bearer " + key + b"\r\n"
        after = await send_raw(served.base_url, HEAD + CLOSE + CHUNKED + named + b"\r\n")
        before = await send_raw(served.base_url, HEAD + CLOSE + named + CHUNKED + b"\r\n")
    assert statuses(after) == [401]
    assert statuses(before) == [200]


async def test_trailers_are_bounded(world: World) -> None:
    async with world.serve(is_open=False) as served:
        async with Line(served) as line:
            await line.say(HEAD + CHUNKED.removesuffix(b"\r\n0\r\n") + b"\r\n0\r\n")
            assert await line.flood(b"a: b\r\n" * 1000, 50_000_000) < 20_000_000
        await until(lambda: not served.server.server_state.connections)


# Offers to speak something else.

UPGRADES = {
    "h2c": b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
    "upper case": b"CONNECTION: UPGRADE\r\nUPGRADE: TLS/1.3\r\n",
}
INNER = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.mark.parametrize("name", UPGRADES)
async def test_a_client_that_offers_more_is_served_as_it_asked(name: str, world: World) -> None:
    """Java's own client offers HTTP/2 with every first request."""
    async with world.serve() as served, Line(served) as line:
        raw = HEAD + UPGRADES[name] + LENGTH + b"\r\n"
        await line.say(raw + BODY)
        assert await line.hear(1) == [200]
        await line.say(raw, BODY)
        assert await line.hear(2) == [200, 200]
        await line.say(INNER)
        assert await line.hear(3) == [200, 200, 200]
    assert world.teacher.calls() == 2


@pytest.mark.parametrize("name", UPGRADES)
@pytest.mark.parametrize("cut", [0, 1, 4, 7])
async def test_a_body_after_an_offer_is_never_a_second_request(
    name: str, cut: int, world: World
) -> None:
    """Wherever the head is cut: a proxy that passes the offer on takes what follows for a body."""
    offer = UPGRADES[name]
    at = re.search(rb"upgrade:", offer, re.IGNORECASE)
    assert at is not None
    raw = HEAD + offer + b"content-length: %d\r\n\r\n" % len(INNER)
    middle = raw.index(offer) + at.start() + cut
    async with world.serve() as served, Line(served) as line:
        await line.say(raw[:middle], raw[middle:], INNER)
        # No JSON, and no more than that one answer.
        assert await line.hear(1) == [400]
        assert await line.is_over()
    assert b'"object":"list"' not in line.got


async def test_what_stands_in_a_body_is_no_offer(world: World) -> None:
    text = "how do I upgrade?\r\nUpgrade: h2c\r\nConnection: Upgrade"
    async with world.serve() as served:
        got = await served.ask("chat", call("chat", "passthrough", text))
        assert got.status == 200
    assert world.teacher.last.body["messages"][0]["content"] == text


# What breaks the parser breaks nothing else.


@pytest.mark.parametrize(
    "raw",
    [
        b"CONNECT evil.example:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET evil HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\n folded\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        HEAD + CHUNKED + b"a: b\r\n" * 200 + b"\r\n",
    ],
)
async def test_a_request_that_cannot_be_read_leaves_no_traceback(
    raw: bytes, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with world.serve() as served:
            answer = await send_raw(served.base_url, raw)
            assert (await served.send("GET", "/v1/models")).status == 200
    assert statuses(answer)[-1:] in ([400], [200])
    assert not any(record.exc_info for record in caplog.records)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("length", [b"9223372036854775807", b"9999999999999999999", b"9" * 18])
async def test_a_length_beyond_all_limits_is_refused_at_once(length: bytes, world: World) -> None:
    async with world.serve() as served:
        raw = HEAD + CLOSE + b"content-length: " + length + b"\r\n\r\n{"
        answer = await send_raw(served.base_url, raw)
    assert statuses(answer) in ([413], [400])
