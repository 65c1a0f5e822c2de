"""Calls that have nothing to decide: embeddings, old completions, and counting tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from tutelage.runtime.errors import BadRequest, ModelError, TutelageError
from tutelage.runtime.gateway.alias import Alias, Upstream
from tutelage.runtime.gateway.answer_headers import forwarded_headers, returned_headers
from tutelage.runtime.gateway.call_options import read_options
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.gateway.exchange import EVENTS, JSON, ClientGone, Exchange, RawHeaders
from tutelage.runtime.gateway.parts import Parts
from tutelage.runtime.gateway.received_call import read_body
from tutelage.runtime.gateway.spending import Spending
from tutelage.runtime.gateway.splicing import WholeEvents, renamed, unambiguous, with_model, written
from tutelage.runtime.gateway.token_count import count_input_tokens
from tutelage.runtime.ids import new_id
from tutelage.runtime.models.fallback import is_for_another
from tutelage.runtime.models.sse import Event, EventParser
from tutelage.runtime.models.transport import Reply
from tutelage.runtime.types import Usage
from tutelage.runtime.wires.events import mid_stream_failure, read_event, write_event
from tutelage.runtime.wires.failure import failure_of
from tutelage.runtime.wires.fields import check_list, wrong
from tutelage.runtime.wires.protocol import Wire

_DONE = b"[DONE]"


@dataclass(frozen=True, slots=True)
class _Whole:
    reply: Reply
    content: bytes


@dataclass(frozen=True, slots=True)
class _Begun:
    """A stream of which the first events are there."""

    reply: Reply
    first: bytes
    rest: AsyncGenerator[bytes]


class RelayCall:
    """Passes one call on to the first upstream that speaks its wire.

    Args:
        parts: What to serve with.
        exchange: The call.
        caller: Who makes it.
        wire: The API it belongs to.
    """

    def __init__(self, parts: Parts, exchange: Exchange, caller: Caller, wire: Wire) -> None:
        self.id = new_id()
        self.alias: Alias | None = None
        self.upstream_s = 0.0
        self.broken: TutelageError | None = None
        """Why a stream that had begun broke off."""
        self._parts = parts
        self._exchange = exchange
        self._caller = caller
        self._wire = wire
        self._spending: Spending | None = None
        self._upstream: Upstream | None = None
        self._told = Usage()
        self._said = ""
        """The texts of all choices."""
        self._has_begun = False
        """Whether an event of a stream has been passed on."""

    async def serve(self, raw: bytes) -> None:
        """Answers the call.

        Raises:
            TutelageError: It failed before anything was sent.
        """
        body = read_body(raw, self._parts.settings.limits)
        alias = self.alias = self._parts.aliases.find(body.get("model"), self._caller)
        counting = self._exchange.path.endswith("_tokens")
        if counting and not (alias.mode == "passthrough" and alias.speaks(self._wire.name)):
            counted = count_input_tokens(body, self._wire.name, self._parts.count_tokens)
            await self._exchange.respond_json(200, counted)
            return
        usable = [one for one in alias.upstreams if self._wire.name in one.wires]
        if not usable:
            raise BadRequest(
                f"{self._exchange.path} is passed through, and the model {body['model']!r} has no "
                f"upstream that speaks it",
                param="model",
                code="unsupported_model",
            )
        if not counting:
            _check_asked(body, "input" if self._embeds else "prompt")
            await self._reserve(raw, body, alias)
        usage: Usage | None = None
        try:
            await self._relay(usable, raw, body)
            usage = self._metered()
        except (asyncio.CancelledError, ClientGone):
            # The endpoint may bill a call that was given up.
            usage = self._metered()
            raise
        finally:
            if self._spending is not None and self._spending.is_reserved:
                alias.runtime.supervise(self._spending.settle(None, usage))

    @property
    def _embeds(self) -> bool:
        return self._exchange.path.endswith("/embeddings")

    async def _reserve(self, raw: bytes, body: dict[str, Any], alias: Alias) -> None:
        options = read_options(self._exchange.headers, alias.mode)
        # Vectors are no tokens.
        limited = {**body, "max_tokens": 0} if self._embeds else body
        spending = Spending(self._parts.admission, self._caller, alias, raw, limited)
        await spending.reserve("passthrough", samples=0, ceiling_usd=options.max_cost_usd)
        self._spending = spending

    def _metered(self) -> Usage | None:
        if self._spending is None:
            return None
        self._spending.upstream = self._upstream
        return self._spending.metered(self._told, lambda: self._said)

    async def _relay(self, usable: list[Upstream], raw: bytes, body: dict[str, Any]) -> None:
        started_s = self._parts.timer()
        try:
            answer = await self._ask(usable, raw, body)
            headers = returned_headers(answer.reply.headers)
            if isinstance(answer, _Whole):
                status, content = answer.reply.status, answer.content
                await self._exchange.respond(status, content, [JSON, *headers])
            else:
                await self._stream(answer, headers)
        finally:
            self.upstream_s = self._parts.timer() - started_s

    async def _ask(
        self, usable: list[Upstream], raw: bytes, body: dict[str, Any]
    ) -> _Whole | _Begun:
        """The answer of the first upstream that gives one, or begins one."""
        for upstream in usable[:-1]:
            try:
                return await self._ask_one(upstream, raw, body)
            except ModelError as error:
                if not is_for_another(error):
                    raise
        return await self._ask_one(usable[-1], raw, body)

    async def _ask_one(
        self, upstream: Upstream, raw: bytes, body: dict[str, Any]
    ) -> _Whole | _Begun:
        assert upstream.transport is not None
        self._upstream, self._told, self._said = upstream, Usage(), ""
        path = self._exchange.path.removeprefix("/v1")
        query = self._exchange.query.decode("latin-1")
        raw = unambiguous(raw, body)
        if upstream.model_name is not None and self._is_step_model(path):
            raw = with_model(raw, body, upstream.model_name)
        reply = await upstream.transport.open(
            f"{path}?{query}" if query else path,
            raw,
            forwarded_headers(self._exchange.raw_headers, self._wire.name),
        )
        if reply.content_type == "text/event-stream":
            return await self._begin(reply, str(body["model"]))
        content = await reply.read()
        try:
            answer = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise reply.broken("sent something other than JSON, or part of it") from error
        if not isinstance(answer, dict):
            raise reply.broken("sent JSON that is no object")
        self._told, self._said = _usage(answer), _text(answer)
        if self._renames:
            content = orjson.dumps(renamed(answer, str(body["model"])))
        return _Whole(reply, content)

    async def _begin(self, reply: Reply, model: str) -> _Begun:
        """Waits for the first event: until then another upstream may take the call."""
        live = self._pieces(reply, model)
        try:
            return _Begun(reply, await anext(live), live)
        except BaseException:
            await live.aclose()
            raise

    async def _stream(self, answer: _Begun, headers: RawHeaders) -> None:
        """Passes a stream of the old completions API on, event by event."""
        exchange = self._exchange
        try:
            async with aclosing(answer.rest) as rest:
                await exchange.start(answer.reply.status, [*EVENTS, *headers])
                await exchange.write(answer.first)
                async for piece in rest:
                    await exchange.write(piece)
            await exchange.end()
        except ModelError as error:
            self.broken = error
            await exchange.end(write_event(self._wire.error(failure_of(error))))

    async def _pieces(self, reply: Reply, model: str) -> AsyncGenerator[bytes]:
        """What the client is sent: whole events, of which nothing is wrong.

        Raises:
            ModelError: The stream broke off, or an event is malformed.
        """
        parser, whole, held, is_done = EventParser(), WholeEvents(), b"", False
        async with aclosing(reply.pieces()) as pieces:
            async for piece in pieces:
                events = parser.feed(piece)
                out = [written(one, self._passed(one, model)) for one in events]
                is_done = is_done or any(one.data.startswith(_DONE) for one in events)
                passed = whole.feed(piece, ends_event=bool(events))
                held += b"".join(out) if self._renames else passed
                # A comment alone says nothing of what follows.
                if held and (events or self._has_begun):
                    self._has_begun = True
                    yield held
                    held = b""
        if not is_done:
            raise reply.broken("ended its stream before it was complete")

    def _passed(self, event: Event, model: str) -> bytes:
        """The data of an event as the client gets it, if there is nothing wrong with it."""
        if event.data.startswith(_DONE):
            return event.data
        chunk = read_event(event)
        if chunk.get("error"):
            raise mid_stream_failure(chunk)
        if chunk.get("usage"):
            self._told = _usage(chunk)
        self._said += _text(chunk)
        return orjson.dumps(renamed(chunk, model)) if self._renames else event.data

    @property
    def _renames(self) -> bool:
        """Whether the upstream's name of the model is not the one that the client knows."""
        upstream, path = self._upstream, self._exchange.path
        has_name = upstream is not None and upstream.model_name is not None
        return has_name and self._is_step_model(path) and not self._parts.settings.raw_model

    @staticmethod
    def _is_step_model(path: str) -> bool:
        # An embedding model is never the teacher, so its name goes through.
        return not path.endswith("/embeddings")


def _check_asked(body: Mapping[str, Any], name: str) -> None:
    """Refuses a call that asks for nothing; the rest is for the upstream to judge.

    Raises:
        BadRequest: It does; ``param`` is the field.
    """
    if not isinstance(body.get(name), str):
        items = check_list(body.get(name), name, empty=False)
        for position, item in enumerate(items):
            if not isinstance(item, str | int | list):
                raise wrong(f"{name}.{position}", item, "a string, or tokens")


def _usage(answer: dict[str, Any]) -> Usage:
    found = answer.get("usage")
    try:
        return Usage.from_wire(found if isinstance(found, dict) else None)
    except (TypeError, ValueError):
        return Usage()


def _text(answer: dict[str, Any]) -> str:
    """The texts of all choices of an answer or event."""
    choices = answer.get("choices")
    found = choices if isinstance(choices, list) else []
    return "".join(str(one.get("text") or "") for one in found if isinstance(one, dict))
