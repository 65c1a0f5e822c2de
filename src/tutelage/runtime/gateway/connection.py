"""One client's connection, and how long it may keep us waiting."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tutelage.runtime.config import LimitConfig


class Connection(HttpToolsProtocol):
    """Ends when the headers of a request do not come, or when what was sent is not read.

    The server's own timeouts cover idle connections only, and the gateway's a body that it reads.
    """

    read_s = 30.0
    write_s = 60.0
    _in_headers = True
    _in_body = False
    _slow: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    @classmethod
    def bounded(cls, limits: LimitConfig) -> type[Connection]:
        """The class with the times of a configuration: the server makes the objects."""
        return type(cls.__name__, (cls,), {"read_s": limits.read_s, "write_s": limits.write_s})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for the headers of the first request."""
        super().connection_made(transport)
        self._slow = self.loop.call_later(self.read_s, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the timers."""
        for timer in (self._slow, self._stalled):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads, and bounds what nobody else waits for."""
        super().data_received(data)
        # The gateway does not wait for the body of a request that it has answered already.
        unwatched = self._in_headers or (self._in_body and self.cycle.response_complete)
        # Most requests come in one piece, and need no timer.
        if unwatched and self._slow is None:
            self._slow = self.loop.call_later(self.read_s, self.transport.close)
        elif not unwatched and self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def on_message_begin(self) -> None:
        """Called by the parser with the first byte of a request."""
        self._in_headers = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Called by the parser after the last header."""
        self._in_headers, self._in_body = False, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Called by the parser after the body."""
        self._in_body = False
        super().on_message_complete()

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
