"""A call of a chat wire in the client's own bytes: read no further than it has to be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import orjson

from tutelage.runtime.chunks import Accumulator
from tutelage.runtime.errors import BadResponse, ModelError, TutelageError
from tutelage.runtime.gateway.alias import Alias, Upstream
from tutelage.runtime.gateway.answer_headers import (
    Account,
    answer_headers,
    forwarded_headers,
    header_value,
    returned_headers,
)
from tutelage.runtime.gateway.exchange import EVENTS, JSON, ClientGone, Exchange
from tutelage.runtime.gateway.parts import Parts
from tutelage.runtime.gateway.plain_answers import plain_chunk, plain_message
from tutelage.runtime.gateway.received_call import ReceivedCall
from tutelage.runtime.gateway.spending import Spending, all_said
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
from tutelage.runtime.models.sse import Event, EventParser
from tutelage.runtime.models.transport import Reply
from tutelage.runtime.types import ChatRequest, Reason, Usage
from tutelage.runtime.wires.failure import failure_of
from tutelage.runtime.wires.protocol import Encoder, Wire

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

UNREAD: Final = ChatRequest(model="", messages=[])
"""In place of the chat request of a call that is only relayed."""

_RELAYED = answer_headers(
    Account("", mode="passthrough", reason=Reason.PASSTHROUGH.value), without=("decision_id",)
)


@dataclass(frozen=True, slots=True)
class Heard:
    """What there is to write down of the answer to a call that was relayed unread."""

    message: dict[str, Any] | None
    """The assistant's message, as far as it came; ``None``: none came."""
    usage: Usage | None
    error: BaseException | None = None


