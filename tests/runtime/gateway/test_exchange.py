"""One HTTP request and its answer, between a scripted client and a scripted server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tutelage.runtime.config import LimitConfig
from tutelage.runtime.gateway.exchange import EVENTS, ClientGone, Exchange, TooSlow
from tutelage.runtime.gateway.limits import TooLarge

GONE = {"type": "http.disconnect"}
PING = b": ping\n\n"


class Client:
    """Sends what it was told to, then nothing, and keeps what it gets."""

    def __init__(self, *messages: Any) -> None:
        self._messages = list(messages)
        self.got: list[Any] = []
        self.leaves = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.now_s = 0.0

    async def receive(self) -> Any:
        if self._messages:
            return self._messages.pop(0)
        await self.leaves.wait()
        return GONE

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        self.got.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(one.get("body", b"") for one in self.got)


def piece(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def exchange(
    client: Client, headers: Sequence[tuple[bytes, bytes]] = (), **limits: float
) -> Exchange:
    scope = {"method": "POST", "path": "/v1/x", "query_string": b"", "headers": list(headers)}
    chosen = LimitConfig.model_validate({"body_bytes": 1024, **limits})
    return Exchange(scope, client.receive, client.send, chosen, lambda: client.now_s)


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_body_in_pieces_is_put_together() -> None:
    client = Client(piece(b"a", more=True), piece(b"b", more=True), piece(b"c"))

    assert await exchange(client).body() == b"abc"


@pytest.mark.parametrize("declared", [b"1025", b"9" * 17, b"9" * 19, b"9" * 5000])
async def test_a_body_that_says_it_is_too_large_is_not_read(declared: bytes) -> None:
    client = Client()

    with pytest.raises(TooLarge):
        await exchange(client, [(b"content-length", declared)]).body()


@pytest.mark.parametrize("declared", [None, b"3", b"x", b"-1", "²".encode("latin-1")])
async def test_a_body_that_grows_too_large_is_given_up(declared: bytes | None) -> None:
    pieces = [piece(b"x" * 600, more=True) for _ in range(5)]
    client = Client(*pieces)
    headers = [] if declared is None else [(b"content-length", declared)]

    with pytest.raises(TooLarge):
        await exchange(client, headers).body()

    # The second piece passed the limit; the rest was not asked for.
    assert await client.receive() is pieces[2]


async def test_a_body_that_does_not_come_is_given_up() -> None:
    with pytest.raises(TooSlow, match=r"0\.01 s"):
        await exchange(Client(piece(b"a", more=True)), read_s=0.01).body()


async def test_a_client_that_leaves_while_it_sends_is_gone() -> None:
    with pytest.raises(ClientGone):
        await exchange(Client(piece(b"a", more=True), GONE)).body()


async def test_of_headers_with_one_name_the_last_one_counts() -> None:
    found = exchange(Client(), [(b"a", b"1"), (b"b", b"\xe9"), (b"a", b"2")]).headers

    assert found == {"a": "2", "b": "é"}


async def test_a_whole_answer_has_its_length() -> None:
    client = Client()
    answer = exchange(client)

    await answer.respond_json(201, {"a": 1}, [(b"x-y", b"z")])

    start, end = client.got
    assert (start["status"], answer.status) == (201, 201)
    assert (b"content-length", b"7") in start["headers"]
    assert (b"x-y", b"z") in start["headers"]
    assert (end["body"], end.get("more_body", False)) == (b'{"a":1}', False)


async def test_a_client_that_leaves_is_noticed_until_the_answer_has_ended() -> None:
    client, left = Client(), asyncio.Event()
    answer = exchange(client)
    answer.watch(left.set)
    client.leaves.set()
    await asyncio.wait_for(left.wait(), 5)

    ended, client = asyncio.Event(), Client()
    answer = exchange(client)
    answer.watch(ended.set)
    await asyncio.sleep(0.1)
    await answer.respond(200, b"")
    client.leaves.set()
    await turns()
    answer.unwatch()

    assert not ended.is_set()


async def test_a_client_that_reads_nothing_is_gone() -> None:
    client = Client()
    answer = exchange(client, write_s=0.01)
    await answer.start(200, EVENTS)
    client.reads.clear()

    with pytest.raises(ClientGone, match=r"0\.01 s"):
        await answer.write(b"data: 1\n\n")


async def test_a_broken_connection_is_a_client_that_is_gone() -> None:
    async def send(message: Any) -> None:
        raise ConnectionResetError("reset by peer")

    client = Client()
    client.send = send  # type: ignore[method-assign]
    answer = exchange(client)
    answer.status = 200

    with pytest.raises(ClientGone, match="reset by peer"):
        await answer.write(b"x")


async def test_the_first_piece_is_timed_and_a_ping_is_none() -> None:
    client = Client()
    answer = exchange(client)
    answer.start_pings(PING, 0.001, lambda: [])
    client.now_s = 1.0
    await until_pinged(client)
    assert answer.first_chunk_s is None

    client.now_s = 2.5
    await answer.write(b"data: 1\n\n")
    answer.stop_pings()

    assert answer.first_chunk_s == 2.5


async def until_pinged(client: Client, count: int = 1) -> None:
    async with asyncio.timeout(5):
        while client.body.count(PING) < count:  # noqa: ASYNC110 - the state of a script
            await asyncio.sleep(0.001)


async def test_a_ping_starts_the_answer_with_what_is_known() -> None:
    client = Client()
    answer = exchange(client)
    answer.start_pings(PING, 0.001, lambda: [(b"x-known", b"early")])
    client.now_s = 1.0
    await until_pinged(client)
    answer.stop_pings()

    assert client.got[0]["status"] == 200
    assert client.got[0]["headers"] == [*EVENTS, (b"x-known", b"early")]


async def test_pings_come_in_silence_only() -> None:
    client = Client()
    answer = exchange(client)
    answer.start_pings(PING, 0.002, lambda: [])
    # As long as the clock stands, nothing has been silent.
    for number in range(10):
        await answer.write(b"data: %d\n\n" % number)
        await asyncio.sleep(0.002)
    lively = client.body
    client.now_s = 1.0
    await until_pinged(client)
    answer.stop_pings()

    assert PING not in lively


async def test_a_ping_that_was_due_when_pings_stopped_is_not_sent() -> None:
    client = Client()
    client.now_s = 1.0
    answer = exchange(client)
    client.now_s = 2.0
    answer.start_pings(PING, 0.0, lambda: [])
    # Now the task of the ping is made, and has not begun.
    await turns(2)
    answer.stop_pings()
    await answer.respond_json(502, {})
    await turns()

    assert [one["type"] for one in client.got] == ["http.response.start", "http.response.body"]
    assert (client.got[0]["status"], client.body) == (502, b"{}")


async def test_an_event_waits_for_the_ping_before_it() -> None:
    client = Client()
    client.now_s = 1.0
    answer = exchange(client)
    await answer.start(200, EVENTS)
    client.reads.clear()
    client.now_s = 2.0
    answer.start_pings(PING, 0.001, lambda: [])
    await asyncio.sleep(0.02)
    writing = asyncio.create_task(answer.write(b"data: 1\n\n"))
    await turns()
    client.reads.set()
    await writing
    answer.stop_pings()

    assert client.body.startswith(PING)
    assert client.body.count(b"data: 1\n\n") == 1


async def test_pings_to_a_client_that_reads_nothing_end() -> None:
    client = Client()
    answer = exchange(client, write_s=0.01)
    await answer.start(200, EVENTS)
    client.reads.clear()
    client.now_s = 1.0
    answer.start_pings(PING, 0.001, lambda: [])
    await asyncio.sleep(0.05)
    answer.stop_pings()

    with pytest.raises(ClientGone):
        await answer.write(b"data: 1\n\n")
    assert client.body == b""
