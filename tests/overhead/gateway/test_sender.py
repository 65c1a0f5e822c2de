from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from tutelage.overhead.gateway.calls import chat_call
from tutelage.overhead.gateway.load import RECORD, Load, Loaded, call_bytes, write_calls
from tutelage.overhead.gateway.sender import Sender, main
from tutelage.overhead.gateway.upstream import Upstream

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CALL = call_bytes("/", b"{}")
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[int]:
    """A server whose connections are handled by ``answer``; gives its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def always(*pieces: bytes) -> Answer:
    """Answers every request on a connection with the same pieces."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readexactly(len(CALL))
            for piece in pieces:
                writer.write(piece)
                await writer.drain()

    return answer


async def send(port: int, load: Load, calls: list[bytes] | None = None) -> Loaded:
    sender = Sender(port, calls or [CALL], load)
    elapsed_s = await sender.run()
    return Loaded(np.array(sender.rows, RECORD), elapsed_s)


async def test_as_many_requests_are_sent_as_were_asked_for() -> None:
    async with serving(always(OK + b"\r\n{}")) as port:
        loaded = await send(port, Load(3, requests=10))

    assert (loaded.sent, loaded.completed, loaded.failed) == (10, 10, 0)
    assert loaded.statuses == {200: 10}
    assert loaded.rps == pytest.approx(10 / loaded.elapsed_s)


async def test_calls_are_sent_in_turn_from_the_first_that_is_wanted() -> None:
    seen = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append((await reader.readuntil(b"}"))[-3:])
            writer.write(OK + b"\r\n{}")

    calls = [call_bytes("/", b"{%d}" % number) for number in range(3)]
    async with serving(answer) as port:
        await send(port, Load(1, requests=4, first=1), calls)

    assert seen == [b"{1}", b"{2}", b"{0}", b"{1}"]


async def test_nothing_is_started_after_the_time_but_what_is_in_flight_may_end() -> None:
    released = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(CALL))
        await released.wait()
        writer.write(OK + b"\r\n{}")
        await reader.readexactly(len(CALL))

    async with serving(answer) as port:
        sending = asyncio.create_task(send(port, Load(2, seconds=0.05)))
        await asyncio.wait([sending], timeout=0.2)
        assert not sending.done()
        released.set()
        loaded = await sending

    assert (loaded.sent, loaded.completed) == (2, 2)
    assert loaded.elapsed_s > 0.05


async def test_patience_ends() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(answer) as port:
        loaded = await send(port, Load(2, seconds=0.02, patience_s=0.02))

    assert (loaded.sent, loaded.failed) == (2, 2)
    assert loaded.statuses == {0: 2}


async def test_a_stream_is_measured_by_its_events() -> None:
    first = b"c\r\ndata: {}\r\n\r\n\r\n"
    last = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
    async with serving(always(STREAM + first, last)) as port:
        loaded = await send(port, Load(1, requests=3))

    assert (loaded.completed, loaded.events) == (3, 2.0)
    assert loaded.first_ms(50) <= loaded.latency_ms(50)


async def test_an_event_may_be_cut_anywhere() -> None:
    pieces = [b"1\r\n%c\r\n" % letter for letter in b"data: {}\n\ndata: [DONE]\n\n"]
    async with serving(always(STREAM, *pieces, b"0\r\n\r\n")) as port:
        loaded = await send(port, Load(1, requests=2))

    assert (loaded.completed, loaded.events) == (2, 2.0)


async def test_a_stream_without_its_end_is_a_failure() -> None:
    async with serving(always(STREAM + b"a\r\ndata: {}\n\n\r\n0\r\n\r\n")) as port:
        loaded = await send(port, Load(1, requests=2))

    assert (loaded.sent, loaded.failed, loaded.statuses) == (2, 2, {200: 2})


async def test_an_error_is_a_failure() -> None:
    async with serving(always(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")) as port:
        loaded = await send(port, Load(1, requests=2))

    assert (loaded.failed, loaded.statuses) == (2, {503: 2})


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"no"])
async def test_a_broken_connection_is_a_failure_and_is_opened_again(said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(CALL))
        writer.write(said)

    async with serving(answer) as port:
        loaded = await send(port, Load(1, requests=3))

    assert (loaded.failed, loaded.statuses) == (3, {0: 3})


async def test_a_connection_that_the_server_ends_in_order_is_no_failure() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(CALL))
        writer.write(OK + b"Connection: close\r\n\r\n{}")

    async with serving(answer) as port:
        loaded = await send(port, Load(1, requests=3))

    assert (loaded.completed, loaded.failed) == (3, 0)


async def test_a_server_that_goes_away_is_a_failure() -> None:
    server: asyncio.Server

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(CALL))
        server.close()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    loaded = await send(server.sockets[0].getsockname()[1], Load(1, requests=3))

    assert (loaded.sent, loaded.failed) == (3, 3)


@pytest.mark.parametrize(("value", "noted"), [(b"12.5", 12.5), (b"3", 3.0)])
async def test_a_header_is_noted(value: bytes, noted: float) -> None:
    async with serving(always(OK + b"X-Own-MS: " + value + b"\r\n\r\n{}")) as port:
        loaded = await send(port, Load(1, requests=2, header="x-own-ms"))

    assert loaded.header_ms(50) == noted


@pytest.mark.parametrize("line", [b"", b"X-Own-MS: soon\r\n"])
async def test_a_header_that_holds_no_number_is_not_noted(line: bytes) -> None:
    async with serving(always(OK + line + b"\r\n{}")) as port:
        loaded = await send(port, Load(1, requests=2, header="x-own-ms"))

    assert loaded.completed == 2
    assert np.isnan(loaded.header_ms(50))


async def test_a_pause_is_kept() -> None:
    async with serving(always(OK + b"\r\n{}")) as port:
        loaded = await send(port, Load(1, requests=3, pause_us=20_000))

    starts = loaded.records["started_ns"].astype(np.int64)
    assert (np.diff(starts) >= 20_000_000).all()


async def test_the_program_writes_records(
    upstream: Upstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_calls(tmp_path / "calls", [chat_call({}, stream=True)])
    load = json.dumps({"requests": 5})

    await main(str(upstream.port), load, str(tmp_path / "calls"), str(tmp_path / "records"))

    records = np.fromfile(tmp_path / "records", RECORD)
    assert records["events"].tolist() == [23] * 5
    assert float(capsys.readouterr().out) > 0


async def test_the_program_says_that_nobody_listens(tmp_path: Path, closed_port: int) -> None:
    write_calls(tmp_path / "calls", [CALL])

    with pytest.raises(SystemExit, match=f"nobody listens at {closed_port}"):
        await main(str(closed_port), "{}", str(tmp_path / "calls"), str(tmp_path / "records"))
