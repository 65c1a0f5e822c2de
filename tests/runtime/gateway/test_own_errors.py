"""A mistake of ours is written down and paid for like any other end of a call."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from tests.served_gateway import PATHS, WIRES, Served, World, call, until

from tutelage.runtime.pipeline import Runtime

wires = pytest.mark.parametrize("wire", WIRES)
streamed = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
MISTAKE = "tutelage.runtime.gateway"


def stumble(*_: object, **__: object) -> Any:
    raise ZeroDivisionError("the password is tulip")


async def stumbled(served: Served, wire: str, model: str, stream: bool) -> bytes:
    """What a client got of a call that we stumbled over."""
    got = bytearray()
    try:
        async with served.open("POST", PATHS[wire], call(wire, model, stream=stream)) as response:
            async for piece in response.content.iter_any():
                got += piece
    except aiohttp.ClientPayloadError:
        pass
    await served.idle()
    return bytes(got)


async def test_a_mistake_before_anything_was_asked_costs_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing is paid, and nothing stays held back."""
    async with world.serve(is_open=False) as served:
        served.key = await served.issue(budget_usd=1.0)
        monkeypatch.setattr(Runtime, "begin", stumble)
        for stream in (False, True):
            await stumbled(served, "chat", "cascade", stream)
        standing = await served.settled(served.key)
    assert (standing.spent_usd, standing.reserved_usd) == (0.0, 0.0)


@wires
@streamed
@pytest.mark.parametrize("native", [True, False], ids=["native", "other"])
@pytest.mark.parametrize("model", ["passthrough", "teacher"])
async def test_a_mistake_after_the_teacher_answered_is_traced_and_paid(
    wire: str, stream: bool, native: bool, model: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is there when we stumble: it bills it all the same."""
    spoken = WIRES if native else [one for one in WIRES if one != wire][:1]
    async with world.serve(wires=spoken, is_open=False) as served:
        served.key = await served.issue(budget_usd=1.0)
        with monkeypatch.context() as patched:
            if native:
                patched.setattr(f"{MISTAKE}.teachers.NativeStream.__init__", stumble)
                patched.setattr(f"{MISTAKE}.teachers.NativeAnswer", stumble)
                patched.setattr(f"{MISTAKE}.pass_through.RelayedStream.__init__", stumble)
                patched.setattr(f"{MISTAKE}.pass_through.PassThrough._is_plain", stumble)
            else:
                patched.setattr(f"{MISTAKE}.teachers.ChatStream.__init__", stumble)
                patched.setattr(f"{MISTAKE}.teachers.ChatAnswer", stumble)
            raw = await stumbled(served, wire, model, stream)
            standing = await served.settled(served.key)
        (trace,) = await served.traces(tenant="acme")
    assert world.teacher.calls() == 1
    assert b"tulip" not in raw
    assert trace.error == "ZeroDivisionError"
    assert not trace.finished
    assert trace.cost_usd["teacher"] > 0
    assert standing.spent_usd == pytest.approx(sum(trace.cost_usd.values()), abs=1e-8)


@wires
@pytest.mark.parametrize("model", ["passthrough", "teacher"])
async def test_a_mistake_in_mid_stream_is_traced_and_paid(
    wire: str, model: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.teacher.gate = asyncio.Event()
    async with world.serve(is_open=False) as served:
        served.key = await served.issue(budget_usd=1.0)
        body = call(wire, model, stream=True)
        async with served.open("POST", PATHS[wire], body) as response:
            raw: bytes = await response.content.readuntil(b"\n\n")
            monkeypatch.setattr("tutelage.runtime.models.sse.EventParser.feed", stumble)
            world.teacher.gate.set()
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.readexactly(1_000_000)
        await until(lambda: not served.gateway.in_flight)
        (trace,) = await served.traces(tenant="acme")
        standing = await served.settled(served.key)
    assert b"tulip" not in raw
    assert trace.error == "ZeroDivisionError"
    assert not trace.finished
    assert standing.spent_usd == pytest.approx(sum(trace.cost_usd.values()), abs=1e-8)
    assert standing.spent_usd > 0


@streamed
async def test_a_mistake_over_the_samples_is_traced_and_paid(
    stream: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its samples are paid for, also where we stumble over them before anybody has answered."""
    async with world.serve(is_open=False) as served:
        served.key = await served.issue(budget_usd=1.0)
        monkeypatch.setattr("tutelage.cascade.agreement.Unanimous.measure", stumble)
        raw = await stumbled(served, "chat", "cascade", stream)
        (trace,) = await served.traces(tenant="acme")
        standing = await served.settled(served.key)
    assert b"tulip" not in raw
    assert trace.error is not None
    assert "tulip" not in trace.error
    assert world.student.calls() == 1
    assert standing.spent_usd == pytest.approx(sum(trace.cost_usd.values()), abs=1e-8)
    assert standing.spent_usd > 0
