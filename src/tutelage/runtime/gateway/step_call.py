"""One agent step of a client: through the runtime, or to the teacher in the client's own bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

import orjson

from tutelage.runtime.chunks import Accumulator, chunks
from tutelage.runtime.deliberation import Deliberation
from tutelage.runtime.errors import BadRequest, TutelageError
from tutelage.runtime.gateway.alias import Alias
from tutelage.runtime.gateway.answer_headers import (
    Account,
    account_of,
    answer_headers,
    facts,
    returned_headers,
)
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.gateway.conversations import Prefix, read_prefix
from tutelage.runtime.gateway.exchange import EVENTS, JSON, ClientGone, Exchange
from tutelage.runtime.gateway.handing_over import HandedOver, hand_over
from tutelage.runtime.gateway.parts import Parts
from tutelage.runtime.gateway.pass_through import UNREAD, Heard, PassThrough
from tutelage.runtime.gateway.received_call import ReceivedCall, read_body, receive
from tutelage.runtime.gateway.relayed import spoken
from tutelage.runtime.gateway.response_keeper import ResponseKeeper
from tutelage.runtime.gateway.sessions import session_of
from tutelage.runtime.gateway.spending import Spending, all_said
from tutelage.runtime.gateway.teachers import (
    ChatAnswer,
    ChatStream,
    NativeStream,
    Question,
    Taught,
    ask,
    ask_live,
    question_of,
)
from tutelage.runtime.ids import new_id
from tutelage.runtime.types import ChatRequest, Completion, Mode, Reason, Trace, Usage
from tutelage.runtime.wires.failure import failure_of
from tutelage.runtime.wires.protocol import Asked, Encoder, Wire, WireName
from tutelage.runtime.wires.responses_ids import response_id

_ID_PREFIXES: dict[WireName, str] = {"chat": "chatcmpl-", "responses": "", "messages": "msg_"}
_PLACE_S = 5.0
"""How long a trace waits for a place among those that another process is to write."""


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
        self._call: ReceivedCall | None = None
        self._spending: Spending | None = None
        self._asked: Asked | None = None
        self._prefix: Prefix | None = None
        """Of the conversation of a client that names no session."""
        self._keeper: ResponseKeeper | None = None
        self._upstream, self._teacher_s = "teacher", 0.0
        self._asks_teacher = False
        self._passing: PassThrough | None = None
        """Serves a call that the upstream judges, and we read for its trace alone."""
        self._written: asyncio.Future[None] | None = None
        self.closing: asyncio.Task[None] | None = None
        """What is still done when the client has its answer, such as its trace."""
        self._handed: HandedOver | None = None

    @property
    def trace(self) -> Trace | None:
        """What was written down of the call, once it is answered."""
        told = self._handed or self.thought
        return told.trace if told is not None else None

    def when_closed(self, tell: Callable[[], object]) -> bool:
        """Has it told when all is known of the call; ``False``: it is already.

        Args:
            tell: Called once.
        """
        if self._handed is not None:
            self._handed.tell = tell
        elif self.closing is not None:
            self.closing.add_done_callback(lambda _: tell())
        else:
            return False
        return True

    @property
    def upstream_s(self) -> float:
        """Seconds spent waiting for a student or a teacher."""
        if self._passing is not None:
            return self._passing.teacher_s
        latency_s = self.thought.latency_s if self.thought is not None else {}
        return latency_s.get("student", 0.0) + latency_s.get("teacher", 0.0)

    async def serve(self, raw: bytes) -> None:
        """Answers the call.

        Raises:
            TutelageError: It failed before anything was sent.
        """
        await self._read(raw)
        try:
            await self._spent.reserve(
                self._received.mode,
                samples=self._parts.samples,
                ceiling_usd=self._received.options.max_cost_usd,
            )
            if self._relays_all:
                await self._pass_through()
                return
            self._asked = self._wire.read(self._received.body)
            await self._begin()
            if self.stream:
                await self._serve_stream()
            else:
                await self._serve_whole()
        except Exception as error:
            if not isinstance(error, TutelageError):
                self._conclude_mistake(error)
            raise
        finally:
            self._settle()

    async def _pass_through(self) -> None:
        self._passing = PassThrough(
            self._parts, self._exchange, self._wire, self._received, self._spent,
            self._encoder, self.id,
        )  # fmt: skip
        await self._passing.serve()
        self.broken = self._passing.broken

    @property
    def _relays_all(self) -> bool:
        """Whether the upstream judges the call, and what we make of it is for the trace alone."""
        return self.mode == "passthrough" and self._model.relays(self._wire.name)

    @property
    def _model(self) -> Alias:
        assert self.alias is not None
        return self.alias

    @property
    def _received(self) -> ReceivedCall:
        assert self._call is not None
        return self._call

    @property
    def _spent(self) -> Spending:
        assert self._spending is not None
        return self._spending

    async def _read(self, raw: bytes) -> None:
        parts, tenant = self._parts, self.caller.tenant
        body = read_body(raw, parts.settings.limits)
        alias = self.alias = parts.aliases.find(body.get("model"), self.caller)
        call = self._call = await receive(
            raw,
            body,
            alias,
            self._exchange.headers,
            wire=self._wire,
            responses=parts.responses,
            tenant=tenant,
        )
        self.mode, self.stream = call.mode, call.stream
        self._spending = Spending(parts.admission, self.caller, alias, call.raw, call.relayed_body)
        wants_kept = self._wire.name == "responses" and body.get("store") is not False
        # An upstream that is asked all calls keeps its own.
        if wants_kept and not self._relays_all:
            self._keeper = ResponseKeeper(parts.responses, tenant, call.asked)

    async def _begin(self) -> None:
        """Opens the deliberation, in the episode that the call belongs to."""
        assert self.mode is not None
        assert self._asked is not None
        tenant = self.caller.tenant
        session = session_of(self._exchange.raw_headers, self._received.body, tenant)
        if session is None:
            self._prefix = read_prefix(self._asked.request.messages)
            session = await self._parts.conversations.find(tenant, self._prefix)
        episodes = self._parts.episodes
        if session is None and self._passing is not None:
            episode = episodes.passing(tenant)
        else:
            episode = episodes.episode(tenant, session or new_id())
        self.thought = self._model.runtime.begin(
            self._asked.request,
            episode=episode,
            mode=self.mode,
            unsupported=self._asked.unsupported,
            key_id=self.caller.key_id,
            no_train=self._received.options.no_train or not self.caller.writer,
            id=self.id,
        )
        # What the teacher would have cost is told at its price, too.
        self.thought.teacher_price = self._spent.price

    async def _serve_whole(self) -> None:
        runtime, thought = self._model.runtime, self.thought
        assert thought is not None
        await runtime.deliberate(thought, self._received.options.force)
        if thought.decision.served == "student" and await runtime.ask_student(thought):
            completion = thought.student_answer(self._parts.count_tokens)
            await self._send(completion, None)
            return
        answer = await self._ask(ask(self._model, self._question(), self._request))
        completion = answer.completion
        usage = self._spent.metered(completion.usage, lambda: all_said(completion))
        if isinstance(answer, ChatAnswer):
            await self._send(completion, usage)
            return
        self._conclude(completion, usage)
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
        encoder = self._encoder()
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
            await exchange.end(encoder.fail(failure_of(error)))
        finally:
            exchange.stop_pings()

    async def _pieces(self, encoder: Encoder) -> AsyncGenerator[bytes]:
        """The events for the client, whoever serves; the answer is concluded at their end."""
        runtime, thought = self._model.runtime, self.thought
        assert thought is not None
        await runtime.deliberate(thought, self._received.options.force)
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
                async with aclosing(stream.chunks()) as live:
                    async for chunk in live:
                        if written := encoder.feed(chunk):
                            yield written
        except BaseException as error:
            failure = error
            raise
        finally:
            self._took(self._parts.timer() - asked_s)
            self._conclude_stream(stream.accumulator, failure)
        if self._keeper is not None:
            await self._keeper.keep(self._whole(stream))
        told = facts(self._account())
        last = encoder.finish(told) if isinstance(stream, ChatStream) else stream.end(told)
        if last:
            yield last

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
        assert self.thought is not None
        self._model.runtime.start_shadow(self.thought)
        asked_s = self._parts.timer()
        self._asks_teacher = True
        try:
            answer = await asking
        except (TutelageError, asyncio.CancelledError) as error:
            self._took(self._parts.timer() - asked_s)
            # Its endpoint may bill a call that was given up.
            given_up = isinstance(error, asyncio.CancelledError)
            self._conclude(None, self._spent.metered() if given_up else None, error)
            raise
        self._took(self._parts.timer() - asked_s)
        self._upstream, self._spent.upstream = answer.upstream.name, answer.upstream
        return answer

    def _took(self, teacher_s: float) -> None:
        assert self.thought is not None
        self._teacher_s = self.thought.latency_s["teacher"] = teacher_s

    def _question(self) -> Question:
        settings = self._parts.settings
        return question_of(
            self._received, self._exchange, self._wire,
            native_only=self._asked.native_only if self._asked else None,
            keep_model=settings.raw_model,
            meter=settings.trace or self._spent.is_reserved,
            answer_id=response_id(self.id) if self._keeper else None,
        )  # fmt: skip

    @property
    def _request(self) -> ChatRequest:
        return self._asked.request if self._asked is not None else UNREAD

    def _encoder(self) -> Encoder:
        asked = self._asked or Asked(self._received.body, self._request, stream=True)
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
            risk=alias.risk.alpha if alias.risk is not None else None,
            student=alias.student,
            teacher=self._upstream,
            overhead_s=overhead_s,
        )

    def _headers(self) -> list[tuple[bytes, bytes]]:
        return answer_headers(self._account())

    def _conclude(
        self,
        completion: Completion | None,
        teacher_usage: Usage | None,
        error: BaseException | None = None,
    ) -> None:
        thought = self.thought
        assert thought is not None
        self._note_spending(thought)
        _, self._written = self._model.runtime.conclude(
            thought, completion, teacher_usage, error=error, awaited=False
        )
        self._remember(thought, completion)

    def _note_spending(self, thought: Deliberation) -> None:
        thought.teacher_price = self._spent.price
        if self._spent.is_estimated:
            thought.estimated.add("teacher")

    def _conclude_stream(self, accumulator: Accumulator, error: BaseException | None) -> None:
        if not accumulator.started:
            given_up = error is not None and not isinstance(error, TutelageError)
            self._conclude(None, self._spent.metered() if given_up else None, error)
            return
        partial = accumulator.completion(self._request, self._parts.count_tokens)
        told = partial.usage if accumulator.has_usage else Usage()
        # Of several choices only the first is put together.
        n = self._received.body.get("n")
        choices = n if isinstance(n, int) else 1
        usage = self._spent.metered(told, lambda: all_said(partial) * choices)
        self._conclude(partial, usage, error)

    def _conclude_mistake(self, error: Exception) -> None:
        """Writes down, and pays for, what was asked before we stumbled over it."""
        if self._passing is not None:
            self._passing.conclude_mistake(error)
        elif self.thought is not None and self.trace is None:
            self._conclude(None, self._spent.metered() if self._asks_teacher else None, error)

    def _settle(self) -> None:
        """Starts what is left to do when the client has its answer; it outlives a cancellation."""
        heard = self._passing.heard if self._passing is not None else None
        untraced = heard if self._parts.settings.trace else None
        if untraced is not None and self._hands_over(untraced):
            untraced = None
        if self._spent.is_reserved or self._written is not None or untraced is not None:
            self.closing = self._model.runtime.supervise(self._close(heard, untraced))

    async def _close(self, heard: Heard | None, untraced: Heard | None) -> None:
        try:
            if untraced is not None:
                await self._trace_relayed(untraced)
            if self._written is not None:
                await self._written
        finally:
            # A call that only its upstream understands is billed all the same.
            await self._spent.settle(self.trace, heard.usage if heard is not None else None)

    def _hands_over(self, heard: Heard) -> bool:
        """Whether another process writes the trace of a call that was relayed unread."""
        scribe = self._parts.scribe
        if scribe is None or self._received.previous_id is not None:
            return False
        self._handed = hand_over(
            scribe, self.id, self._wire, self.caller, self._received, self._exchange, self._spent,
            heard, self.upstream_s, clock=self._parts.clock, timer=self._parts.timer,
        )  # fmt: skip
        return self._handed is not None

    def _remember(self, thought: Deliberation, completion: Completion | None) -> None:
        """Lets the next step of a client that names no session find its episode."""
        if completion is None or self._prefix is None:
            return
        said, remember = completion.choices[0].message, self._parts.conversations.remember
        # Begun before the client has its answer: its next step may follow at once.
        self._model.runtime.supervise(
            remember(self.caller.tenant, self._prefix, said, thought.episode.id)
        )

    async def _trace_relayed(self, heard: Heard) -> None:
        """Makes the trace of a call that was relayed unread; none of one that is no call."""
        scribe = self._parts.scribe
        if scribe is not None and await scribe.place(_PLACE_S) and self._hands_over(heard):
            return
        with suppress(BadRequest):
            self._asked = self._wire.read(self._received.body)
        if self._asked is None:
            return
        await self._begin()
        thought = self.thought
        assert thought is not None
        thought.started_s = self._exchange.started_s
        thought.latency_s["teacher"] = self.upstream_s
        thought.defer(Reason.PASSTHROUGH)
        self._conclude(spoken(heard.message), heard.usage, heard.error)