class PassThrough:
    """Serves one call whose upstreams all speak the client's wire, and judge what it says.

    Args:
        parts: What to serve with.
        exchange: The call.
        wire: The API it is made in.
        call: As it was received.
        spent: Its money.
        encoder: A writer of the client's wire, for the event that says that an answer broke off.
        id: Of the decision.
    """

    def __init__(
        self,
        parts: Parts,
        exchange: Exchange,
        wire: Wire,
        call: ReceivedCall,
        spent: Spending,
        encoder: Callable[[], Encoder],
        id: str,
    ) -> None:
        self.heard: Heard | None = None
        """``None``: no upstream was asked."""
        self.broken: TutelageError | None = None
        """Why a stream that had begun broke off."""
        self.teacher_s = 0.0
        """Spent waiting for upstreams."""
        self.asks = False
        """Whether an upstream has been asked."""
        self._parts = parts
        self._exchange = exchange
        self._wire = wire
        self._call = call
        self._spent = spent
        self._encoder = encoder
        self._id = id
        # What nobody writes down or pays for is not put together.
        self._is_wanted = parts.settings.trace or spent.is_reserved
        query = exchange.query.decode("latin-1")
        self._path = f"{wire.path}?{query}" if query else wire.path
        self._forwarded = forwarded_headers(exchange.raw_headers, wire.name)

    async def serve(self) -> None:
        """Answers the call.

        Raises:
            TutelageError: It failed before anything was sent.
        """
        await (self._serve_stream() if self._call.stream else self._serve_whole())

    def conclude_mistake(self, error: Exception) -> None:
        """Notes, to be paid for, what was asked before we stumbled over it."""
        if self.asks and self.heard is None:
            self.heard = Heard(None, self._spent.metered(), error)

    async def _serve_whole(self) -> None:
        reply, content, body = await self._asked(self._answered)
        self.heard = self._heard_of(body) if self._is_wanted else Heard(None, None)
        headers = [JSON, *returned_headers(reply.headers), *self._headers()]
        await self._exchange.respond(reply.status, content, headers)

    async def _serve_stream(self) -> None:
        exchange = self._exchange
        exchange.start_pings(self._wire.ping, self._parts.settings.ping_s, self._headers)
        try:
            stream = await self._asked(self._begun)
            await self._pass_on(stream)
            await exchange.end()
        except ClientGone:
            raise
        except TutelageError as error:
            if not exchange.has_started:
                raise
            self.broken = error
            await exchange.end(self._encoder().fail(failure_of(error)))
        finally:
            exchange.stop_pings()

    async def _pass_on(self, stream: RelayedStream) -> None:
        exchange, asked_s = self._exchange, self._parts.timer() - self.teacher_s
        failure: BaseException | None = None
        try:
            if not exchange.has_started:
                await exchange.start(200, [*EVENTS, *self._headers()])
            await exchange.write(stream.begun)
            while piece := await stream.reply.piece():
                if passed := stream.take(piece):
                    await exchange.write(passed)
            if rest := stream.end():
                await exchange.write(rest)
        except BaseException as error:
            failure = error
            raise
        finally:
            stream.reply.close()
            stream.gather()
            self.teacher_s = self._parts.timer() - asked_s
            self._conclude(stream.accumulator, failure)

    async def _asked(self, attempt: Callable[[Upstream], Awaitable[Result]]) -> Result:
        """What the first upstream gives that does not fail in a way that another might not."""
        timer = self._parts.timer
        asked_s = timer()
        self.asks = True
        try:
            upstreams = self._alias.upstreams
            for upstream in upstreams[:-1]:
                self._spent.upstream = upstream
                try:
                    return await attempt(upstream)
                except ModelError as error:
                    if not is_for_another(error):
                        raise
                    told = log_line(error)
                    logger.warning(
                        "upstream %s failed, the next one is asked: %s", upstream.name, told
                    )
                    logger.debug("what failed: %s", error)
            self._spent.upstream = upstreams[-1]
            return await attempt(upstreams[-1])
        except TutelageError as error:
            self.heard = Heard(None, None, error)
            raise
        except asyncio.CancelledError as error:
            # Its endpoint may bill a call that was given up.
            self.heard = Heard(None, self._spent.metered(), error)
            raise
        finally:
            self.teacher_s = timer() - asked_s

    async def _answered(self, upstream: Upstream) -> tuple[Reply, bytes, dict[str, Any]]:
        """A whole answer, and what it says."""
        reply = await self._open(upstream, self._raw(upstream))
        content = await reply.read()
        try:
            body = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise reply.broken("sent something other than JSON, or part of it") from error
        if not isinstance(body, dict):
            raise reply.broken("sent JSON that is no object")
        if not self._is_plain(body):
            try:
                self._wire.completion(body)
            except BadResponse as error:
                raise reply.named(error) from error
        shown = self._shown_model(upstream)
        if shown is not None or self._call.previous_id is not None:
            content = orjson.dumps(renamed(body, shown, None, self._call.previous_id))
        return reply, content, body

    def _is_plain(self, body: dict[str, Any]) -> bool:
        return self._wire.name == "chat" and plain_message(body) is not None

    def _heard_of(self, body: dict[str, Any]) -> Heard:
        message = plain_message(body) if self._wire.name == "chat" else None
        if message is not None:
            return Heard(message, Usage.from_wire(body["usage"]))
        completion = self._wire.completion(body)
        usage = self._spent.metered(completion.usage, lambda: all_said(completion))
        return Heard(completion.choices[0].message.model_dump(exclude_unset=True), usage)

    async def _begun(self, upstream: Upstream) -> RelayedStream:
        """A stream of which something is there: until then another upstream may take the call."""
        raw = self._raw(upstream)
        is_metered = self._parts.settings.trace or self._spent.is_reserved
        inject = is_metered and self._wire.name == "chat" and not _asks_usage(self._call.body)
        if inject:
            raw = with_usage(raw, orjson.loads(raw))
        reply = await self._open(upstream, raw)
        stream = RelayedStream(
            reply,
            self._wire,
            self._shown_model(upstream),
            self._call.previous_id,
            drop_usage=inject,
        )
        try:
            await stream.begin()
        except BaseException:
            reply.close()
            raise
        return stream

    async def _open(self, upstream: Upstream, raw: bytes) -> Reply:
        assert upstream.transport is not None
        return await upstream.transport.open(self._path, raw, self._forwarded)

    @property
    def _alias(self) -> Alias:
        return self._call.alias

    @property
    def _model(self) -> str:
        return str(self._call.body["model"])

    def _raw(self, upstream: Upstream) -> bytes:
        body = self._call.relayed_body
        raw, name = unambiguous(self._call.raw, body), upstream.model_name
        return raw if name is None or name == self._model else with_model(raw, body, name)

    def _shown_model(self, upstream: Upstream) -> str | None:
        """The name of the model that takes the place of the upstream's own."""
        own = upstream.model_name
        is_other = own is not None and own != self._model
        return self._model if is_other and not self._parts.settings.raw_model else None

    def _conclude(self, accumulator: Accumulator, error: BaseException | None) -> None:
        if not accumulator.started:
            given_up = error is not None and not isinstance(error, TutelageError)
            self.heard = Heard(None, self._spent.metered() if given_up else None, error)
            return
        if not self._is_wanted:
            self.heard = Heard(None, None, error)
            return
        partial = accumulator.completion(UNREAD, self._parts.count_tokens)
        told = partial.usage if accumulator.has_usage else Usage()
        # Of several choices only the first is put together.
        n = self._call.body.get("n")
        choices = n if isinstance(n, int) else 1
        usage = self._spent.metered(told, lambda: all_said(partial) * choices)
        message = partial.choices[0].message.model_dump(exclude_unset=True)
        self.heard = Heard(message, usage, error)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        upstream = self._spent.upstream
        served = header_value(upstream.name if upstream is not None else "teacher").encode()
        return [
            *_RELAYED,
            (b"x-tutelage-decision-id", self._id.encode()),
            (b"x-tutelage-served", served),
        ]


