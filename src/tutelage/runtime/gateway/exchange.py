"""One HTTP request and its answer: bounded in size and time, kept alive by pings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import orjson

from tutelage.runtime.config import LimitConfig
from tutelage.runtime.errors import TutelageError
from tutelage.runtime.gateway.limits import check_size
from tutelage.runtime.time_limit import within

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = Iterable[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
_MOST_DIGITS = 18
_WATCH_AFTER_S = 0.05
EVENTS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Tells nginx not to gather the stream before it passes it on.
    (b"x-accel-buffering", b"no"),
)


class ClientGone(TutelageError):
    """The client left, or left what was sent to it unread for too long."""


class TooSlow(TutelageError):
    """The client did not send its request in time."""


class Exchange:
    """One HTTP request and its answer.

    Args:
        scope: The ASGI scope.
        receive: Where the request comes from.
        send: Where the answer goes.
        limits: What the request may be at most.
        timer: A monotonic clock, seconds.
    """

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
        limits: LimitConfig,
        timer: Callable[[], float],
    ) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope.get("query_string", b"")
        self.raw_headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._receive = receive
        self._send = send
        self._limits = limits
        self._timer = timer
        self._headers: dict[str, str] | None = None
        self.status: int | None = None
        """Of the answer; ``None`` until it has started."""
        self.started_s = timer()
        self._wrote_s = self.started_s
        self.first_chunk_s: float | None = None
        """Seconds from the start until the first piece that is no ping."""
        self.ended = False
        self._watch: asyncio.TimerHandle | None = None
        self._watching: asyncio.Task[None] | None = None
        self._pinger: asyncio.TimerHandle | None = None
        self._pinging: asyncio.Task[None] | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The request's headers by lower-case name; of several of a name the last one."""
        if self._headers is None:
            decoded = ((name.decode("latin-1"), value) for name, value in self.raw_headers)
            self._headers = {name: value.decode("latin-1") for name, value in decoded}
        return self._headers

    @property
    def has_started(self) -> bool:
        """Whether a status has been sent."""
        return self.status is not None

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            TooLarge: It has more than ``limits.body_bytes``; no more of it is read.
            TooSlow: It did not arrive within ``limits.read_s``.
            ClientGone: The client left.
        """
        declared = self.headers.get("content-length", "")
        # The HTTP parser vouches for the header, not for a server of another kind.
        if declared.isascii() and declared.isdigit():
            # More digits than any limit has are not made a number.
            check_size(int(declared[:_MOST_DIGITS]), self._limits)
        try:
            return await within(self._limits.read_s, self._whole_body())
        except TimeoutError:
            raise TooSlow(f"the request took more than {self._limits.read_s:g} s") from None

    async def _whole_body(self) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone("the client left while it sent its request")
            piece = message.get("body", b"")
            size += len(piece)
            check_size(size, self._limits)
            if not message.get("more_body"):
                return b"".join([*pieces, piece]) if pieces else piece
            pieces.append(piece)

    def watch(self, on_leave: Callable[[], None]) -> None:
        """Calls ``on_leave`` when the client leaves before its answer has ended.

        Begins after a moment, since most answers are shorter than the watch would cost; call it
        after ``body``.
        """
        loop = asyncio.get_running_loop()

        def left(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and not self.ended:
                on_leave()

        def begin() -> None:
            self._watching = loop.create_task(self._left())
            self._watching.add_done_callback(left)

        self._watch = loop.call_later(_WATCH_AFTER_S, begin)

    def unwatch(self) -> None:
        """Ends the watch: there is nothing to cancel any more."""
        self.ended = True
        if self._watch is not None:
            self._watch.cancel()
        if self._watching is not None:
            self._watching.cancel()

    async def _left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def start(self, status: int, headers: RawHeaders) -> None:
        """Sends status and headers."""
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers]})

    async def write(self, piece: bytes) -> None:
        """Sends a piece of the body; of a stream with pings only whole events.

        Raises:
            ClientGone: The client left what was sent before unread for ``limits.write_s``.
        """
        if self.first_chunk_s is None:
            self.first_chunk_s = self._timer() - self.started_s
        if self._pinging is not None:
            await self._pinging
        self._wrote_s = self._timer()
        await self._bounded({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self, piece: bytes = b"") -> None:
        """Sends the last piece."""
        self.stop_pings()
        if self._pinging is not None:
            await self._pinging
        self.ended = True
        await self._bounded({"type": "http.response.body", "body": piece})

    async def respond(self, status: int, body: bytes, headers: RawHeaders = (JSON,)) -> None:
        """Sends a whole answer."""
        length = (b"content-length", str(len(body)).encode())
        await self.start(status, [*headers, length])
        await self.end(body)

    async def respond_json(self, status: int, body: Any, headers: RawHeaders = ()) -> None:
        """Sends a whole answer as JSON."""
        await self.respond(status, orjson.dumps(body), [JSON, *headers])

    def start_pings(self, ping: bytes, every_s: float, headers: Callable[[], RawHeaders]) -> None:
        """Sends pings while nothing else is sent; the first one starts the answer if need be.

        Args:
            ping: A whole event that means nothing.
            every_s: Silence before a ping.
            headers: What is known for the answer's headers when a ping has to start it.
        """
        loop = asyncio.get_running_loop()

        async def send_ping() -> None:
            if self._pinger is None:
                # Stopped before this task began: the answer may be no stream at all.
                return
            try:
                if not self.has_started:
                    await self.start(200, [*EVENTS, *headers()])
                await self._write(ping)
            except ClientGone:
                return

        def due() -> None:
            silent_s = self._timer() - self._wrote_s
            if silent_s < every_s:
                self._pinger = loop.call_later(every_s - silent_s, due)
                return
            if self._pinging is None or self._pinging.done():
                self._pinging = loop.create_task(send_ping())
            self._pinger = loop.call_later(every_s, due)

        self._pinger = loop.call_later(every_s, due)

    def stop_pings(self) -> None:
        """Sends no further ping."""
        if self._pinger is not None:
            self._pinger.cancel()
            self._pinger = None

    async def _write(self, piece: bytes) -> None:
        self._wrote_s = self._timer()
        await self._bounded({"type": "http.response.body", "body": piece, "more_body": True})

    async def _bounded(self, message: Message) -> None:
        try:
            await within(self._limits.write_s, self._send(message))
        except TimeoutError:
            limit_s = self._limits.write_s
            raise ClientGone(f"the client read nothing for {limit_s:g} s") from None
        except OSError as error:
            raise ClientGone(f"the connection to the client broke: {error}") from error
