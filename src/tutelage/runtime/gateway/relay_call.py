"""Calls that have nothing to decide: embeddings, old completions, and counting tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import orjson

from tutelage.runtime.errors import BadRequest, ModelError, TutelageError
from tutelage.runtime.gateway.admission import Reservation
from tutelage.runtime.gateway.alias import Alias, Upstream
from tutelage.runtime.gateway.answer_headers import forwarded_headers, returned_headers
from tutelage.runtime.gateway.call_options import read_options
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.gateway.estimate import estimate
from tutelage.runtime.gateway.exchange import EVENTS, JSON, ClientGone, Exchange, RawHeaders
from tutelage.runtime.gateway.limits import check_depth, check_shape
from tutelage.runtime.gateway.parts import Parts
from tutelage.runtime.gateway.splicing import WholeEvents, renamed, unambiguous, with_model, written
from tutelage.runtime.gateway.token_count import count_input_tokens
from tutelage.runtime.ids import new_id
from tutelage.runtime.models.fallback import is_for_another
from tutelage.runtime.models.fields import reject_routing_fields
from tutelage.runtime.models.sse import Event, EventParser
from tutelage.runtime.models.transport import Reply
from tutelage.runtime.types import Usage
from tutelage.runtime.wires.events import mid_stream_failure, read_event, write_event
from tutelage.runtime.wires.failure import failure_of
from tutelage.runtime.wires.fields import check_list, wrong
from tutelage.runtime.wires.protocol import Wire

_DONE = b"[DONE]"


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
        self._reservation: Reservation | None = None
        self._spent = Usage()
        self._upstream: Upstream | None = None

    async def serve(self, raw: bytes) -> None:
        """Answers the call.

        Raises:
            TutelageError: It failed before anything was sent.
        """
        check_depth(raw, self._parts.settings.limits.depth)
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"the body is not JSON: {error}", code="invalid_json") from None
        check_shape(body, self._parts.settings.limits)
        reject_routing_fields(body)
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
        try:
            await self._relay(usable, raw, body)
        except (asyncio.CancelledError, ClientGone):
            if not self._spent.prompt_tokens:
                # The endpoint may bill a call that was given up.
                self._spent = Usage(input_tokens=self._parts.count_tokens(_prompt(body)))
            raise
        finally:
            if self._reservation is not None:
                alias.runtime.supervise(self._settle(alias, str(body["model"])))

    @property
    def _embeds(self) -> bool:
        return self._exchange.path.endswith("/embeddings")

    async def _reserve(self, raw: bytes, body: dict[str, Any], alias: Alias) -> None:
        ceiling = read_options(self._exchange.headers, alias.mode).max_cost_usd
        if not self._caller.is_limited and ceiling is None:
            return
        limited = {**body, "max_tokens": 0} if self._embeds else body
        found = estimate(raw, limited, alias, "passthrough", samples=0)
        if ceiling is not None and found.cost_usd > ceiling:
            raise BadRequest(
                f"the request may cost ${found.cost_usd:.6f}, more than {ceiling:g}",
                param="x-tutelage-max-cost-usd",
                code="max_cost_exceeded",
            )
        self._reservation = await self._parts.admission.admit(
            self._caller, estimate_usd=found.cost_usd, estimate_tokens=found.tokens
        )

    async def _relay(self, usable: list[Upstream], raw: bytes, body: dict[str, Any]) -> None:
        started_s = self._parts.timer()
        try:
            reply, content = await self._ask(usable, raw, body)
            headers = returned_headers(reply.headers)
            if content is None:
                await self._stream(reply, headers, str(body["model"]))
            else:
                await self._exchange.respond(reply.status, content, [JSON, *headers])
        finally:
            self.upstream_s = self._parts.timer() - started_s

    async def _ask(
        self, usable: list[Upstream], raw: bytes, body: dict[str, Any]
    ) -> tuple[Reply, bytes | None]:
        """The answer of the first upstream that gives one; ``None``: it is a stream."""
        for upstream in usable[:-1]:
            try:
                return await self._ask_one(upstream, raw, body)
            except ModelError as error:
                if not is_for_another(error):
                    raise
        return await self._ask_one(usable[-1], raw, body)

    async def _ask_one(
        self, upstream: Upstream, raw: bytes, body: dict[str, Any]
    ) -> tuple[Reply, bytes | None]:
        assert upstream.transport is not None
        self._upstream = upstream
        path = self._exchange.path.removeprefix("/v1")
        query = self._exchange.query.decode("latin-1")
        raw = unambiguous(raw, body)
        if upstream.model_name is not None and self._is_step_model(path):
            raw = with_model(raw, body, upstream.model_name)
        reply = await upstream.transport.open(
            f"{path}?{query}" if query else path,
            raw,
            forwarded_headers(self._exchange.raw_headers),
        )
        if reply.content_type == "text/event-stream":
            return reply, None
        content = await reply.read()
        try:
            answer = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise reply.broken("sent something other than JSON, or part of it") from error
        if not isinstance(answer, dict):
            raise reply.broken("sent JSON that is no object")
        self._spent = _usage(answer)
        if self._renames:
            content = orjson.dumps(renamed(answer, str(body["model"])))
        return reply, content

    async def _stream(self, reply: Reply, headers: RawHeaders, model: str) -> None:
        """Passes a stream of the old completions API on, event by event."""
        exchange, parser, whole, is_done = self._exchange, EventParser(), WholeEvents(), False
        try:
            await exchange.start(reply.status, [*EVENTS, *headers])
            async with aclosing(reply.pieces()) as pieces:
                async for piece in pieces:
                    events = parser.feed(piece)
                    out = [written(one, self._passed(one, model)) for one in events]
                    is_done = is_done or any(one.data.startswith(_DONE) for one in events)
                    passed = whole.feed(piece, ends_event=bool(events))
                    if self._renames:
                        passed = b"".join(out)
                    if passed:
                        await exchange.write(passed)
            if not is_done:
                raise reply.broken("ended its stream before it was complete")
            await exchange.end()
        except ModelError as error:
            self.broken = error
            await exchange.end(write_event(self._wire.error(failure_of(error))))
        finally:
            reply.close()

    def _passed(self, event: Event, model: str) -> bytes:
        """The data of an event as the client gets it, if there is nothing wrong with it."""
        if event.data.startswith(_DONE):
            return event.data
        chunk = read_event(event)
        if chunk.get("error"):
            raise mid_stream_failure(chunk)
        if chunk.get("usage"):
            self._spent = _usage(chunk)
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

    async def _settle(self, alias: Alias, model: str) -> None:
        assert self._reservation is not None
        price = self._upstream.price if self._upstream else None
        price = price or alias.runtime.price("teacher", model)
        cost_usd = price.cost_usd(self._spent) if price else 0.0
        tokens = self._spent.prompt_tokens + self._spent.output_tokens
        await self._reservation.settle(cost_usd, tokens)


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


def _prompt(body: dict[str, Any]) -> str:
    """The texts of a call, as one."""
    given = body.get("prompt", body.get("input"))
    texts = given if isinstance(given, list) else [given]
    return " ".join(text for text in texts if isinstance(text, str))
