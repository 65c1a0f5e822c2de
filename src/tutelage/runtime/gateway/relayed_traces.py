"""Traces of calls that were passed on unread, made where nobody waits for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import orjson

from tutelage.runtime.deliberation import new_deliberation
from tutelage.runtime.episode import Episode
from tutelage.runtime.errors import BadRequest, StoreError
from tutelage.runtime.gateway.conversations import Conversations, read_prefix
from tutelage.runtime.gateway.episodes import Episodes
from tutelage.runtime.gateway.relayed import Note, Relayed, spoken, usage_of
from tutelage.runtime.ledger import Ledger
from tutelage.runtime.pricing import Price
from tutelage.runtime.prompt import CountTokens
from tutelage.runtime.protocols import TraceStore
from tutelage.runtime.tracing import Tracer
from tutelage.runtime.types import Answer, ChatRequest, Reason, Trace
from tutelage.runtime.wires.protocol import Wire, WireName

Settle = Callable[[StoreError | None], object]


class RelayedTraces:
    """Makes the traces of relayed calls, in the order in which the calls ended.

    Args:
        traces: Where they go.
        ledger: Prices the teacher's tokens.
        prices: Prices of upstreams that have their own, by name.
        wires: By name.
        conversations: Finds the episode of a client that names no session.
        count_tokens: Tokens of a text.
    """

    def __init__(
        self,
        traces: TraceStore,
        *,
        ledger: Ledger,
        prices: Mapping[str, Price | None],
        wires: Mapping[WireName, Wire],
        conversations: Conversations,
        count_tokens: CountTokens,
    ) -> None:
        self._created_at_s = self._total_s = 0.0
        self._tracer = Tracer(
            traces,
            ledger,
            count_tokens,
            clock=lambda: self._created_at_s,
            timer=lambda: self._total_s,
        )
        self._prices = prices
        self._wires = wires
        self._conversations = conversations
        self._episodes = Episodes(_Unserved())
        self._remembering: set[asyncio.Task[None]] = set()

    @property
    def lost(self) -> int:
        """Traces that could not be kept."""
        return self._tracer.lost

    async def write(self, call: Relayed, settled: Settle) -> Note | None:
        """Makes the trace of a call and has it kept.

        Args:
            call: The call.
            settled: Called when the trace is durable or lost; never if there is none.

        Returns:
            What the trace says; ``None``: the body is no call of its wire, so there is no trace.
        """
        trace = await self._trace(call)
        if trace is None:
            return None
        if not self._tracer.post(trace, settled):
            # Too many wait: reading no more calls is what slows the gateway down.
            await self._tracer.store(trace)
            settled(None)
        return Note(
            trace.episode_id,
            trace.step_index,
            trace.cost_usd.get("teacher"),
            trace.baseline_cost_usd,
        )

    async def finish(self) -> None:
        """Waits until the conversations are remembered elsewhere, too."""
        while self._remembering:
            await asyncio.wait(self._remembering)

    async def _trace(self, call: Relayed) -> Trace | None:
        try:
            request = self._wires[call.wire].read(orjson.loads(call.raw)).request
        except BadRequest:
            return None
        tenant, session, prefix = call.tenant, call.session, None
        if session is None:
            prefix = read_prefix(request.messages)
            session = await self._conversations.find(tenant, prefix)
        episodes = self._episodes
        episode = episodes.passing(tenant) if session is None else episodes.episode(tenant, session)
        thought = new_deliberation(request, episode, call.id, 0.0, "passthrough")
        thought.key_id, thought.no_train = call.key_id, call.no_train
        thought.latency_s["teacher"] = call.teacher_s
        thought.teacher_price = self._prices.get(call.upstream or "")
        thought.error, thought.finished = call.error, call.error is None
        if call.is_estimated:
            thought.estimated.add("teacher")
        thought.defer(Reason.PASSTHROUGH)
        completion = spoken(call.message)
        episode.served[thought.step.index] = "teacher"
        self._created_at_s, self._total_s = call.created_at_s, call.total_s
        usage = None if call.usage is None else usage_of(call.usage)
        trace = self._tracer.trace(thought, completion, usage)
        episode.spent_usd += sum(trace.cost_usd.values())
        if prefix is not None and completion is not None:
            message = completion.choices[0].message
            await self._remember(self._conversations.remember(tenant, prefix, message, episode.id))
        return trace

    async def _remember(self, remembering: Coroutine[Any, Any, None]) -> None:
        """Remembers a conversation: here at once, elsewhere as soon as the database has it."""
        if not self._conversations.is_shared:
            await remembering
            return
        task = asyncio.get_running_loop().create_task(remembering)
        self._remembering.add(task)
        task.add_done_callback(self._remembering.discard)
        # It is known here from its first step on.
        await asyncio.sleep(0)


class _Unserved:
    """What stands behind episodes of which only is written down who served their steps."""

    async def complete(self, request: ChatRequest, *, episode: Episode | None = None) -> Answer:
        raise NotImplementedError("the gateway serves, not the process that writes its traces")

    async def record_episode(
        self, episode: Episode, *, success: bool | None = None, reward: float | None = None
    ) -> None:
        raise NotImplementedError("the gateway records how episodes end")
