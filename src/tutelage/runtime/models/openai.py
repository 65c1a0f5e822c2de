"""A model behind any endpoint that speaks the OpenAI chat completions API."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import orjson

from tutelage.runtime.errors import BadRequest, BadResponse, ConfigError, ModelError
from tutelage.runtime.models.answers import completion_from
from tutelage.runtime.models.deadlines import Deadlines, Timeouts
from tutelage.runtime.models.failures import error_for, error_object, is_transient
from tutelage.runtime.models.retries import Retries, retry_after_s
from tutelage.runtime.models.sampling import in_batches
from tutelage.runtime.models.sse import EventParser
from tutelage.runtime.secret import Secret
from tutelage.runtime.types import ChatRequest, Completion
from tutelage.version import __version__

__all__ = ["OpenAIModel", "Retries", "Timeouts"]

logger = logging.getLogger(__name__)

# How long to wait, after [DONE], for the end of the body that lets the connection be used again.
_DRAIN_S = 0.1


class OpenAIModel:
    """A chat model at an OpenAI-compatible endpoint, spoken to with aiohttp.

    Calls are made again, within ``retries`` and the total deadline, after 429, 5xx, timeouts and
    failed connections, and only as long as no byte of an answer has arrived.

    Args:
        base_url: For example ``https://api.openai.com/v1``; ``/chat/completions`` is added.
        model: The endpoint's own name of the model; takes the place of the alias in a request.
        api_key: Sent as a bearer token; never shown in an error or a log.
        timeouts: Deadlines of a call.
        retries: How often and when a failed call is made again.
        extra_body: Fields set in every call, over the request's own.
        max_n: Largest ``n`` the endpoint takes; more samples are drawn by several calls at once.
        clock: A monotonic clock, seconds.
        wall_clock: Unix time, seconds; read only for a ``Retry-After`` date.
        sleep: Waits between attempts.
        random: Source of the jitter.

    Raises:
        ConfigError: ``base_url``, ``model`` or ``max_n`` is not usable.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: Secret | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        retries: Retries = Retries(),  # noqa: B008 - frozen
        extra_body: Mapping[str, Any] | None = None,
        max_n: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Random | None = None,
    ) -> None:
        self.base_url = _checked_url(base_url)
        self.model = model.strip()
        if not self.model:
            raise ConfigError("model = '': give the endpoint's own name of the model")
        if max_n is not None and max_n < 1:
            raise ConfigError(f"max_n = {max_n}: give 1 or more, or leave it out")
        self._api_key = api_key
        self._timeouts = timeouts
        self._retries = retries
        self._extra_body = dict(extra_body or {})
        self._max_n = max_n
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._random = random or Random()
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """Samples ``n`` choices for one prompt; one call, or several if ``n`` is above ``max_n``.

        Raises:
            BadRequest: The request cannot be written as JSON.
            ModelError: The endpoint failed.
        """
        wanted = n if n > 1 else request.n or 1
        if self._max_n is not None and wanted > self._max_n:
            return await in_batches(self._sample, request, wanted, self._max_n)
        return await self._sample(request, wanted if wanted > 1 else request.n)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """Yields the chunks of a streamed answer.

        The last chunk carries the usage, unless the request sets ``stream_options.include_usage``
        otherwise.

        Raises:
            BadRequest: The request cannot be written as JSON.
            ModelError: The endpoint failed, or its stream broke off before ``[DONE]``.
        """
        asked = request.model_extra or {}
        options = {"include_usage": True, **(asked.get("stream_options") or {})}
        deadlines = Deadlines(self.base_url, self._timeouts, self._clock)
        body = self._body(request, stream=True, stream_options=options)
        response, piece = await self._open(body, deadlines)
        parser = EventParser()
        try:
            while piece:
                for event in parser.feed(piece):
                    if event.data.startswith(b"[DONE]"):
                        await _drain(response)
                        return
                    yield self._chunk(event.data, response)
                piece = await self._read(response, deadlines)
            raise self._broken("ended its stream without [DONE]", response)
        finally:
            response.close()

    async def aclose(self) -> None:
        """Closes this loop's connections; the model may be used again and then opens new ones."""
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
        return f"OpenAIModel({self.base_url!r}, {self.model!r})"

    async def _sample(self, request: ChatRequest, n: int | None) -> Completion:
        deadlines = Deadlines(self.base_url, self._timeouts, self._clock)
        body = self._body(request, n=n, stream=None, stream_options=None)
        response, piece = await self._open(body, deadlines)
        pieces: list[bytes] = []
        try:
            while piece:
                pieces.append(piece)
                piece = await self._read(response, deadlines)
        finally:
            response.close()
        return self._completion(b"".join(pieces), response)

    def _body(self, request: ChatRequest, **fields: Any) -> bytes:
        """The JSON body: the request's own fields, then the endpoint's, then ``fields``."""
        body = {**request.wire(), **self._extra_body, "model": self.model, **fields}
        for name in [name for name, value in fields.items() if value is None]:
            del body[name]
        try:
            return orjson.dumps(body)
        except TypeError as error:
            raise BadRequest(f"the request cannot be written as JSON: {error}") from error

    async def _open(
        self, body: bytes, deadlines: Deadlines
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """An answer with status 200 and the first piece of its body, retried where allowed."""
        failures = 0
        while True:
            try:
                return await self._attempt(body, deadlines)
            except ModelError as error:
                failures += 1
                if failures >= self._retries.attempts or not is_transient(error):
                    raise
                asked_s = getattr(error, "retry_after_s", None)
                delay_s = self._retries.delay_s(failures, self._random, asked_s)
                if delay_s >= deadlines.remaining_s:
                    raise
                logger.debug("attempt %d failed, next in %.2f s: %s", failures, delay_s, error)
            await self._sleep(delay_s)

    async def _attempt(
        self, body: bytes, deadlines: Deadlines
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        response: aiohttp.ClientResponse | None = None
        handed_over = False
        try:
            async with deadlines.first_byte():
                session = await self._live_session()
                response = await session.post(
                    f"{self.base_url}/chat/completions",
                    data=body,
                    headers=self._headers(),
                    allow_redirects=False,
                )
                if response.status == 200:
                    piece = await response.content.readany()
                    handed_over = True
                    return response, piece
                raise self._failure(response, await response.read())
        except aiohttp.ConnectionTimeoutError as error:
            raise deadlines.passed("connect_s") from error
        except aiohttp.ClientConnectorError as error:
            raise ModelError(
                f"cannot connect to {self.base_url} ({getattr(error, 'strerror', None) or error}): "
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

    async def _read(self, response: aiohttp.ClientResponse, deadlines: Deadlines) -> bytes:
        """More of the body; empty at its end."""
        try:
            async with deadlines.idle():
                return await response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise self._broken("broke off in the middle of its answer", response) from error

    def _failure(self, response: aiohttp.ClientResponse, content: bytes) -> ModelError:
        try:
            body: object = orjson.loads(self._redacted(content))
        except orjson.JSONDecodeError:
            # An HTML page of a proxy: of no use to a client, so it is not passed on.
            body = None
        asked_s = retry_after_s(response.headers, self._wall_clock())
        return error_for(self.base_url, response.status, body, retry_after_s=asked_s)

    def _completion(self, content: bytes, response: aiohttp.ClientResponse) -> Completion:
        try:
            body = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise self._broken("sent something other than JSON, or part of it", response) from error
        if isinstance(body, dict) and not body.get("choices"):
            body = orjson.loads(self._redacted(content))
        return completion_from(body, self.base_url, self.model)

    def _chunk(self, data: bytes, response: aiohttp.ClientResponse) -> dict[str, Any]:
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise self._broken("sent a stream chunk that is not JSON", response) from error
        if not isinstance(chunk, dict):
            raise self._broken("sent a stream chunk that is not a JSON object", response)
        if chunk.get("error"):
            body = error_object(orjson.loads(self._redacted(data)))
            message = (body or {}).get("message")
            raise BadResponse(f"{self.base_url} failed in mid-stream: {message}", body=body)
        return chunk

    def _broken(self, what: str, response: aiohttp.ClientResponse) -> BadResponse:
        return BadResponse(
            f"{self.base_url} {what} ({response.content_type}): check the endpoint's log",
            status=response.status,
        )

    def _redacted(self, content: bytes) -> bytes:
        """What an endpoint wrote, without our key, which some echo in their errors."""
        if self._api_key is None:
            return content
        text = content.decode(errors="surrogateescape")
        return self._api_key.redact(text).encode(errors="surrogateescape")

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": f"tutelage/{__version__}"}
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key.reveal()}"
        return headers

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


async def _drain(response: aiohttp.ClientResponse) -> None:
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(_DRAIN_S):
            while await response.content.readany():
                pass


def _checked_url(base_url: str) -> str:
    """The address without a trailing slash.

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
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc}{path}"
