"""The gateway as an ASGI application: the edge where errors become answers."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tutelage.runtime.errors import (
    Forbidden,
    KeysUnavailable,
    OverBudget,
    OverLimit,
    StoreError,
    TutelageError,
    Unauthenticated,
)
from tutelage.runtime.gateway.access_log import AccessLog
from tutelage.runtime.gateway.answer_headers import returned_headers
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.gateway.exchange import ClientGone, Exchange, Receive, Send, TooSlow
from tutelage.runtime.gateway.limits import TooLarge, check_headers
from tutelage.runtime.gateway.metrics import Metrics
from tutelage.runtime.gateway.outcome import End, Outcome
from tutelage.runtime.gateway.pages import Pages
from tutelage.runtime.gateway.parts import Parts
from tutelage.runtime.gateway.relay_call import RelayCall
from tutelage.runtime.gateway.routing import Route, match, wire_of_path
from tutelage.runtime.gateway.step_call import StepCall
from tutelage.runtime.gateway.telemetry import Spans
from tutelage.runtime.wires.chat import ChatWire
from tutelage.runtime.wires.failure import Failure, failure_of
from tutelage.runtime.wires.messages import MessagesWire
from tutelage.runtime.wires.protocol import Wire, WireName
from tutelage.runtime.wires.responses import ResponsesWire

logger = logging.getLogger(__name__)

WIRES: dict[WireName, Wire] = {
    "chat": ChatWire(),
    "responses": ResponsesWire(),
    "messages": MessagesWire(),
}
_STEPS = frozenset({"chat", "responses", "messages"})
# Asked by machines every few seconds: counted, but no lines in the log.
_PROBED = frozenset({"healthz", "readyz", "metrics"})
_RELAYED = frozenset({"embeddings", "completions", "count_tokens"})


class Gateway:
    """Serves clients of the OpenAI and Anthropic APIs.

    Args:
        parts: What to serve with; ``swap`` puts others in their place.
        metrics: Counts requests.
        spans: Records them for a collector.
        access_log: One line a request; ``None``: no lines.
    """

    def __init__(
        self, parts: Parts, *, metrics: Metrics, spans: Spans, access_log: AccessLog | None
    ) -> None:
        self._parts = parts
        self._metrics = metrics
        self._spans = spans
        self._access_log = access_log
        self._users: dict[int, int] = {}
        self._idle = asyncio.Event()
        self.is_stopping = False
        self.in_flight = 0

    @property
    def parts(self) -> Parts:
        """What new requests are served with."""
        return self._parts

    async def swap(self, parts: Parts) -> None:
        """Serves new requests with other parts; the old ones close when their last one has ended.

        Args:
            parts: What to serve with from now on.
        """
        old, self._parts = self._parts, parts
        self._metrics.set_aliases(parts.aliases.by_name)
        while self._users.get(id(old)):
            self._idle.clear()
            await self._idle.wait()
        await old.aclose()

    @contextmanager
    def borrowed(self) -> Iterator[Parts]:
        """The parts, which stay open until the block ends, also if others take their place."""
        parts = self._borrow()
        try:
            yield parts
        finally:
            self._give_back(parts)

    def _borrow(self) -> Parts:
        key = id(self._parts)
        self._users[key] = self._users.get(key, 0) + 1
        return self._parts

    def _give_back(self, parts: Parts) -> None:
        self._users[id(parts)] -= 1
        if not self._users[id(parts)]:
            del self._users[id(parts)]
            self._idle.set()

    async def aclose(self) -> None:
        """Closes the parts, after traces that are being written."""
        self.is_stopping = True
        await self._parts.aclose()
        await self._spans.aclose()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serves one connection event of an ASGI server."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            return
        parts = self._borrow()
        self.in_flight += 1
        try:
            await _Request(self, parts, scope, receive, send).serve()
        finally:
            self.in_flight -= 1
            self._give_back(parts)

    def ended(self, outcome: Outcome, traceparent: str | None) -> None:
        """Notes how a request ended."""
        self._metrics.observe(outcome)
        self._spans.record(outcome, traceparent)
        if self._access_log is not None and outcome.route not in _PROBED:
            self._access_log.write(outcome)

    @property
    def metrics(self) -> Metrics:
        """What has been counted."""
        return self._metrics


class _Request:
    """One request at the edge."""

    def __init__(
        self,
        gateway: Gateway,
        parts: Parts,
        scope: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        self._gateway = gateway
        self._parts = parts
        self._started_at_s = parts.clock()
        limits = parts.settings.limits
        self._exchange = Exchange(scope, receive, send, limits, parts.timer)
        self._route: Route | None = None
        self._caller: Caller | None = None
        self._call: StepCall | RelayCall | None = None
        self._left = False
        self._serving: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Answers the request; whatever goes wrong becomes an answer, or the end of a stream."""
        end: End = "ok"
        try:
            end = await self._guarded()
        except asyncio.CancelledError:
            end = "cancelled"
            if not self._left:
                raise
        finally:
            self._exchange.stop_pings()
            self._note(end)

    async def _guarded(self) -> End:
        try:
            await self._dispatch()
        except ClientGone:
            return "cancelled"
        except TutelageError as error:
            return await self._refuse(error)
        except Exception as error:
            # The one edge: nothing may escape, and no client sees what went wrong in here. Nor does
            # the log: such an error may quote the request.
            place = "".join(traceback.format_tb(error.__traceback__))
            name = type(error).__name__
            logger.error("a request failed inside the gateway: %s at\n%s", name, place.rstrip())
            logger.debug("what failed", exc_info=error)
            failure = Failure(500, "internal", "the gateway failed; its log says how")
            await self._send_failure(failure, None)
            return "internal_error"
        broken = getattr(self._call, "broken", None)
        return "ok" if broken is None else "upstream_error"

    async def _dispatch(self) -> None:
        exchange, parts = self._exchange, self._parts
        found = match(exchange.method, exchange.path)
        if found is not None:
            self._route = found.route
        if parts.visitors is not None:
            parts.visitors.check(exchange.raw_headers)
        if found is None:
            raise _Answered(Failure(404, "not_found", f"{exchange.path[:120]} does not exist here"))
        if found.route is None:
            allowed = ", ".join(found.allowed)
            text = f"{exchange.method} is not allowed here: use {allowed}"
            raise _Answered(
                Failure(405, "invalid_request", text, code="method_not_allowed"),
                headers=[(b"allow", allowed.encode())],
            )
        route = found.route
        pages = Pages(self._gateway, parts, exchange)
        if route.is_open:
            await pages.show(route.name, found.id, None, b"")
            return
        check_headers(exchange.raw_headers, parts.settings.limits)
        if self._gateway.in_flight > parts.settings.limits.in_flight:
            raise OverLimit("the gateway is full: try again soon", retry_after_s=1.0)
        token = _token(exchange.headers)
        if route.name == "metrics":
            # It counts all tenants.
            await parts.doorkeeper.identify_admin(token)
            await pages.show(route.name, None, None, b"")
            return
        caller = self._caller = await parts.doorkeeper.identify(token)
        raw = await exchange.body()
        exchange.watch(self._leave)
        self._serving = asyncio.current_task()
        try:
            if route.name in _STEPS:
                self._call = StepCall(parts, exchange, caller, WIRES[route.wire])
                await self._call.serve(raw)
            elif route.name in _RELAYED:
                self._call = RelayCall(parts, exchange, caller, WIRES[route.wire])
                await self._call.serve(raw)
            else:
                await pages.show(route.name, found.id, caller, raw)
        finally:
            exchange.unwatch()

    def _leave(self) -> None:
        """Cancels what is done for a client that has left."""
        self._left = True
        if self._serving is not None:
            self._serving.cancel()

    async def _refuse(self, error: TutelageError) -> End:
        """Tells the client of an error in its wire, or as its upstream said it."""
        failure = _failure(error)
        if isinstance(error, StoreError):
            logger.error("a request is refused: %s", error)
        headers = list(getattr(error, "answer_headers", ()))
        theirs = getattr(error, "headers", None)
        if theirs is not None:
            headers += returned_headers(theirs)
        await self._send_failure(failure, error, headers)
        if failure.kind in ("authentication", "permission", "rate_limit", "quota"):
            return (
                "refused" if self._call is None or not self._reached_upstream else "upstream_error"
            )
        return "client_error" if failure.status < 500 else "upstream_error"

    @property
    def _reached_upstream(self) -> bool:
        return self._call is not None and self._call.upstream_s > 0

    async def _send_failure(
        self,
        failure: Failure,
        error: TutelageError | None,
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        exchange = self._exchange
        if exchange.has_started:
            # A stream says it by its own last event; a whole answer cannot be taken back.
            return
        headers = headers or []
        names = {name for name, _ in headers}
        if failure.retry_after_s is not None and b"retry-after" not in names:
            seconds = max(1, -(-int(failure.retry_after_s * 1000) // 1000))
            headers.append((b"retry-after", str(seconds).encode()))
        if self._call is not None:
            headers.append((b"x-tutelage-decision-id", self._call.id.encode()))
        wire = WIRES[self._route.wire if self._route else wire_of_path(exchange.path)]
        try:
            await exchange.respond_json(failure.status, wire.error(failure), headers)
        except ClientGone:
            return

    def _note(self, end: End) -> None:
        exchange, call = self._exchange, self._call
        step = call if isinstance(call, StepCall) else None
        traceparent = exchange.headers.get("traceparent")
        outcome = Outcome(
            route=self._route.name if self._route else "other",
            end=end,
            status=exchange.status or (499 if end == "cancelled" else 500),
            started_at_s=self._started_at_s,
            duration_s=self._parts.timer() - exchange.started_s,
            mode=step.mode if step else None,
            alias=call.alias.name if call and call.alias else None,
            streamed=bool(step and step.stream),
            first_chunk_s=exchange.first_chunk_s,
            upstream_s=call.upstream_s if call else 0.0,
            tenant=self._caller.tenant if self._caller else None,
            key_id=self._caller.key_id if self._caller else None,
            trace=step.trace if step else None,
        )
        # Some of what it cost is known only when its trace is.
        if step is None or not step.when_closed(
            lambda: self._gateway.ended(replace(outcome, trace=step.trace), traceparent)
        ):
            self._gateway.ended(outcome, traceparent)


class _Answered(TutelageError):
    """An answer that is a failure."""

    def __init__(self, failure: Failure, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.answer_headers = headers or []


def _failure(error: TutelageError) -> Failure:
    """What a client is told of an error at the edge."""
    message = str(error)
    if isinstance(error, _Answered | TooLarge):
        return error.failure
    if isinstance(error, Unauthenticated):
        return Failure(401, "authentication", message)
    if isinstance(error, Forbidden):
        return Failure(403, "permission", message)
    if isinstance(error, KeysUnavailable):
        return Failure(503, "overloaded", message, retry_after_s=5.0)
    if isinstance(error, StoreError):
        text = "what is stored cannot be reached now: try again in a moment"
        return Failure(503, "overloaded", text, code="store_unavailable", retry_after_s=5.0)
    if isinstance(error, OverLimit):
        return Failure(429, "rate_limit", message, retry_after_s=error.retry_after_s)
    if isinstance(error, OverBudget):
        return Failure(429, "quota", message)
    if isinstance(error, TooSlow):
        return Failure(408, "timeout", message, code="request_timeout")
    found = failure_of(error)
    if found.code in ("model_not_found", "not_found", "previous_response_not_found"):
        return Failure(404, "not_found", message, code=found.code, param=found.param)
    return found


def _token(headers: MutableMapping[str, str]) -> str | None:
    """The text of the client's key, from either API's header."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key", "").strip() or None
