"""A model behind any endpoint that speaks the OpenAI chat completions API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from random import Random
from typing import Any

import orjson

from tutelage.runtime.errors import BadRequest, BadResponse
from tutelage.runtime.models.answers import completion_from
from tutelage.runtime.models.breaker import Breaker
from tutelage.runtime.models.deadlines import Timeouts
from tutelage.runtime.models.failures import error_object
from tutelage.runtime.models.fields import only_public
from tutelage.runtime.models.output_limit import OutputLimit, with_limit
from tutelage.runtime.models.retries import Retries
from tutelage.runtime.models.sse import EventParser
from tutelage.runtime.models.transport import Reply, Transport
from tutelage.runtime.models.wire_model import WireModel
from tutelage.runtime.secret import Secret
from tutelage.runtime.types import ChatRequest, Completion
from tutelage.runtime.wires.chat import ChatWire
from tutelage.runtime.wires.native import plain

__all__ = ["OpenAIModel", "Retries", "Timeouts"]

PATH = "/chat/completions"


class OpenAIModel(WireModel):
    """A chat model at an OpenAI-compatible endpoint.

    Calls are made again, within ``retries`` and the total deadline, after 429, 5xx, timeouts and
    failed connections, and only as long as no byte of an answer has arrived.

    Args:
        base_url: For example ``https://api.openai.com/v1``; ``/chat/completions`` is added.
        model: The endpoint's own name of the model; takes the place of the alias in a request.
        api_key: Sent as a bearer token; never shown in an error or a log.
        timeouts: Deadlines of a call.
        retries: How often and when a failed call is made again.
        extra_body: Fields set in every call, over the request's own.
        allowed_fields: The fields of a request that are passed on; absent: all.
        max_n: Largest ``n`` the endpoint takes; more samples are drawn by several calls at once.
        output_limit: The field that limits an answer; absent: OpenAI's own at its addresses,
            elsewhere the one that the request has.
        breaker: Leaves the endpoint alone when it keeps failing; absent: it is always asked.
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
        allowed_fields: frozenset[str] | None = None,
        max_n: int | None = None,
        output_limit: OutputLimit | None = None,
        breaker: Breaker | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Random | None = None,
    ) -> None:
        transport = Transport(
            base_url,
            secret=api_key,
            timeouts=timeouts,
            retries=retries,
            breaker=breaker,
            clock=clock,
            wall_clock=wall_clock,
            sleep=sleep,
            random=random,
        )
        super().__init__(
            transport,
            ChatWire(),
            model,
            max_n=max_n,
            extra_body=extra_body,
            allowed_fields=allowed_fields,
            output_limit=output_limit,
        )
        self.base_url = transport.base_url

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
        body = self._chat_body(request, stream=True, stream_options=options)
        reply = await self.transport.open(PATH, body)
        parser = EventParser()
        try:
            while piece := await reply.piece():
                for event in parser.feed(piece):
                    if event.data.startswith(b"[DONE]"):
                        await reply.drain()
                        return
                    yield self._chunk(event.data, reply)
            raise reply.broken("ended its stream without [DONE]")
        finally:
            reply.close()

    def __repr__(self) -> str:
        return f"OpenAIModel({self.base_url!r}, {self.model!r})"

    async def _sample(self, request: ChatRequest, n: int | None) -> Completion:
        body = self._chat_body(request, n=n, stream=None, stream_options=None)
        reply = await self.transport.open(PATH, body)
        return self._completion(await reply.read(), reply)

    def _chat_body(self, request: ChatRequest, **fields: Any) -> bytes:
        """The JSON body: the request's own fields, then the endpoint's, then ``fields``."""
        asked = plain(request).wire()
        if self._allowed_fields is not None:
            asked = only_public(asked, self._allowed_fields)
        asked = with_limit(asked, self._output_limit)
        body = {**asked, **self._extra_body, "model": self.model, **fields}
        for name in [name for name, value in fields.items() if value is None]:
            del body[name]
        try:
            return orjson.dumps(body)
        except TypeError as error:
            raise BadRequest(f"the request cannot be written as JSON: {error}") from error

    def _completion(self, content: bytes, reply: Reply) -> Completion:
        try:
            body = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise reply.broken("sent something other than JSON, or part of it") from error
        if isinstance(body, dict) and not body.get("choices"):
            body = orjson.loads(reply.redacted(content))
        return completion_from(body, self.base_url, self.model or "")

    def _chunk(self, data: bytes, reply: Reply) -> dict[str, Any]:
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise reply.broken("sent a stream chunk that is not JSON") from error
        if not isinstance(chunk, dict):
            raise reply.broken("sent a stream chunk that is not a JSON object")
        if chunk.get("error"):
            body = error_object(orjson.loads(reply.redacted(data)))
            message = (body or {}).get("message")
            raise BadResponse(f"{self.base_url} failed in mid-stream: {message}", body=body)
        return chunk
