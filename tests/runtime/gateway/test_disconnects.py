"""A client that leaves, at any phase: what was asked is cancelled, written down and paid."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from tests.served_gateway import PATHS, WIRES, Served, Steered, World, call, until

from tutelage.retrieval.selection import KeyedRetriever
from tutelage.runtime.gateway.keyring import Keyring

wires = pytest.mark.parametrize("wire", WIRES)
streamed = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
LIMIT_S = 1.0
"""How long an upstream's call may outlive its client."""


@dataclass
class Phase:
    """Where a request is when its client leaves."""

    model: str
    prepare: Callable[[World], None]
    asked: tuple[str, ...]
    """Who is being asked then."""
    upstream_wires: tuple[str, ...] = WIRES
    begun: bool = False
    """Whether a stream has begun by then."""
    costs: set[str] = field(default_factory=set)
    """Whose tokens are on the bill."""


def student_hangs(world: World) -> None:
    world.student.fault = "hang"


def teacher_hangs(world: World) -> None:
    world.teacher.fault = "hang"


def teacher_stops(world: World) -> None:
    world.teacher.fault = "hang-body"


def student_stops(world: World) -> None:
    world.student.fault = "hang-body"


def both_hang(world: World) -> None:
    student_hangs(world)
    teacher_hangs(world)


def refused(then: Callable[[World], None]) -> Callable[[World], None]:
    def prepare(world: World) -> None:
        world.student.disagree()
        then(world)

    return prepare


T, S = ("teacher",), ("student",)
PHASES = {
    "student-before-first-byte": Phase("cascade", student_hangs, S, costs={"student"}),
    "routed-before-first-byte": Phase("route", student_hangs, S, costs={"student"}),
    "teacher-before-first-byte": Phase("teacher", teacher_hangs, T, costs={"teacher"}),
    "relayed-before-first-byte": Phase("passthrough", teacher_hangs, T, costs={"teacher"}),
    "between-samples-and-teacher": Phase(
        "cascade", refused(teacher_hangs), T, costs={"student", "teacher"}
    ),
    "shadow": Phase("shadow", both_hang, T + S, costs={"student", "teacher"}),
    "student-samples-half-there": Phase("cascade", student_stops, S, costs={"student"}),
    "routed-mid-stream": Phase("route", student_stops, S, begun=True, costs={"student"}),
    "teacher-mid-stream": Phase("teacher", teacher_stops, T, begun=True, costs={"teacher"}),
    "relayed-mid-stream": Phase("passthrough", teacher_stops, T, begun=True, costs={"teacher"}),
    "refused-mid-stream": Phase(
        "cascade", refused(teacher_stops), T, begun=True, costs={"student", "teacher"}
    ),
    "other-wire-mid-stream": Phase(
        "teacher", teacher_stops, T, ("other",), begun=True, costs={"teacher"}
    ),
}


def upstream(world: World, role: str) -> Steered:
    return world.teacher if role == "teacher" else world.student


@wires
@streamed
@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
async def test_what_was_asked_is_cancelled_written_down_and_paid(
    wire: str, stream: bool, phase: Phase, world: World
) -> None:
    other = ("messages" if wire == "chat" else "chat",)
    upstream_wires = other if phase.upstream_wires == ("other",) else WIRES
    phase.prepare(world)
    asked = [upstream(world, role) for role in phase.asked]
    async with world.serve(wires=upstream_wires, is_open=False) as served:
        key = served.key = await served.issue(budget_usd=1.0)
        body = call(wire, phase.model, stream=stream)

        left_s = await hang_up(served, wire, body, asked, begun=phase.begun and stream)
        for one in asked:
            await one.disconnected(within_s=10)
        (trace,) = await served.traces(tenant="acme")
        standing = await served.settled(key)
        await served.counted('outcome="cancelled"')

    for one in asked:
        (gone_s,) = [r.disconnected_s for r in one.requests if r.disconnected_s is not None]
        assert gone_s - left_s < LIMIT_S
    assert trace.error is not None
    assert trace.error.startswith("cancelled")
    assert set(trace.cost_usd) == phase.costs
    assert standing.spent_usd == pytest.approx(sum(trace.cost_usd.values()), abs=1e-9)
    assert standing.spent_usd > 0


