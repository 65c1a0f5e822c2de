"""Under load, with clients that leave at any moment, every answer is its own and is paid for."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp
import pytest
from tests.fault_upstream import Fault, Received
from tests.served_gateway import (
    PATHS,
    WIRES,
    Got,
    Served,
    Steered,
    World,
    call,
    streamed_text,
    text_of,
    until,
)
from tests.upstream_answers import last_text

from tutelage.runtime.types import Trace

wires = pytest.mark.parametrize("wire", WIRES)
NONCE = re.compile(rb"nonce-(\d+)-end")
MODELS = ("passthrough", "teacher", "cascade", "route", "shadow", "student", "two")
TENANTS = ("acme", "bolt", "core")


def nonces(raw: bytes) -> set[int]:
    return {int(number) for number in NONCE.findall(raw)}


def said(wire: str, stream: bool, raw: bytes) -> str:
    """The text of an answer, of a stream as far as it came."""
    got = Got(200, {}, raw)
    return streamed_text(wire, got) if stream else text_of(wire, got.json)


@dataclass
class Crowd:
    """Clients that ask, and leave when they like."""

    served: Served
    keys: dict[str, str]
    random: Random
    owners: dict[int, str] = field(default_factory=dict)
    """The tenant of each nonce."""
    ends: Counter[str] = field(default_factory=Counter)

    async def ask(self, number: int, *, leaves: bool) -> None:
        random = self.random
        tenant = random.choice(TENANTS)
        self.owners[number] = tenant
        wire, model = random.choice(WIRES), random.choice(MODELS)
        stream = random.random() < 0.5
        body = call(wire, model, f"nonce-{number}-end", stream=stream)
        headers = {"authorization": f"Bearer {self.keys[tenant]}"}
        got = bytearray()
        reading = asyncio.create_task(self._read(wire, body, headers, got))
        if leaves:
            # Anywhere between the connection and the end of the answer, often within it.
            if random.random() < 0.3:
                await until(lambda: bool(got) or reading.done())
            await asyncio.sleep(random.random() ** 2 * 0.03)
            reading.cancel()
        try:
            status = await reading
        except asyncio.CancelledError:
            self.ends["left"] += 1
            self.ends["left in mid-answer"] += bool(got)
        else:
            self.ends["answered"] += 1
            assert status == 200, bytes(got)
            assert said(wire, stream, bytes(got)) == f"nonce-{number}-end"
        assert nonces(bytes(got)) <= {number}
        if stream:
            assert f"nonce-{number}-end".startswith(said(wire, stream, bytes(got)))

    async def _read(self, wire: str, body: Any, headers: dict[str, str], got: bytearray) -> int:
        async with self.served.open("POST", PATHS[wire], body, headers) as response:
            async for piece in response.content.iter_any():
                got += piece
            return int(response.status)


@pytest.fixture
async def crowd(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Crowd]:
    random = Random(7)

    def fault_for(self: Steered, request: Received) -> Fault:
        kind = random.choice(["text", "text", "slow", "dribble"])
        delay_ms = random.randint(1, 25) if kind == "slow" else 1
        return Fault(kind, {"delay-ms": str(delay_ms), "size": "100"})

    monkeypatch.setattr(Steered, "fault_for", fault_for)
    for upstream in (world.teacher, world.second, world.student):
        upstream.say = last_text
    async with world.serve({"gateway.log_requests": False}, is_open=False) as served:
        keys = {tenant: await served.issue(tenant=tenant) for tenant in TENANTS}
        yield Crowd(served, keys, random)


async def all_answers_are_their_own(crowd: Crowd, count: int, at_once: int) -> None:
    gate = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with gate:
            await crowd.ask(number, leaves=crowd.random.random() < 0.7)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))
    await crowd.served.idle()


async def what_is_kept_is_whole(crowd: Crowd) -> None:
    """No trace mixes two requests, or stands with another tenant than the one that asked."""
    gateway = crowd.served.gateway
    seen: set[int] = set()
    for tenant in TENANTS:
        for trace in await gateway.parts.traces.traces(tenant, limit=100_000):
            found = nonces(trace.model_dump_json().encode())
            assert len(found) == 1
            assert {crowd.owners[number] for number in found} == {tenant}
            assert not found & seen
            seen |= found
    assert len(seen) >= crowd.ends["answered"]
    # Nothing is asked of an upstream any more, and none was taken for broken.
    for alias in gateway.parts.aliases.by_name.values():
        for upstream in alias.upstreams:
            assert upstream.transport is not None
            assert upstream.transport.in_flight == 0
            assert upstream.transport.breaker is not None
            assert upstream.transport.breaker.state == "closed"


async def test_no_answer_goes_to_another_request_while_clients_leave(crowd: Crowd) -> None:
    await all_answers_are_their_own(crowd, 300, at_once=50)
    await what_is_kept_is_whole(crowd)
    assert min(crowd.ends["left"], crowd.ends["answered"]) > 30


@pytest.mark.slow
async def test_two_thousand_clients_that_leave_mix_up_nothing(crowd: Crowd, world: World) -> None:
    while crowd.ends["left"] < 2000:
        done = len(crowd.owners)
        gate = asyncio.Semaphore(120)

        async def one(number: int, gate: asyncio.Semaphore = gate) -> None:
            async with gate:
                await crowd.ask(number, leaves=crowd.random.random() < 0.85)

        await asyncio.gather(*(one(done + index) for index in range(500)))
    await crowd.served.idle()
    await what_is_kept_is_whole(crowd)
    # They left at every point: before an upstream was asked, while it was, and in its answer.
    assert crowd.ends["left in mid-answer"] > 50
    assert world.teacher.left + world.second.left + world.student.left > 100
    before = crowd.ends["answered"]
    await asyncio.gather(*(crowd.ask(1_000_000 + n, leaves=False) for n in range(60)))
    assert crowd.ends["answered"] == before + 60


@wires
async def test_a_connection_that_is_used_again_starts_afresh(wire: str, crowd: Crowd) -> None:
    """Keys, sessions and answers are of a request, never of a connection."""
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector) as client:
        crowd.served.client, old = client, crowd.served.client
        try:
            for number in range(12):
                tenant = TENANTS[number % 3]
                headers = {"authorization": f"Bearer {crowd.keys[tenant]}"}
                if number % 4 == 3:
                    got = await crowd.served.send("POST", PATHS[wire], {}, {"x-api-key": "no"})
                    assert got.status == 401
                    continue
                body = call(wire, "cascade", f"nonce-{number}-end", stream=number % 2 == 0)
                got = await crowd.served.ask(wire, body, headers)
                assert said(wire, number % 2 == 0, got.raw) == f"nonce-{number}-end"
                trace = await written(crowd.served, tenant, got.told("decision-id"))
                assert nonces(trace.model_dump_json().encode()) == {number}
        finally:
            crowd.served.client = old


async def written(served: Served, tenant: str, id: str | None) -> Trace:
    """The trace of a call, once it is there."""
    async with asyncio.timeout(20):
        while True:
            found = await served.gateway.parts.traces.trace(tenant, str(id))
            if found is not None:
                return found
            await asyncio.sleep(0.005)


# Money.

BUDGET_USD = 0.01


@pytest.mark.parametrize("model", ["passthrough", "teacher", "cascade"])
@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_two_hundred_calls_at_once_never_reserve_more_than_the_budget(
    model: str, stream: bool, world: World
) -> None:
    """All are let in or turned away before the first is paid for."""
    gate = asyncio.Event()
    for upstream in (world.teacher, world.student):
        upstream.gate = gate
    async with world.serve(is_open=False) as served:
        served.key = await served.issue(budget_usd=BUDGET_USD)
        caller = await served.gateway.parts.doorkeeper.identify(served.key)
        calls = [
            asyncio.create_task(
                served.ask(wire, {**call(wire, model, stream=stream), LIMIT[wire]: 5})
            )
            for wire in (*WIRES, "chat") * 50
        ]
        # The gateway turns away all it will before it hears from an upstream.
        async with asyncio.timeout(30):
            while True:
                standing = await served.gateway.parts.admission.explain(caller)
                refused = sum(one.done() for one in calls)
                assert standing.reserved_usd <= BUDGET_USD
                if refused + (waiting := served.gateway.in_flight) == 200 and waiting < 100:
                    break
                await asyncio.sleep(0.01)
        gate.set()
        got = await asyncio.gather(*calls)
        standing = await served.settled(served.key)
    counts = Counter(one.status for one in got)
    assert set(counts) == {200, 429}
    assert counts[429] >= 100
    assert 0 < standing.spent_usd <= BUDGET_USD
    assert world.teacher.calls() + world.student.calls() == counts[200]


LIMIT = {
    "chat": "max_completion_tokens",
    "responses": "max_output_tokens",
    "messages": "max_tokens",
}


async def test_a_budget_holds_while_clients_leave_and_upstreams_fail(world: World) -> None:
    """It is spent to the last call, over all paths, and not one dollar further."""
    random = Random(3)
    faults = [None, None, "500", "cut", "slow;delay-ms=5", "malformed", "reset"]
    async with world.serve(
        {"teacher.break_after": 100_000, "upstreams.second.break_after": 100_000}, is_open=False
    ) as served:
        served.key = await served.issue(budget_usd=BUDGET_USD)

        async def ask() -> int:
            wire = random.choice(WIRES)
            model = random.choice(["passthrough", "teacher", "cascade", "two"])
            body = call(wire, model, stream=random.random() < 0.5)
            for upstream in (world.teacher, world.second, world.student):
                upstream.fault = random.choice(faults)
            asking = asyncio.create_task(served.ask(wire, {**body, LIMIT[wire]: 5}))
            if random.random() < 0.2:
                await asyncio.sleep(random.random() * 0.01)
                asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                return (await asking).status
            return 0

        found: Counter[int] = Counter()
        while found[429] < 50:
            found.update(await asyncio.gather(*(ask() for _ in range(10))))
            standing = await served.settled(served.key)
            assert standing.spent_usd <= BUDGET_USD
        # What was booked is what the traces say, once the last one is written; some calls were
        # given up before they cost anything.
        booked = pytest.approx(standing.spent_usd, abs=1e-8)
        async with asyncio.timeout(10):
            while await told_usd(served) != booked:  # noqa: ASYNC110 - it is written by a thread
                await asyncio.sleep(0.01)
    assert standing.spent_usd > BUDGET_USD / 2


async def told_usd(served: Served) -> float:
    """What all traces together have cost."""
    traces = await served.gateway.parts.traces.traces("acme", limit=10_000)
    return sum(sum(trace.cost_usd.values()) for trace in traces)


LIMITS: list[dict[str, Any]] = [
    {"max_tokens": 100_000},
    {"max_completion_tokens": 1, "max_tokens": 100_000},
    {"max_tokens": 1, "max_completion_tokens": 100_000},
    {"max_output_tokens": 1, "max_tokens": 100_000},
    {"max_tokens": 1, "max_output_tokens": 100_000},
    {"max_tokens": 100_000.0},
    {"max_tokens": 1, "max_completion_tokens": 99_999.5},
    {"max_tokens": 1000, "n": 100},
    {"max_tokens": 1000, "n": 100.0},
    {"max_tokens": 1000, "best_of": 100},
]


@wires
@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("model", ["passthrough", "teacher"])
async def test_no_second_limit_hides_what_a_call_may_cost(
    wire: str, limits: dict[str, Any], model: str, world: World
) -> None:
    """Which of several limits counts is for the upstream to say: the largest is reserved."""
    async with world.serve(is_open=False) as served:
        served.key = await served.issue(budget_usd=0.1)
        got = await served.ask(wire, {**call(wire, model), **limits})
        dear = await served.ask(wire, call(wire, model), {"x-tutelage-max-cost-usd": "0.1"})
    assert got.status in (400, 429)
    assert dear.status == 200
    assert world.teacher.calls() == 1


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
async def test_what_is_only_relayed_is_paid_from_the_same_budget(path: str, world: World) -> None:
    async with world.serve(is_open=False) as served:
        served.key = await served.issue(budget_usd=0.0015)
        body = {"model": "passthrough", "prompt": "x", "input": "x", "max_tokens": 5}
        found: Counter[int] = Counter()
        for _ in range(40):
            got = await asyncio.gather(*(served.send("POST", path, body) for _ in range(5)))
            found.update(one.status for one in got)
            if found[429]:
                break
        standing = await served.settled(served.key)
    assert set(found) == {200, 429}
    assert 0 < standing.spent_usd <= 0.0015


async def test_parallel_requests_are_counted_over_all_paths(world: World) -> None:
    gate = world.teacher.gate = asyncio.Event()
    async with world.serve(is_open=False) as served:
        served.key = await served.issue(parallel_requests=3)
        calls = [
            asyncio.create_task(served.ask(wire, call(wire, "passthrough", stream=stream)))
            for wire in WIRES
            for stream in (False, True)
        ]
        await world.teacher.arrived(3)
        await until(lambda: sum(one.done() for one in calls) == 3)
        gate.set()
        found = Counter(one.status for one in await asyncio.gather(*calls))
        caller = await served.gateway.parts.doorkeeper.identify(served.key)
        admission = served.gateway.parts.admission
        async with asyncio.timeout(20):
            while (await admission.explain(caller)).in_flight:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        again = await served.ask("chat", call("chat", "passthrough"))
    assert found == {200: 3, 429: 3}
    assert again.status == 200