class RelayedStream:
    """An upstream's stream in the client's own wire, checked event by event as it passes.

    Args:
        reply: The open answer.
        wire: Of the client.
        rename_to: The model that it is to say it comes from; ``None`` leaves it.
        previous_id: The response that it goes on from; ``None`` leaves it.
        drop_usage: Whether the usage is for us and not for the client.
    """

    def __init__(
        self,
        reply: Reply,
        wire: Wire,
        rename_to: str | None,
        previous_id: str | None,
        *,
        drop_usage: bool,
    ) -> None:
        self.reply = reply
        self.accumulator = Accumulator()
        self.begun = b""
        """What may be passed on before anything else is waited for."""
        self._decoder = wire.decoder()
        self._parser = EventParser()
        self._whole = WholeEvents()
        self._rename_to = rename_to
        self._previous_id = previous_id
        self._changes = rename_to is not None or previous_id is not None
        self._drop_usage = drop_usage
        self._rewrites = drop_usage or self._changes
        self._is_chat = wire.name == "chat"
        self._goes_on = False
        """Whether an event may only add text to what the decoder has begun."""
        self._texts: list[str] = []

    async def begin(self) -> None:
        """Waits until something is said.

        Raises:
            ModelError: The stream broke off before, or its first event is malformed.
        """
        begun: list[bytes] = []
        while not self.accumulator.has_choice:
            piece = await self.reply.piece()
            if not piece:
                begun.append(self.end())
                break
            begun.append(self.take(piece))
        self.begun = b"".join(begun)

    def take(self, piece: bytes) -> bytes:
        """What of a piece the client is sent: whole events, so that our own can follow any of them.

        Raises:
            ModelError: An event is malformed; the piece is not passed on.
        """
        if self._goes_on and not self._rewrites and self._is_text(piece):
            return piece
        events = self._parser.feed(piece)
        if not self._rewrites:
            for event in events:
                self._read(event)
            return self._whole.feed(piece, ends_event=bool(events))
        out: list[bytes] = []
        for event in events:
            chunks = self._read(event)
            if not (self._drop_usage and any(map(is_usage_only, chunks))):
                out.append(written(event, self._renamed(event.data)))
        return b"".join(out)

    def end(self) -> bytes:
        """What is left when the stream has ended.

        Raises:
            ModelError: It ended before it was complete, or said nothing.
        """
        if not self._decoder.done:
            raise self.reply.broken("ended its stream before it was complete")
        if not self.accumulator.has_choice:
            raise self.reply.broken("streamed no choices")
        return self._whole.rest

    def _read(self, event: Event) -> Sequence[Mapping[str, Any]]:
        """The chunks of an event, added to the answer; none of one that only goes on with it."""
        if self._goes_on:
            chunk = plain_chunk(event.data)
            if chunk is not None:
                self._texts.append(chunk["choices"][0]["delta"]["content"])
                return ()
        try:
            chunks = self._decoder.feed(event)
        except BadResponse as error:
            raise self.reply.named(error) from error
        self.gather()
        for chunk in chunks:
            self.accumulator.add(chunk)
        self._goes_on = self._is_chat and self.accumulator.has_choice and not self._decoder.done
        return chunks

    def _is_text(self, piece: bytes) -> bool:
        """Whether a piece is one whole event that only adds text, as most are; it is added then."""
        if not (piece.startswith(b"data: {") and piece.endswith(b"}\n\n")):
            return False
        if piece.count(b"\n") != 2 or b"\r" in piece:
            return False
        if not self._parser.is_clear or not self._whole.is_clear:
            return False
        chunk = plain_chunk(piece[6:-2])
        if chunk is None:
            return False
        self._texts.append(chunk["choices"][0]["delta"]["content"])
        return True

    def gather(self) -> None:
        """Puts pieces of text that have not been added to the answer into it."""
        if self._texts:
            said = {"index": 0, "delta": {"content": "".join(self._texts)}}
            self.accumulator.add({"choices": [said]})
            self._texts.clear()

    def _renamed(self, data: bytes) -> bytes:
        if not self._changes or not data.startswith(b"{"):
            return data
        event = renamed(orjson.loads(data), self._rename_to, None, self._previous_id)
        return orjson.dumps(event)


def _asks_usage(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, Mapping) and bool(options.get("include_usage"))
