"""One agent step of a client: through the runtime, or to the teacher in the client's own bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Any

import orjson

from tutelage.runtime.chunks import chunks
from tutelage.runtime.deliberation import Deliberation
from tutelage.runtime.errors import BadRequest, TutelageError
from tutelage.runtime.gateway.admission import Reservation
from tutelage.runtime.gateway.alias import Alias
from tutelage.runtime.gateway.answer_headers import (
    Account,
    account_of,
    answer_headers,
    facts,
    forwarded_headers,
    header_value,
    returned_headers,
)
from tutelage.runtime.gateway.call_options import CallOptions, read_options
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.gateway.conversations import Prefix, read_prefix
from tutelage.runtime.gateway.estimate import estimate
from tutelage.runtime.gateway.exchange import EVENTS, JSON, ClientGone, Exchange
from tutelage.runtime.gateway.limits import check_depth, check_shape
from tutelage.runtime.gateway.parts import Parts
from tutelage.runtime.gateway.response_keeper import ResponseKeeper
from tutelage.runtime.gateway.sessions import session_of
from tutelage.runtime.gateway.splicing import without_previous
from tutelage.runtime.gateway.teachers import (
    ChatAnswer,
    ChatStream,
    NativeStream,
    Question,
    Taught,
    ask,
    ask_live,
)
from tutelage.runtime.ids import new_id
from tutelage.runtime.models.fields import reject_routing_fields
from tutelage.runtime.pricing import Price
from tutelage.runtime.types import ChatRequest, Completion, Mode, Reason, Trace, Usage
from tutelage.runtime.wires.failure import failure_of
from tutelage.runtime.wires.fields import check_switch
from tutelage.runtime.wires.protocol import Asked, Encoder, Wire, WireName
from tutelage.runtime.wires.responses_ids import is_ours, response_id
from tutelage.runtime.wires.responses_items import continued

_Conclusion = tuple[Completion | None, Usage | None, BaseException | None]
_ID_PREFIXES: dict[WireName, str] = {"chat": "chatcmpl-", "responses": "", "messages": "msg_"}
_RELAYED = answer_headers(
    Account("", mode="passthrough", reason=Reason.PASSTHROUGH.value), without=("decision_id",)
)
_UNREAD = ChatRequest(model="", messages=[])
"""In place of the chat request of a call that is only relayed."""


class StepCall:
    """Serves one call of a chat wire.

    Args:
        parts: What to serve with.
        exchange: The call.
        caller: Who makes it.
        wire: The API it is made in.
    """

    def __init__(self, parts: Parts, exchange: Exchange, caller: Caller, wire: Wire) -> None:
        self.id = new_id()
        self.caller = caller
        self.alias: Alias | None = None
        self.mode: Mode | None = None
        self.thought: Deliberation | None = None
        self.stream = False
        self.broken: TutelageError | None = None
        """Why a stream that had begun broke off."""
        self._parts = parts
        self._exchange = exchange
        self._wire = wire
        self._raw = b""
        self._body: dict[str, Any] = {}
        self._previous_id: str | None = None
        """The response kept here that the call goes on from."""
        self._options = CallOptions()
        self._asked: Asked | None = None
        self._prefix: Prefix | None = None
        """Of the conversation of a client that names no session."""
        self._reservation: Reservation | None = None
        self._keeper: ResponseKeeper | None = None
        self._upstream = "teacher"
        self._price: Price | None = None
        self._teacher_s = 0.0
        self._relayed: _Conclusion | None = None
        self._written: asyncio.Task[None] | None = None
        self.closing: asyncio.Task[None] | None = None
        """What is still done when the client has its answer, such as its trace."""

    @property
    def trace(self) -> Trace | None:
        """What was written down of the call, once it is answered."""
        return self.thought.trace if self.thought else None

    @property
    def upstream_s(self) -> float:
        """Seconds spent waiting for a student or a teacher."""
        if self.thought is None:
            return self._teacher_s
        latency_s = self.thought.latency_s
        return latency_s.get("student", 0.0) + latency_s.get("teacher", 0.0)

    async def serve(self, raw: bytes) -> None:
        """Answers the call.

        Raises:
            TutelageError: It failed before anything was sent.
        """
        await self._read(raw)
        try:
            await self._reserve()
            if not self._relays_all:
                self._asked = self._wire.read(self._body)
                await self._begin()
            if self.stream:
                await self._serve_stream()
            else:
                await self._serve_whole()
        finally:
            self._settle()

    @property
    def _relays_all(self) -> bool:
        """Whether the upstream judges the call, and what we make of it is for the trace alone."""
        return self.mode == "passthrough" and self._model.speaks(self._wire.name)

    @property
    def _model(self) -> Alias:
        assert self.alias is not None
        return self.alias

    async def _read(self, raw: bytes) -> None:
        limits = self._parts.settings.limits
        check_depth(raw, limits.depth)
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"the body is not JSON: {error}", code="invalid_json") from None
        check_shape(body, limits)
        reject_routing_fields(body)
        self._raw, self._body = raw, body
        self.alias = self._parts.aliases.find(body.get("model"), self.caller)
        self._options = read_options(self._exchange.headers, self.alias.mode)
        self.mode = self._options.mode or self.alias.mode
        # Read here also where the upstream judges the rest: how we answer depends on it.
        stream = body.get("stream")
        self.stream = stream is not None and check_switch(stream, "stream")
        previous = body.get("previous_response_id")
        if self._wire.name == "responses" and isinstance(previous, str) and is_ours(previous):
            items = await self._parts.responses.conversation(self.caller.tenant, previous)
            self._previous_id = previous
            self._body = continued(body, items)
            self._raw = orjson.dumps(without_previous(self._body))
        wants_kept = self._wire.name == "responses" and body.get("store") is not False
        # An upstream that is asked all calls keeps its own.
        if wants_kept and not self._relays_all:
            self._keeper = ResponseKeeper(self._parts.responses, self.caller.tenant, body)

    async def _reserve(self) -> None:
        ceiling = self._options.max_cost_usd
        if not self.caller.is_limited and ceiling is None:
            return
        assert self.mode is not None
        samples = self._parts.samples
        found = estimate(self._raw, self._body, self._model, self.mode, samples=samples)
        if ceiling is not None and found.cost_usd > ceiling:
            raise BadRequest(
                f"the request may cost ${found.cost_usd:.6f}, more than x-tutelage-max-cost-usd = "
                f"{ceiling:g}: raise it, or ask for fewer tokens",
                param="x-tutelage-max-cost-usd",
                code="max_cost_exceeded",
            )
        self._reservation = await self._parts.admission.admit(
            self.caller, estimate_usd=found.cost_usd, estimate_tokens=found.tokens
        )

    async def _begin(self) -> None:
        """Opens the deliberation, in the episode that the call belongs to."""
        assert self.mode is not None
        assert self._asked is not None
        tenant = self.caller.tenant
        session = session_of(self._exchange.raw_headers, self._body, tenant)
        if session is None:
            self._prefix = read_prefix(self._asked.request.messages)
            session = await self._parts.conversations.find(tenant, self._prefix)
        self.thought = self._model.runtime.begin(
            self._asked.request,
            episode=self._parts.episodes.episode(tenant, session or new_id()),
            mode=self.mode,
            unsupported=self._asked.unsupported or self._asked.native_only,
            key_id=self.caller.key_id,
            no_train=self._options.no_train or not self.caller.writer,
            id=self.id,
        )

    async def _serve_whole(self) -> None:
        runtime, thought = self._model.runtime, self.thought
        if thought is not None:
            await runtime.deliberate(thought, self._options.force)
            if thought.decision.served == "student" and await runtime.ask_student(thought):
                completion = thought.student_answer(self._parts.count_tokens)
                await self._send(completion, None)
                return
        answer = await self._ask(ask(self._model, self._question(), self._request))
        if isinstance(answer, ChatAnswer):
            await self._send(answer.completion, answer.completion.usage)
            return
        self._conclude(answer.completion, answer.completion.usage)
        if self._keeper is not None:
            await self._keeper.keep(orjson.loads(answer.content))
        headers = [JSON, *returned_headers(answer.headers), *self._headers()]
        await self._exchange.respond(answer.status, answer.content, headers)

    async def _send(self, completion: Completion, teacher_usage: Usage | None) -> None:
        """Sends an answer that is written anew in the client's wire."""
        assert self._asked is not None
        self._conclude(completion, teacher_usage)
        told = facts(self._account())
        body = self._written_anew(completion, told)
        if self._keeper is not None:
            await self._keeper.keep(body)
        await self._exchange.respond_json(200, body, self._headers())

    async def _serve_stream(self) -> None:
        exchange = self._exchange
        exchange.start_pings(self._wire.ping, self._parts.settings.ping_s, self._headers)
        encoder = self._encoder() if self._asked is not None else None
        try:
            async with aclosing(self._pieces(encoder)) as pieces:
                async for piece in pieces:
                    if not exchange.has_started:
                        await exchange.start(200, [*EVENTS, *self._headers()])
                    await exchange.write(piece)
            await exchange.end()
        except ClientGone:
            raise
        except TutelageError as error:
            if not exchange.has_started:
                raise
            self.broken = error
            await exchange.end((encoder or self._encoder()).fail(failure_of(error)))
        finally:
            exchange.stop_pings()

    async def _pieces(self, encoder: Encoder | None) -> AsyncGenerator[bytes]:
        """The events for the client, whoever serves; the answer is concluded at their end."""
        runtime, thought = self._model.runtime, self.thought
        if thought is not None and encoder is not None:
            await runtime.deliberate(thought, self._options.force)
            if thought.decision.served == "student":
                async with aclosing(self._student_pieces(thought, encoder)) as pieces:
                    async for piece in pieces:
                        yield piece
                if thought.trace is not None:
                    return
        stream = await self._ask(ask_live(self._model, self._question(), self._request))
        asked_s = self._parts.timer() - self._teacher_s
        failure: BaseException | None = None
        try:
            if isinstance(stream, NativeStream):
                async with aclosing(stream.pieces()) as native:
                    async for piece in native:
                        yield piece
            else:
                assert encoder is not None
                async with aclosing(stream.chunks()) as live:
                    async for chunk in live:
                        if written := encoder.feed(chunk):
                            yield written
        except (TutelageError, asyncio.CancelledError, GeneratorExit) as error:
            failure = error
            raise
        finally:
            self._took(self._parts.timer() - asked_s)
            self._conclude_stream(stream, failure)
        if self._keeper is not None:
            await self._keeper.keep(self._whole(stream))
        if encoder is not None and isinstance(stream, ChatStream):
            yield encoder.finish(facts(self._account()))

    async def _student_pieces(
        self, thought: Deliberation, encoder: Encoder
    ) -> AsyncGenerator[bytes]:
        runtime = self._model.runtime
        if thought.student is None:
            async with aclosing(runtime.student_live(thought)) as live:
                async for chunk in live:
                    if written := encoder.feed(chunk):
                        yield written
            if thought.trace is None:
                return
            completion = thought.student_answer(self._parts.count_tokens)
        else:
            completion = thought.student_answer(self._parts.count_tokens)
            self._conclude(completion, None)
            # Deltas of their own, but one write: they are all there.
            yield b"".join(encoder.feed(chunk) for chunk in chunks(completion, usage=True))
        if self._keeper is not None:
            await self._keeper.keep(self._written_anew(completion, {}))
        yield encoder.finish(facts(self._account()))

    async def _ask(self, asking: Awaitable[Taught]) -> Taught:
        """Awaits the teacher; if it fails, or the client leaves, the call is concluded."""
        runtime, thought = self._model.runtime, self.thought
        if thought is not None:
            runtime.start_shadow(thought)
        asked_s = self._parts.timer()
        try:
            answer = await asking
        except (TutelageError, asyncio.CancelledError) as error:
            self._took(self._parts.timer() - asked_s)
            self._conclude(None, None, error)
            raise
        self._took(self._parts.timer() - asked_s)
        upstream = answer.upstream
        self._upstream, self._price = upstream.name, upstream.price
        if thought is not None:
            thought.teacher_price = upstream.price
        return answer

    def _took(self, teacher_s: float) -> None:
        self._teacher_s = teacher_s
        if self.thought is not None:
            self.thought.latency_s["teacher"] = teacher_s

    def _question(self) -> Question:
        query = self._exchange.query.decode("latin-1")
        settings = self._parts.settings
        return Question(
            wire=self._wire,
            model=str(self._body["model"]),
            raw=self._raw,
            body=without_previous(self._body) if self._previous_id else self._body,
            path=f"{self._wire.path}?{query}" if query else self._wire.path,
            headers=forwarded_headers(self._exchange.raw_headers),
            native_only=self._asked.native_only if self._asked else None,
            keep_model=settings.raw_model,
            meter=settings.trace or self._reservation is not None,
            answer_id=response_id(self.id) if self._keeper else None,
            previous_id=self._previous_id,
        )

    @property
    def _request(self) -> ChatRequest:
        """The chat request; of a call that is only relayed, no more than its model."""
        if self._asked is not None:
            return self._asked.request
        return _UNREAD

    def _encoder(self) -> Encoder:
        asked = self._asked or Asked(self._body, self._request, stream=True)
        answer_id = _ID_PREFIXES[self._wire.name] + self.id
        return self._wire.encoder(asked, answer_id, int(self._parts.clock()))

    def _written_anew(self, completion: Completion, told: dict[str, Any]) -> Any:
        """The answer object in the client's wire."""
        assert self._asked is not None
        answer_id = _ID_PREFIXES[self._wire.name] + self.id
        named = completion.model_copy(update={"id": answer_id})
        return self._wire.answer(named, self._asked, told)

    def _whole(self, stream: NativeStream | ChatStream) -> Any:
        """The answer object that a stream has added up to."""
        if isinstance(stream, NativeStream):
            return stream.final
        completion = stream.accumulator.completion(self._request, self._parts.count_tokens)
        return self._written_anew(completion, {})

    def _account(self) -> Account:
        known = self.trace or self.thought
        alias = self._model
        assert known is not None
        overhead_s = None
        if self.trace is not None:
            overhead_s = self.trace.latency_s["total"] - self.upstream_s
        return account_of(
            known,
            policy=alias.policy,
            student=alias.student,
            teacher=self._upstream,
            overhead_s=overhead_s,
        )

    def _headers(self) -> list[tuple[bytes, bytes]]:
        if self._relays_all:
            served = header_value(self._upstream).encode()
            return [
                *_RELAYED,
                (b"x-tutelage-decision-id", self.id.encode()),
                (b"x-tutelage-served", served),
            ]
        return answer_headers(self._account())

    def _conclude(
        self,
        completion: Completion | None,
        teacher_usage: Usage | None,
        error: BaseException | None = None,
    ) -> None:
        if self.thought is None:
            self._relayed = (completion, teacher_usage, error)
        else:
            _, self._written = self._model.runtime.conclude(
                self.thought, completion, teacher_usage, error=error
            )
            self._remember(self.thought, completion)

    def _conclude_stream(
        self, stream: NativeStream | ChatStream, error: BaseException | None
    ) -> None:
        partial = None
        if stream.accumulator.started:
            partial = stream.accumulator.completion(self._request, self._parts.count_tokens)
        self._conclude(partial, partial.usage if partial else None, error)

    def _settle(self) -> None:
        """Starts what is left to do when the client has its answer; it outlives a cancellation."""
        wanted = self._reservation is not None or self._written is not None
        if wanted or (self._relayed is not None and self._parts.settings.trace):
            self.closing = self._model.runtime.supervise(self._close())

    async def _close(self) -> None:
        try:
            if self._relayed is not None:
                await self._trace_relayed(*self._relayed)
            if self._written is not None:
                await self._written
        finally:
            if self._reservation is not None:
                await self._reservation.settle(*self._spent())

    def _spent(self) -> tuple[float, int]:
        """Dollars and tokens of the call, whether there is a trace of it or not."""
        if self.trace is not None:
            used = list(self.trace.usage.values())
            cost_usd = sum(self.trace.cost_usd.values())
        else:
            # A call that only its upstream understands is billed all the same.
            usage = self._relayed[1] if self._relayed else None
            used = [usage] if usage is not None else []
            price = self._price or self._model.runtime.price("teacher", str(self._body["model"]))
            cost_usd = sum(price.cost_usd(one) for one in used) if price is not None else 0.0
        return cost_usd, sum(one.prompt_tokens + one.output_tokens for one in used)

    def _remember(self, thought: Deliberation, completion: Completion | None) -> None:
        """Lets the next step of a client that names no session find its episode."""
        if completion is None or self._prefix is None:
            return
        message = completion.choices[0].message
        # Begun before the client has its answer: its next step may follow at once.
        self._model.runtime.supervise(
            self._parts.conversations.remember(
                self.caller.tenant, self._prefix, message, thought.episode.id
            )
        )

    async def _trace_relayed(
        self,
        completion: Completion | None,
        teacher_usage: Usage | None,
        error: BaseException | None,
    ) -> None:
        """Makes the trace of a call that was relayed unread; none of one that is no call."""
        try:
            self._asked = self._wire.read(self._body)
        except BadRequest:
            return
        await self._begin()
        thought = self.thought
        assert thought is not None
        thought.started_s = self._exchange.started_s
        thought.latency_s["teacher"] = self._teacher_s
        thought.defer(Reason.PASSTHROUGH)
        thought.teacher_price = self._price
        _, self._written = self._model.runtime.conclude(
            thought, completion, teacher_usage, error=error
        )
        self._remember(thought, completion)
