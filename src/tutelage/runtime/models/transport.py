"""HTTP to one model endpoint, whatever wire it speaks."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp
import orjson
from yarl import URL

from tutelage.runtime.errors import BadRequest, BadResponse, ConfigError, ModelError
from tutelage.runtime.models.attempts import attempted
from tutelage.runtime.models.breaker import Breaker
from tutelage.runtime.models.deadlines import Deadlines, Timeouts
from tutelage.runtime.models.failures import error_for, told_of
from tutelage.runtime.models.reply import Reply, masked_headers
from tutelage.runtime.models.retries import Retries, retry_after_s
from tutelage.runtime.secret import SHORTEST_REDACTED, Secret
from tutelage.version import __version__

__all__ = ["Reply", "Transport", "anthropic", "bearer", "checked_url"]

ANTHROPIC_VERSION = "2023-06-01"

_REMEMBERED_URLS = 64
_ERROR_BYTES = 1 << 20
_LARGE_BYTES = 1 << 20
# What a caller may not set: who we are to the endpoint, and what belongs to one connection.
_OWN_HEADERS = frozenset(
    {
        "authorization", "x-api-key", "api-key", "cookie", "proxy-authorization", "host",
        "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer",
        "upgrade", "expect", "accept-encoding",
    }
)  # fmt: skip
_TAILS = ("/chat/completions", "/responses", "/messages")


def bearer(secret: Secret | None) -> Mapping[str, str]:
    """Headers by which OpenAI-compatible endpoints know their caller."""
    return {} if secret is None else {"Authorization": f"Bearer {secret.reveal()}"}


def anthropic(secret: Secret | None) -> Mapping[str, str]:
    """Headers by which Anthropic-compatible endpoints know their caller."""
    key = {} if secret is None else {"x-api-key": secret.reveal()}
    return {**key, "anthropic-version": ANTHROPIC_VERSION}


class Transport:
    """Connections to one endpoint: deadlines, retries before the first byte, and a breaker.

    Args:
        base_url: For example ``https://api.openai.com/v1``; paths of calls are added to it.
        headers: Headers of every call, or how they are made from the secret.
        secret: The key of the endpoint; never shown in an error or a log.
        timeouts: Deadlines of a call.
        retries: How often and when a failed call is made again.
        breaker: Leaves the endpoint alone when it keeps failing; absent: it is always asked.
        name: What clients are told the endpoint is called; absent: errors have no text for them.
        clock: A monotonic clock, seconds.
        wall_clock: Unix time, seconds; read only for a ``Retry-After`` date.
        sleep: Waits between attempts.
        random: Source of the jitter.

    Raises:
        ConfigError: ``base_url`` is not usable.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | Callable[[Secret | None], Mapping[str, str]] = bearer,
        secret: Secret | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        retries: Retries = Retries(),  # noqa: B008 - frozen
        breaker: Breaker | None = None,
        name: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Random | None = None,
    ) -> None:
        self.base_url = checked_url(base_url)
        self.breaker = breaker
        self._name = name
        self._headers = headers
        self._secret = secret
        self._secret_bytes = secret.reveal().encode() if secret is not None else b""
        self._timeouts = timeouts
        self._retries = retries
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._random = random or Random()
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}
        self._urls: dict[str, URL] = {}
        self.in_flight = 0
        """Calls that wait for an answer or whose answer is being read."""

    async def open(
        self,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] = {},
        *,
        method: str = "POST",
        retries: Retries | None = None,
    ) -> Reply:
        """Makes a call; returns when the first piece of an answer with a 2xx status is there.

        Calls are made again, within the retries and the total deadline, after 429, 5xx, timeouts
        and failed connections, and only as long as no byte of an answer has arrived.

        Args:
            path: Below ``base_url``, with a query if need be; for example ``/chat/completions``.
            body: JSON, or nothing.
            headers: More headers; those that carry keys or belong to a connection are left out.
            method: HTTP method.
            retries: Instead of those of the transport.

        Raises:
            BadRequest: The path leads out of the endpoint.
            ModelError: The endpoint failed.
        """
        if not path.startswith("/") or "/." in path:
            raise BadRequest(f"the path {path!r} does not exist", code="not_found")
        url, sent = self._url(path), self._sent(headers, body)
        deadlines = Deadlines(self.base_url, self._timeouts, self._clock)
        self.in_flight += 1
        try:
            reply = await attempted(
                lambda: self._attempt(method, url, body, sent, deadlines),
                retries=retries or self._retries,
                deadlines=deadlines,
                random=self._random,
                sleep=self._sleep,
                breaker=self.breaker,
            )
        except BaseException as error:
            self.in_flight -= 1
            if isinstance(error, ModelError) and self._name is not None:
                error.told = told_of(error, self._name)
            raise
        reply.on_close = self._closed
        return reply

    def _closed(self) -> None:
        self.in_flight -= 1

    async def aclose(self) -> None:
        """Closes this loop's connections; the next call opens new ones."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()
        await self._forget_ended_loops()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"Transport({self.base_url!r})"

    def redacted(self, content: bytes) -> bytes:
        """What an endpoint wrote, without our key, which some echo."""
        if self._secret is None or self._secret_bytes not in content:
            return content
        text = content.decode(errors="surrogateescape")
        return self._secret.redact(text).encode(errors="surrogateescape")

    def _unfinished(self, content: bytes) -> int:
        """How many bytes at the end of a piece of an answer may be the beginning of our key."""
        key = self._secret_bytes
        if content[-1:] not in key or len(key) < SHORTEST_REDACTED:
            return 0
        longest = min(len(key) - 1, len(content))
        return next((n for n in range(longest, 0, -1) if content.endswith(key[:n])), 0)

    def _url(self, path: str) -> URL:
        """The address of a call; parsing one costs as much as half a call."""
        url = self._urls.get(path)
        if url is None:
            url = URL(f"{self.base_url}{path}", encoded=True)
            if len(self._urls) < _REMEMBERED_URLS:
                self._urls[path] = url
        return url

    def _sent(self, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """The headers of a call, names in lower case: ours, the caller's, then who we are."""
        own = self._headers(self._secret) if callable(self._headers) else self._headers
        sent = {"user-agent": f"tutelage/{__version__}", "accept-encoding": "identity"}
        if body:
            sent["content-type"] = "application/json"
        sent.update((name.lower(), value) for name, value in own.items())
        for name, value in headers.items():
            lower = name.lower()
            if lower not in _OWN_HEADERS:
                sent[lower] = value
        return sent

    async def _attempt(
        self, method: str, url: URL, body: bytes, headers: dict[str, str], deadlines: Deadlines
    ) -> Reply:
        response: aiohttp.ClientResponse | None = None
        handed_over = False
        try:
            with deadlines.first_byte():
                session = await self._live_session()
                response = await session.request(
                    method, url, data=_as_data(body), headers=headers, allow_redirects=False
                )
                if 200 <= response.status < 300:
                    piece = await response.content.readany()
                    handed_over = True
                    return Reply(
                        self.base_url,
                        response,
                        piece,
                        deadlines,
                        self.redacted,
                        self.breaker,
                        self._unfinished,
                        self._name,
                    )
                raise self._failure(response, await _at_most(response, _ERROR_BYTES))
        except aiohttp.ConnectionTimeoutError as error:
            raise deadlines.passed("connect_s") from error
        except aiohttp.ClientConnectorError as error:
            raise ModelError(
                f"cannot connect to {self.base_url} ({_why(error)}): "
                "start the endpoint, or correct base_url"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise BadResponse(
                f"{self.base_url} broke the connection before it answered "
                f"({type(error).__name__}): check the endpoint's log"
            ) from error
        finally:
            if response is not None and not handed_over:
                response.close()

    def _failure(self, response: aiohttp.ClientResponse, content: bytes) -> ModelError:
        raw = self.redacted(content)
        try:
            body: object = orjson.loads(raw)
        except orjson.JSONDecodeError:
            # An HTML page of a proxy: of no use to a client, so it is no error object.
            body = None
        asked_s = retry_after_s(response.headers, self._wall_clock())
        error = error_for(self.base_url, response.status, body, retry_after_s=asked_s)
        error.raw = raw
        error.headers = masked_headers(response.headers, self.redacted)
        return error

    async def _live_session(self) -> aiohttp.ClientSession:
        """The session of the running loop, made at first use."""
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            await self._forget_ended_loops()
            session = self._sessions[loop] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=self._timeouts.connect_s, ceil_threshold=86_400
                ),
            )
        return session

    async def _forget_ended_loops(self) -> None:
        """Drops sessions of loops that are gone, such as that of an earlier ``asyncio.run``."""
        for loop in [loop for loop in self._sessions if loop.is_closed()]:
            await self._sessions.pop(loop).close()


