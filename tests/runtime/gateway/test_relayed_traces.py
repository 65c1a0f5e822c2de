"""Traces that another process makes are those that the gateway would have made itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.served_gateway import Got, Served, World, call, tool

from tutelage.assembly import ledger
from tutelage.runtime.gateway.app import WIRES
from tutelage.runtime.gateway.conversations import Conversations
from tutelage.runtime.gateway.dictation import Dictation
from tutelage.runtime.gateway.relayed_traces import RelayedTraces
from tutelage.runtime.gateway.scribe import Scribe
from tutelage.runtime.types import Trace

TURNS = [
    {"role": "user", "content": "Task: find the mug"},
    {"role": "assistant", "content": "go to desk 1"},
    {"role": "user", "content": "On the desk is nothing."},
]


class Writing:
    """A process that writes traces, in this loop."""

    def __init__(self, served: Served, world: World, conversations: Conversations) -> None:
        self._loop = asyncio.get_running_loop()
        self._traces = RelayedTraces(
            served.gateway.parts.traces,
            ledger=ledger(world.config()),
            prices={
                one.name: one.price
                for alias in served.gateway.parts.aliases.by_name.values()
                for one in alias.upstreams
            },
            wires=WIRES,
            conversations=conversations,
            count_tokens=served.gateway.parts.count_tokens,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, sock: socket.socket) -> Writing:
        copy = sock.dup()
        copy.setblocking(False)
        self._loop.call_soon_threadsafe(self._begin, copy)
        return self

    def _begin(self, sock: socket.socket) -> None:
        self._tasks.append(self._loop.create_task(Dictation(self._traces, sock).take()))

    def wait(self, timeout: float | None = None) -> int:
        return 0

    def kill(self) -> None:
        raise AssertionError("it ends when it is told to")

    async def finish(self) -> None:
        await asyncio.gather(*self._tasks)
        await self._traces.finish()


@asynccontextmanager
async def written_apart(
    world: World, conversations: Conversations | None = None, **options: Any
) -> AsyncIterator[Served]:
    """A gateway whose relayed calls are traced by another process."""
    async with world.serve({}, **options) as served:
        writing = Writing(
            served, world, Conversations() if conversations is None else conversations
        )
        scribe = Scribe(writing.start)
        served.gateway._parts = replace(served.gateway.parts, scribe=scribe)
        scribe.open()
        yield served
        await served.idle()
        await scribe.aclose()
        await writing.finish()


def alike(trace: Trace) -> dict[str, Any]:
    """A trace without what differs between two calls that are alike."""
    assert set(trace.latency_s) == {"teacher", "total"}
    assert 0 < trace.latency_s["teacher"] <= trace.latency_s["total"]
    shown = trace.model_dump()
    for name in ("id", "created_at_s", "latency_s", "episode_id"):
        del shown[name]
    return shown


async def traced(served: Served, wire: str, fault: str | None, **fields: Any) -> tuple[Got, Trace]:
    headers = {"x-tutelage-no-train": "1", **({"x-fault": fault} if fault else {})}
    got = await served.ask(wire, call(wire, "passthrough", **fields), headers)
    (trace,) = await served.traces()
    assert trace.id == got.told("decision-id")
    return got, trace


@pytest.mark.parametrize("wire", ["chat", "responses", "messages"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", [None, "no-usage", "500", "cut", "malformed"])
async def test_a_trace_is_the_same_whoever_writes_it(
    wire: str, stream: bool, fault: str | None, world: World
) -> None:
    world.teacher.fault = fault
    fields = {"stream": stream, "tools": [tool(wire)]}
    async with world.serve() as served:
        here, mine = await traced(served, wire, None, **fields)
        counted = await served.metrics()
    await clear(world)
    async with written_apart(world) as served:
        there, theirs = await traced(served, wire, None, **fields)
        await served.counted('tutelage_decisions_total{reason="passthrough"')
        counted_there = await served.metrics()

    assert here.status == there.status
    assert alike(mine) == alike(theirs)
    assert decisions(counted) == decisions(counted_there)


def decisions(metrics: str) -> list[str]:
    """What the metrics say of decisions, tokens and money."""
    names = (
        "tutelage_decisions_total",
        "tutelage_cost",
        "tutelage_baseline",
        "gen_ai_client_token",
    )
    return [
        line for line in metrics.splitlines() if line.startswith(names) and "_created" not in line
    ]


async def clear(world: World) -> None:
    """Forgets the traces, so that the next ones are the only ones."""
    from sqlalchemy import text

    from tutelage.runtime.store.database import open_engine

    def empty() -> None:
        engine = open_engine(world.config().store.url)
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM traces"))
        engine.dispose()

    await asyncio.to_thread(empty)


async def test_a_client_that_leaves_is_traced_there_too(world: World) -> None:
    world.teacher.gate = asyncio.Event()
    async with written_apart(world) as served:
        asking = asyncio.create_task(served.ask("chat", call("chat", "passthrough")))
        await world.teacher.arrived(1)
        asking.cancel()
        (trace,) = await served.traces()

    assert not trace.finished
    assert trace.error == "cancelled: the caller left before the answer was complete"
    assert trace.usage["teacher"].input_tokens > 0


async def test_an_episode_goes_on_in_another_call(world: World) -> None:
    async with written_apart(world) as served:
        first = {"model": "passthrough", "messages": TURNS[:1]}
        world.teacher.say = TURNS[1]["content"]
        await served.ask("chat", first)
        await served.traces(1)
        await served.ask("chat", {"model": "passthrough", "messages": TURNS})
        traces = await served.traces(2)

    assert len({trace.episode_id for trace in traces}) == 1
    assert [trace.step_index for trace in traces] == [0, 1]


async def test_workers_find_each_others_conversations(world: World) -> None:
    class Shared:
        """Remembers for all of them."""

        def __init__(self) -> None:
            self.saved: dict[tuple[str, str], str] = {}

        async def load(self, tenant: str, digest: str) -> str | None:
            return self.saved.get((tenant, digest))

        async def save(self, tenant: str, digest: str, episode_id: str) -> None:
            self.saved[tenant, digest] = episode_id

    shared = Shared()
    world.teacher.say = TURNS[1]["content"]
    async with written_apart(world, Conversations(store=shared)) as served:
        await served.ask("chat", {"model": "passthrough", "messages": TURNS[:1]})
        await served.traces(1)
    async with written_apart(world, Conversations(store=shared)) as served:
        await served.ask("chat", {"model": "passthrough", "messages": TURNS})
        traces = await served.traces(2)

    assert len({trace.episode_id for trace in traces}) == 1


async def test_what_finds_no_place_is_traced_here(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tutelage.runtime.gateway.step_call._PLACE_S", 0.0)
    async with world.serve() as served:
        full = Scribe(lambda _: pytest.fail("nothing is started"), most_bytes=0)
        served.gateway._parts = replace(served.gateway.parts, scribe=full)
        got = await served.ask("chat", call("chat", "passthrough"))
        (trace,) = await served.traces()

    assert trace.id == got.told("decision-id")


async def test_a_reserved_call_is_settled_and_traced_there(world: World) -> None:
    async with written_apart(world, is_open=False) as served:
        served.key = await served.issue(budget_usd=1000.0)
        got = await served.ask("chat", call("chat", "passthrough", max_tokens=5))
        (trace,) = await served.traces(tenant="acme")
        standing = await served.settled(served.key)

    assert got.status == 200
    assert standing.spent_usd == pytest.approx(sum(trace.cost_usd.values()), abs=1e-9)
