"""An endpoint's answer, read while it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress

import aiohttp
import orjson
from multidict import CIMultiDict

from tutelage.runtime.errors import BadResponse, ModelError
from tutelage.runtime.models.breaker import Breaker
from tutelage.runtime.models.deadlines import Deadlines
from tutelage.runtime.models.failures import told_of

# How long to wait, after an answer has said that it is complete, for the end of the body that lets
# the connection be used again.
_DRAIN_S = 0.1


class Reply:
    """An answer with a 2xx status whose first piece is there; close it, read to its end or not.

    A reply that is closed before its end takes its connection with it, so that what is left of it
    never reaches another call.

    Args:
        endpoint: What errors call the endpoint.
        response: The answer.
        piece: What has arrived of its body.
        deadlines: Those of the call.
        redacted: Masks our key in what the endpoint wrote.
        breaker: Is told how the answer ended.
        unfinished: How many bytes at the end of a piece may be the beginning of our key.
        name: What clients are told the endpoint is called.

    Attributes:
        status: HTTP status.
        headers: Looked up case-insensitively.
    """

    def __init__(
        self,
        endpoint: str,
        response: aiohttp.ClientResponse,
        piece: bytes,
        deadlines: Deadlines,
        redacted: Callable[[bytes], bytes],
        breaker: Breaker | None = None,
        unfinished: Callable[[bytes], int] = lambda _: 0,
        name: str | None = None,
    ) -> None:
        self.status = response.status
        self.headers = masked_headers(response.headers, redacted)
        self.redacted = redacted
        self._endpoint = endpoint
        self._name = name
        self._response = response
        self._first: bytes | None = piece
        self._unfinished = unfinished
        self._held = b""
        self._silence = _Silence(response.content, deadlines)
        self._breaker = breaker
        self.on_close: Callable[[], None] | None = None
        """Called once, when the reply is closed."""

    @property
    def content_type(self) -> str:
        """The media type without its parameters, such as ``text/event-stream``."""
        return self._response.content_type

    async def piece(self) -> bytes:
        """What has arrived of the body since the last call, unbuffered; empty at its end.

        Our key is masked in it; what may be its beginning waits for the next piece.

        Raises:
            ModelError: The body broke off, or a deadline passed.
        """
        while True:
            arrived = await self._arrived()
            content = self.redacted(self._held + arrived)
            held = self._unfinished(content) if arrived else 0
            passed = len(content) - held
            self._held = content[passed:]
            if passed or not arrived:
                return content[:passed] if held else content

    async def _arrived(self) -> bytes:
        if self._first is not None:
            piece, self._first = self._first, None
            return piece
        content = self._response.content
        try:
            arrived = content.read_nowait(-1)
            if arrived or content.at_eof():
                return arrived
            with self._silence:
                return await content.readany()
        except ModelError as error:
            self._settle(succeeded=False)
            if self._name is not None:
                error.told = told_of(error, self._name)
            raise
        except (aiohttp.ClientError, OSError) as error:
            self._settle(succeeded=False)
            raise self.broken("broke off in the middle of its answer") from error

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The body as it arrives, then closes.

        Raises:
            ModelError: The body broke off, or a deadline passed.
        """
        try:
            while piece := await self.piece():
                yield piece
        finally:
            self.close()

    async def read(self) -> bytes:
        """The rest of the body, then closes.

        Raises:
            ModelError: The body broke off, or a deadline passed.
        """
        return b"".join([piece async for piece in self.pieces()])

    async def drain(self) -> None:
        """Reads on, but not for long, when the answer is complete and only its end is missing."""
        with suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(_DRAIN_S):
                while await self._response.content.readany():
                    pass

    def close(self) -> None:
        """Gives the connection back if the body was read to its end, else ends it."""
        self._settle(succeeded=True)
        self._silence.end()
        self._response.close()
        closed, self.on_close = self.on_close, None
        if closed is not None:
            closed()

    def broken(self, what: str) -> BadResponse:
        """The error for an answer that is wrong, for example ``"sent no JSON"``."""
        error = BadResponse(
            f"{self._endpoint} {what} ({self.content_type}): check the endpoint's log",
            status=self.status,
        )
        return self._with_told(error, f" {what}")

    def named(self, error: BadResponse) -> BadResponse:
        """An error of a wire, which knows neither the endpoint nor its key."""
        body = error.body and orjson.loads(self.redacted(orjson.dumps(error.body)))
        told = self.redacted(str(error).encode()).decode()
        named = BadResponse(
            f"{self._endpoint}: {told}", status=error.status or self.status, body=body
        )
        what = told.removeprefix("the endpoint")
        return self._with_told(named, what if what != told else f": {told}")

    def _with_told(self, error: BadResponse, what: str) -> BadResponse:
        if self._name is not None:
            error.told = f"upstream {self._name}{what}"
        return error

    def _settle(self, *, succeeded: bool) -> None:
        """Tells the breaker, once, how the answer ended."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None and succeeded:
            breaker.succeeded()
        elif breaker is not None:
            breaker.failed()


def masked_headers(
    headers: Mapping[str, str], redacted: Callable[[bytes], bytes]
) -> Mapping[str, str]:
    """Headers of an endpoint without our key, looked up case-insensitively.

    Args:
        headers: As they came.
        redacted: Masks our key.
    """
    whole = "\n".join(headers.values()).encode(errors="surrogateescape")
    if redacted(whole) is whole:
        return headers
    return CIMultiDict(
        (name, redacted(value.encode(errors="surrogateescape")).decode(errors="replace"))
        for name, value in headers.items()
    )


class _Silence:
    """Breaks off waits that last too long.

    One timer serves many waits: it is moved on only when it fires, since a stream has a wait for
    every piece and timers cost more than reading does.
    """

    def __init__(self, content: aiohttp.StreamReader, deadlines: Deadlines) -> None:
        self._content = content
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._limit = ""
        self._due_s: float | None = None

    def __enter__(self) -> None:
        self._limit, limit_s = self._deadlines.idle_limit()
        self._due_s = self._loop.time() + limit_s
        if self._timer is None:
            self._timer = self._loop.call_at(self._due_s, self._look)

    def __exit__(self, *_: object) -> None:
        self._due_s = None

    def end(self) -> None:
        """Forgets the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._due_s is None:
            return
        if self._loop.time() < self._due_s:
            self._timer = self._loop.call_at(self._due_s, self._look)
        else:
            self._content.set_exception(self._deadlines.passed(self._limit))