async def hang_up(
    served: Served, wire: str, body: Any, asked: list[Steered], *, begun: bool
) -> float:
    """Makes a call and leaves once all who are asked have it; the time of that.

    Args:
        begun: Whether the answer's first piece is waited for.
    """
    first = asyncio.Event()

    async def wait() -> None:
        async with served.open("POST", PATHS[wire], body) as response:
            await response.content.readany()
            first.set()
            await response.read()

    asking = asyncio.create_task(wait())
    for one in asked:
        await one.arrived(within_s=20)
    if begun:
        await asyncio.wait_for(first.wait(), 20)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    return time.monotonic()


@streamed
async def test_a_client_that_leaves_while_its_key_is_looked_up_costs_nothing(
    stream: bool, guarded: Served, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()
    identify = Keyring.identify

    async def slowly(self: Keyring, token: str | None) -> object:
        asked.set()
        await go_on.wait()
        return await identify(self, token)

    guarded.key = await guarded.issue()
    monkeypatch.setattr(Keyring, "identify", slowly)
    asking = asyncio.create_task(guarded.ask("chat", call("chat", "cascade", stream=stream)))
    await asyncio.wait_for(asked.wait(), 10)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: not guarded.server.server_state.connections)
    go_on.set()
    await guarded.idle()
    await guarded.counted('outcome="cancelled"')

    assert world.student.calls() == world.teacher.calls() == 0
    assert await guarded.gateway.parts.traces.traces("acme") == []


@wires
@streamed
async def test_a_client_that_leaves_during_retrieval_stops_it(
    wire: str, stream: bool, served: Served, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    searching, stopped = asyncio.Event(), asyncio.Event()

    async def search(*_: object) -> object:
        searching.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return ()

    monkeypatch.setattr(KeyedRetriever, "search", search)
    asking = asyncio.create_task(served.ask(wire, call(wire, "cascade", stream=stream)))
    await asyncio.wait_for(searching.wait(), 10)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.wait_for(stopped.wait(), 10)
    (trace,) = await served.traces()

    assert trace.error is not None
    assert trace.error.startswith("cancelled")
    assert trace.cost_usd == {}
    assert world.student.calls() == world.teacher.calls() == 0


async def test_a_client_that_leaves_while_it_sends_its_request_costs_nothing(
    served: Served, world: World
) -> None:
    port = int(served.base_url.rsplit(":", 1)[1])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 500\r\n\r\n{")
    await until(lambda: served.gateway.in_flight == 1)
    writer.close()
    await served.idle()
    await served.counted('outcome="cancelled"')

    assert world.student.calls() == world.teacher.calls() == 0


async def test_a_cancelled_call_takes_its_connection_with_it(served: Served, world: World) -> None:
    """What is left of its answer never reaches another client."""
    world.teacher.say = "a secret of the first client"
    world.teacher.fault = "hang-body"
    for _ in range(5):
        await hang_up(served, "chat", call("chat", "passthrough", stream=True), [], begun=True)
    world.teacher.fault, world.teacher.say = None, lambda body: body["messages"][-1]["content"]

    answers = await asyncio.gather(
        *(served.ask("chat", call("chat", "passthrough", f"nonce {n}")) for n in range(20))
    )

    texts = [answer.json["choices"][0]["message"]["content"] for answer in answers]
    assert texts == [f"nonce {n}" for n in range(20)]


@pytest.mark.slow
async def test_every_answer_is_its_own_among_clients_that_leave(
    served: Served, world: World
) -> None:
    world.teacher.say = lambda body: str(body["messages"][-1]["content"])
    world.student.say = world.teacher.say
    world.teacher.fault = "dribble;size=40;delay-ms=1"

    async def ask(number: int) -> str | None:
        model = ("passthrough", "cascade", "route")[number % 3]
        body = call("chat", model, f"nonce {number}", stream=number % 2 == 0)
        asking = asyncio.create_task(served.ask("chat", body))
        if number % 4 == 0:
            await asyncio.sleep(0.002 * (number % 7))
            asking.cancel()
        try:
            return (await asking).raw.decode()
        except (asyncio.CancelledError, aiohttp.ClientError):
            return None

    for start in range(0, 400, 40):
        answers = await asyncio.gather(*(ask(number) for number in range(start, start + 40)))
        for number, answer in enumerate(answers, start):
            others = {f"nonce {n}" for n in range(start, start + 40)} - {f"nonce {number}"}
            assert answer is None or not any(f'"{other}"' in answer for other in others)
    await served.idle()
