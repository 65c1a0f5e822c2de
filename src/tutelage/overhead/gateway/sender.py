"""The load generator: asyncio protocols on bare connections, run as a program by ``load.py``."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import httptools
import numpy as np

from tutelage.overhead.gateway.load import RECORD, Load, read_calls

TAIL = 32
ENDS = (b"[DONE]", b"message_stop")

_Row = tuple[int, int, int, int, int, int, int, int]


class Answer(asyncio.Protocol):
    """One connection, and the answer it is reading.

    Args:
        header: Name of the header with milliseconds; empty for none.
    """

    def __init__(self, header: str) -> None:
        self._header = header.lower().encode()
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[_Row] | None = None
        self._started_ns = 0

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Breaks the connection off."""
        if self._transport is not None:
            self._transport.abort()

    def ask(self, call: bytes, started_ns: int) -> asyncio.Future[_Row]:
        """Sends a request; the future gets its record."""
        assert self._transport is not None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._first_ns = self._status = self._events = 0
        self._header_us = -1
        self._streams = self._closes = False
        self._tail = b""
        self._started_ns = started_ns
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(call)
        return self._done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop."""
        self._transport = None
        self._status = 0
        self._end(whole=False)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        name = name.lower()
        if name == b"content-type":
            self._streams = value.startswith(b"text/event-stream")
        elif name == b"connection":
            self._closes = value.lower() == b"close"
        if name == self._header:
            with suppress(ValueError):
                self._header_us = int(float(value) * 1000)

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        if not self._first_ns:
            self._first_ns = time.monotonic_ns() - self._started_ns
        if self._streams:
            joined = (self._tail[-1:] + body).replace(b"\r", b"")
            self._events += joined.count(b"\n\n")
            self._tail = (self._tail + body)[-TAIL:]

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._end(whole=not self._streams or any(end in self._tail for end in ENDS))
        if self._closes:
            self.close()

    def _end(self, *, whole: bool) -> None:
        if self._done is None or self._done.done():
            return
        latency_ns = time.monotonic_ns() - self._started_ns
        times = (self._started_ns, latency_ns, self._first_ns, self._header_us)
        self._done.set_result((*times, self._events, self._status, int(whole), 0))


class Sender:
    """All connections of one run.

    Args:
        port: Where to.
        calls: Requests, sent in turn.
        load: How.
    """

    def __init__(self, port: int, calls: list[bytes], load: Load) -> None:
        self._port = port
        self._calls = calls
        self._load = load
        self._sent = 0
        self.rows: list[_Row] = []

    async def run(self) -> float:
        """Seconds until the last answer.

        Raises:
            OSError: Nobody listens.
        """
        answers = [await self._connected() for _ in range(self._load.connections)]
        self._begin_ns = time.monotonic_ns()
        tasks = [asyncio.create_task(self._work(answer)) for answer in answers]
        if self._load.seconds:
            await asyncio.wait(tasks, timeout=self._load.seconds)
            _, late = await asyncio.wait(tasks, timeout=self._load.patience_s)
        else:
            _, late = await asyncio.wait(tasks)
        for answer in answers if late else ():
            answer.close()
        await asyncio.gather(*tasks)
        ends = [row[0] + row[1] for row in self.rows]
        return (max(ends, default=self._begin_ns) - self._begin_ns) / 1e9

    async def _connected(self) -> Answer:
        loop = asyncio.get_running_loop()
        _, answer = await loop.create_connection(
            lambda: Answer(self._load.header), "127.0.0.1", self._port
        )
        return answer

    def _may_start(self) -> bool:
        load = self._load
        late = load.seconds and time.monotonic_ns() - self._begin_ns >= load.seconds * 1e9
        return not late and (not load.requests or self._sent < load.requests)

    async def _work(self, answer: Answer) -> None:
        while self._may_start():
            call = self._calls[(self._load.first + self._sent) % len(self._calls)]
            self._sent += 1
            started_ns = time.monotonic_ns()
            try:
                if not answer.is_open:
                    answer = await self._connected()
                self.rows.append(await answer.ask(call, started_ns))
            except OSError:
                spent_ns = time.monotonic_ns() - started_ns
                self.rows.append((started_ns, spent_ns, 0, -1, 0, 0, 0, 0))
                await asyncio.sleep(0.01)
            if self._load.pause_us:
                await asyncio.sleep(self._load.pause_us / 1e6)
        answer.close()


async def main(port: str, load: str, calls: str, records: str) -> None:
    """Sends what the arguments say, writes the records, and prints the seconds it took."""
    sender = Sender(int(port), read_calls(Path(calls)), Load(**json.loads(load)))
    try:
        elapsed_s = await sender.run()
    except OSError:
        sys.exit(f"nobody listens at {port}")
    np.array(sender.rows, RECORD).tofile(records)
    print(f"{elapsed_s:.9f}")


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(*sys.argv[1:]))
