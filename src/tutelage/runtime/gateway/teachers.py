"""Asks the teachers of an alias: in the client's own bytes where an upstream speaks its wire."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import orjson

from tutelage.runtime.chunks import Accumulator
from tutelage.runtime.errors import BadRequest, BadResponse, ModelError
from tutelage.runtime.gateway.alias import Alias, Upstream
from tutelage.runtime.gateway.answer_headers import forwarded_headers
from tutelage.runtime.gateway.exchange import Exchange
from tutelage.runtime.gateway.last_event import LastEvent
from tutelage.runtime.gateway.received_call import ReceivedCall
from tutelage.runtime.gateway.splicing import (
    WholeEvents,
    is_usage_only,
    renamed,
    unambiguous,
    with_model,
    with_usage,
    written,
)
from tutelage.runtime.models.failures import log_line
from tutelage.runtime.models.fallback import is_for_another
from tutelage.runtime.models.sse import EventParser
from tutelage.runtime.models.transport import Reply
from tutelage.runtime.types import ChatRequest, Completion
from tutelage.runtime.wires.protocol import Wire

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
_FINAL = frozenset({"response.completed", "response.incomplete"})


@dataclass(frozen=True, slots=True)
class Question:
    """What a client wants of the teacher."""

    wire: Wire
    model: str
    """The model that the client asked for."""
    raw: bytes
    """The client's body."""
    body: Mapping[str, Any]
    """The same, decoded."""
    path: str
    """Of the call below the upstream's address, with the client's query."""
    headers: Mapping[str, str]
    """Headers of the client that are passed on."""
    native_only: str | None = None
    """What only an upstream of the same wire understands."""
    keep_model: bool = False
    """Whether answers keep the upstream's own name of the model."""
    meter: bool = True
    """Whether a stream is asked for its usage although the client did not."""
    answer_id: str | None = None
    """Takes the place of the upstream's own id of a response that is kept here."""
    previous_id: str | None = None
    """The response kept here that the call goes on from; the upstream does not know it."""
    tells_facts: bool = False
    """Whether the end of a stream carries our facts, so that its events are not all passed on
    before they are known."""


def question_of(
    call: ReceivedCall,
    exchange: Exchange,
    wire: Wire,
    *,
    native_only: str | None,
    keep_model: bool,
    meter: bool,
    answer_id: str | None,
) -> Question:
    """What a call asks of the teacher of a step; the arguments are as in ``Question``."""
    query = exchange.query.decode("latin-1")
    return Question(
        wire=wire,
        model=str(call.body["model"]),
        raw=call.raw,
        body=call.relayed_body,
        path=f"{wire.path}?{query}" if query else wire.path,
        headers=forwarded_headers(exchange.raw_headers, wire.name),
        native_only=native_only,
        keep_model=keep_model,
        meter=meter,
        answer_id=answer_id,
        previous_id=call.previous_id,
        tells_facts=True,
    )


class _Taught(Protocol):
    """What a teacher gave, and which one."""

    @property
    def upstream(self) -> Upstream: ...


Taught = TypeVar("Taught", bound=_Taught)


@dataclass(frozen=True, slots=True)
class NativeAnswer:
    """An upstream's answer in the client's own wire, to be passed on as it is."""

    upstream: Upstream
    status: int
    headers: Mapping[str, str]
    content: bytes
    completion: Completion


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """An upstream's answer to the chat request that the client's call amounts to."""

    upstream: Upstream
    completion: Completion


