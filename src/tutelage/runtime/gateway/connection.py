"""One client's connection, and how long it may keep us waiting."""

from __future__ import annotations

import asyncio
import re

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tutelage.runtime.config import LimitConfig
from tutelage.runtime.gateway.crowd import Crowd
from tutelage.runtime.gateway.refusals import FULL, HEAD_TOO_LARGE

# A close while a request arrives would reset the connection before the refusal is read.
_REFUSAL_S = 1.0
# What of a head may arrive beside its headers: the first line, and the end of what came before it.
_BESIDE_BYTES = 65_536
# Of what is not read any more.
_DRAINED_BYTES = 1 << 20
_MOST_TRAILERS = 100
_UPGRADE = re.compile(rb"(?<=\r\n)upgrade(?=:)", re.IGNORECASE)
# As long as the name it takes the place of.
_IGNORED = b"ignored"


class _Trailers(list[tuple[bytes, bytes]]):
    """What follows a body is no header of the request, and is not kept."""

    _left = _MOST_TRAILERS

    def append(self, header: tuple[bytes, bytes]) -> None:
        """Forgets it; the parser takes an error for one of the client."""
        self._left -= 1
        if self._left < 0:
            raise ValueError("there are too many trailers")


class Connection(HttpToolsProtocol):
    """Ends when the headers of a request do not come, or when what was sent is not read.

    The server's own timeouts cover idle connections only, and the gateway's a body that it reads.
    """

    read_s = 30.0
    write_s = 60.0
    head_bytes = LimitConfig().header_bytes + _BESIDE_BYTES
    crowd = Crowd(LimitConfig().connections)
    _has_joined = True
    _is_deaf = False
    """Whether nothing that arrives is read any more."""
    _unfinished_bytes = 0
    _in_headers = True
    _in_body = False
    _slow: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    @classmethod
    def bounded(cls, limits: LimitConfig, most: int | None = None) -> type[Connection]:
        """The class with the limits of a configuration: the server makes the objects.

        Args:
            limits: Of the configuration.
            most: Connections at once, where the system allows fewer.
        """
        connections = limits.connections if most is None else min(limits.connections, most)
        own = {
            "read_s": limits.read_s,
            "write_s": limits.write_s,
            "head_bytes": limits.header_bytes + _BESIDE_BYTES,
            "crowd": Crowd(connections),
        }
        return type(cls.__name__, (cls,), own)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for the headers of the first request, if there is room."""
        if not self.crowd.enter(self, self.loop.time()):
            self._refuse(transport)
            return
        super().connection_made(transport)
        self._slow = self.loop.call_later(self.read_s, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the timers."""
        for timer in (self._slow, self._stalled):
            if timer is not None:
                timer.cancel()
        self.crowd.leave(self)
        if self._has_joined:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads, and bounds what nobody else waits for."""
        if self._is_deaf:
            self._unfinished_bytes += len(data)
            if self._unfinished_bytes > _DRAINED_BYTES:
                self.transport.abort()
            return
        if not self._in_body and (b"pgrade" in data or b"PGRADE" in data):
            # We speak nothing else, and may ignore the offer; the parser would drop the body.
            data = _UPGRADE.sub(_IGNORED, data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        # Empty lines may stand before a request.
        if self._in_headers or (not self._in_body and not data.strip(b"\r\n")):
            self._unfinished_bytes += len(data)
            if self._unfinished_bytes > self.head_bytes:
                self._give_up(HEAD_TOO_LARGE)
                return
        # The gateway does not wait for the body of a request that it has answered already.
        unwatched = self._in_headers or (self._in_body and self.cycle.response_complete)
        # Most requests come in one piece, and need no timer.
        if unwatched and self._slow is None:
            self._slow = self.loop.call_later(self.read_s, self.transport.close)
        elif not unwatched and self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _unsupported_upgrade_warning(self) -> None:
        """Called when the parser has stopped at an offer to speak something else.

        Where the offer came in pieces it is not seen before. What follows is the body of the
        request, and would be read as the next request.
        """
        self._is_deaf = True
        self.cycle.keep_alive = False

    def on_message_begin(self) -> None:
        """Called by the parser with the first byte of a request."""
        self._in_headers = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Called by the parser after the last header."""
        self._in_headers, self._in_body = False, True
        self._unfinished_bytes = 0
        self.crowd.asks(self)
        super().on_headers_complete()
        self.headers = _Trailers()

    def on_message_complete(self) -> None:
        """Called by the parser after the body."""
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called with the end of an answer."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self.crowd.rests(self)

    def drop(self) -> None:
        """Ends a connection on which nothing is being answered."""
        self.timeout_keep_alive_handler()

    def _refuse(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._has_joined = False
        if self.crowd.refuse(self):
            self._give_up(FULL)
        else:
            self._is_deaf = True
            transport.abort()

    def _give_up(self, answer: bytes) -> None:
        """Says why no request is read any more, and waits for the client to have read it."""
        self._is_deaf = True
        if self._slow is not None:
            self._slow.cancel()
        self._slow = self.loop.call_later(_REFUSAL_S, self.transport.abort)
        if self.cycle is not None and not self.cycle.response_complete:
            # Within another answer it would be part of that.
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.write(answer)
            if self.transport.can_write_eof():
                self.transport.write_eof()

    def pause_writing(self) -> None:
        """Called by the transport when the client leaves too much unread."""
        super().pause_writing()
        # A close would wait for the client to read.
        self._stalled = self.loop.call_later(self.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Called by the transport when the client has read on."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def timeout_keep_alive_handler(self) -> None:
        """Ends an idle connection, whether or not its last answer was read."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()