def _as_data(body: bytes) -> bytes | io.BytesIO | None:
    """The body as aiohttp sends it without complaint: in parts, where it is large."""
    return io.BytesIO(body) if len(body) > _LARGE_BYTES else body or None


def _why(error: aiohttp.ClientConnectorError) -> str:
    """Why there is no connection, without the address: it stands in the base URL."""
    cause = error.os_error
    if isinstance(cause, ssl.SSLError):
        return type(cause).__name__
    if isinstance(cause, socket.gaierror) or not cause.errno:
        return cause.strerror or type(cause).__name__
    return os.strerror(cause.errno)


async def _at_most(response: aiohttp.ClientResponse, size: int) -> bytes:
    """The body of an error, cut off where it is absurdly long."""
    pieces: list[bytes] = []
    while size > 0 and (piece := await response.content.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def checked_url(base_url: str) -> str:
    """The address without a trailing slash or the path of a wire.

    Raises:
        ConfigError: It is no http address, or carries what does not belong there.
    """
    try:
        parts = urlsplit(base_url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError as error:
        raise ConfigError(f"base_url = {base_url!r}: {error}") from error
    if parts.username or parts.password:
        raise ConfigError(
            f"base_url of {parts.hostname} carries a user name or password: pass them as api_key"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise ConfigError(
            f"base_url = {base_url!r}: give an address such as http://127.0.0.1:8000/v1"
        )
    if parts.query or parts.fragment:
        raise ConfigError(f"base_url = {base_url!r}: leave out what follows the path")
    path = parts.path.rstrip("/")
    for tail in _TAILS:
        path = path.removesuffix(tail)
    return f"{parts.scheme}://{parts.netloc}{path}"