class NativeStream:
    """An upstream's stream in the client's own wire, checked event by event as it passes.

    Args:
        upstream: Who sends it.
        reply: The open answer.
        question: What was asked.
        drop_usage: Whether the usage is for us and not for the client.
    """

    def __init__(
        self, upstream: Upstream, reply: Reply, question: Question, *, drop_usage: bool
    ) -> None:
        self.upstream = upstream
        self.headers = reply.headers
        self.accumulator = Accumulator()
        self._reply = reply
        self._decoder = question.wire.decoder()
        own = upstream.model_name
        rename = own is not None and own != question.model and not question.keep_model
        self._rename_to = question.model if rename else None
        self._answer_id = question.answer_id
        self._previous_id = question.previous_id
        self._drop_usage = drop_usage
        self.final: dict[str, Any] | None = None
        """The whole answer, where the wire ends with it and it is kept here."""
        self._last = LastEvent(question.wire.name) if question.tells_facts else None
        self._begun: list[bytes] = []
        self._live = self._passed()

    def end(self, facts: Mapping[str, Any]) -> bytes:
        """What was held back to carry our facts, after ``pieces`` has ended well."""
        return self._last.end(facts) if self._last else b""

    async def begin(self) -> None:
        """Waits until something is said: until then another upstream may take the call.

        Raises:
            ModelError: The stream broke off before, or its first event is malformed.
        """
        try:
            while not self.accumulator.has_choice:
                self._begun.append(await anext(self._live, b""))
        except BaseException:
            await self._live.aclose()
            raise

    async def pieces(self) -> AsyncGenerator[bytes]:
        """What the client is sent: whole events, so that our own can follow any of them.

        Raises:
            ModelError: The stream broke off, or an event is malformed; it is not passed on.
        """
        async with aclosing(self._live) as live:
            if self._begun:
                yield b"".join(self._begun)
            async for piece in live:
                yield piece

    async def _passed(self) -> AsyncGenerator[bytes]:
        rewrites = self._drop_usage or self._changes or self._last is not None
        parser, decoder, add = EventParser(), self._decoder, self.accumulator.add
        whole = WholeEvents()
        async with aclosing(self._reply.pieces()) as pieces:
            async for piece in pieces:
                out: list[bytes] = []
                events = parser.feed(piece)
                for event in events:
                    try:
                        chunks = decoder.feed(event)
                    except BadResponse as error:
                        raise self._reply.named(error) from error
                    for chunk in chunks:
                        add(chunk)
                    if rewrites and not (self._drop_usage and any(map(is_usage_only, chunks))):
                        data = self._renamed(event.data)
                        last = self._last
                        out.append(last.feed(event, data, chunks) if last else written(event, data))
                passed = b"".join(out) if rewrites else whole.feed(piece, ends_event=bool(events))
                if passed:
                    yield passed
        if not decoder.done:
            raise self._reply.broken("ended its stream before it was complete")
        if not self.accumulator.has_choice:
            raise self._reply.broken("streamed no choices")
        if whole.rest:
            yield whole.rest

    @property
    def _changes(self) -> bool:
        return bool(self._rename_to or self._answer_id or self._previous_id)

    def _renamed(self, data: bytes) -> bytes:
        if not self._changes or not data.startswith(b"{"):
            return data
        event = renamed(orjson.loads(data), self._rename_to, self._answer_id, self._previous_id)
        if event.get("type") in _FINAL:
            self.final = event.get("response")
        return orjson.dumps(event)


class ChatStream:
    """An upstream's stream of chat chunks, whose first chunk is there.

    Args:
        upstream: Who sends it.
        first: The first chunk.
        rest: The others.
        model: What chunks say the model is.
    """

    def __init__(
        self,
        upstream: Upstream,
        first: dict[str, Any],
        rest: AsyncGenerator[dict[str, Any]],
        model: str,
    ) -> None:
        self.upstream = upstream
        self.accumulator = Accumulator()
        self._first = first
        self._rest = rest
        self._model = model

    async def chunks(self) -> AsyncGenerator[dict[str, Any]]:
        """All chunks.

        Raises:
            ModelError: The stream broke off.
        """
        async with aclosing(self._rest) as rest:
            self.accumulator.add(self._first)
            yield {**self._first, "model": self._model}
            async for chunk in rest:
                self.accumulator.add(chunk)
                yield {**chunk, "model": self._model}


async def ask(alias: Alias, question: Question, request: ChatRequest) -> NativeAnswer | ChatAnswer:
    """The teacher's whole answer, by the first upstream that can give one.

    Raises:
        BadRequest: No upstream understands what the call needs.
        ModelError: All failed, or one refused the request.
    """

    async def attempt(upstream: Upstream) -> NativeAnswer | ChatAnswer:
        if not _is_native(upstream, question):
            completion = await upstream.model.complete(request, request.n or 1)
            name = completion.model if question.keep_model else question.model
            return ChatAnswer(upstream, completion.model_copy(update={"model": name}))
        reply = await _open(upstream, question, _native_body(upstream, question))
        content = await reply.read()
        try:
            body = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise reply.broken("sent something other than JSON, or part of it") from error
        if not isinstance(body, dict):
            raise reply.broken("sent JSON that is no object")
        try:
            completion = question.wire.completion(body)
        except BadResponse as error:
            raise reply.named(error) from error
        own = upstream.model_name
        rename = own is not None and own != question.model and not question.keep_model
        if rename or question.answer_id or question.previous_id:
            model = question.model if rename else None
            changed = renamed(body, model, question.answer_id, question.previous_id)
            content = orjson.dumps(changed)
        return NativeAnswer(upstream, reply.status, reply.headers, content, completion)

    return await _first(alias, question, attempt)


async def ask_live(
    alias: Alias, question: Question, request: ChatRequest
) -> NativeStream | ChatStream:
    """The teacher's stream, by the first upstream that begins one.

    Raises:
        BadRequest: No upstream understands what the call needs.
        ModelError: All failed before they said anything, or one refused the request.
    """

    async def attempt(upstream: Upstream) -> NativeStream | ChatStream:
        if not _is_native(upstream, question):
            chunks = upstream.model.stream(request)
            try:
                first = await anext(chunks)
            except StopAsyncIteration:
                raise ModelError(f"{upstream.name} ended its stream before it began") from None
            except BaseException:
                await chunks.aclose()
                raise
            shown = str(first.get("model")) if question.keep_model else question.model
            return ChatStream(upstream, first, chunks, shown)
        raw = _native_body(upstream, question)
        inject = question.meter and question.wire.name == "chat" and not _asks_usage(question.body)
        if inject:
            raw = with_usage(raw, orjson.loads(raw))
        reply = await _open(upstream, question, raw)
        stream = NativeStream(upstream, reply, question, drop_usage=inject)
        await stream.begin()
        return stream

    return await _first(alias, question, attempt)


async def _first(
    alias: Alias, question: Question, attempt: Callable[[Upstream], Awaitable[Result]]
) -> Result:
    """The result of the first upstream that does not fail in a way that another might not."""
    usable = [
        upstream
        for upstream in alias.upstreams
        if question.native_only is None or _is_native(upstream, question)
    ]
    if not usable:
        raise BadRequest(
            f"{question.native_only} needs an upstream that speaks this API, and "
            f"{question.model!r} has none",
            param=question.native_only,
            code="unsupported_parameter",
        )
    for upstream in usable[:-1]:
        try:
            return await attempt(upstream)
        except ModelError as error:
            if not is_for_another(error):
                raise
            told = log_line(error)
            logger.warning("upstream %s failed, the next one is asked: %s", upstream.name, told)
            logger.debug("what failed: %s", error)
    return await attempt(usable[-1])


def _is_native(upstream: Upstream, question: Question) -> bool:
    return upstream.transport is not None and question.wire.name in upstream.wires


def _native_body(upstream: Upstream, question: Question) -> bytes:
    name = upstream.model_name
    raw = unambiguous(question.raw, question.body)
    if name is None or name == question.model:
        return raw
    return with_model(raw, question.body, name)


async def _open(upstream: Upstream, question: Question, raw: bytes) -> Reply:
    assert upstream.transport is not None
    return await upstream.transport.open(question.path, raw, question.headers)


def _asks_usage(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, Mapping) and bool(options.get("include_usage"))
