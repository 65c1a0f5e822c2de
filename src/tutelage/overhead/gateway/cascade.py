"""Cascade mode: a large bank, and a student that answers at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

from tutelage.overhead.gateway.calls import step_calls
from tutelage.overhead.gateway.contenders import Running, running
from tutelage.overhead.gateway.filled_bank import filled_bank
from tutelage.overhead.gateway.load import Load, Loaded, call_bytes, joined, send_load, write_calls
from tutelage.overhead.gateway.our_gateway import Service, our_gateway
from tutelage.overhead.gateway.processes import spent
from tutelage.overhead.gateway.ratios import median, ratio
from tutelage.overhead.gateway.stalls import Stalls, read_stalls
from tutelage.overhead.gateway.upstream import Upstream, open_upstream
from tutelage.runtime.errors import BenchmarkError

HEADER = "x-tutelage-overhead-ms"
ANSWER = "look"
AT_ONCE = 16
PROOFS = ("x-tutelage-samples", "x-tutelage-demos")
HEALTH_PATH = "/healthz"
HEALTH_PAUSE_US = 2000


@dataclass(frozen=True, slots=True)
class CascadePlan:
    """How cascade mode is measured."""

    demonstrations: int = 100_000
    requests: int = 400
    """In each window; no two of a run are alike."""
    rounds: int = 3
    """Of tracing on against off."""
    hash_embedder: bool = False
    """Instead of MiniLM, for tests: embedding then costs nothing."""


@dataclass(frozen=True, slots=True)
class CascadeWindow:
    """Requests of one window; times in milliseconds."""

    name: str
    connections: int
    sent: int
    failed: int
    rps: float
    p50_ms: float
    p99_ms: float
    overhead_p50_ms: float
    """Without waiting for the upstream, as the gateway says in its header."""
    overhead_p99_ms: float
    cpu_us: float
    """CPU of the gateway a request."""


@dataclass(frozen=True, slots=True)
class Cascade:
    """What was measured."""

    demonstrations: int
    windows: tuple[CascadeWindow, ...]
    stalls: dict[str, Stalls | None]
    """By number of connections, for example ``c1``."""
    health_p50_ms: float
    """Of a health request while 16 clients are served."""
    health_most_ms: float
    rps_on_over_off: float | None
    """Median over the rounds: with tracing over without."""


async def measure_cascade(
    folder: Path,
    cache: Path,
    plan: CascadePlan,
    random: Random,
    progress: Callable[[str], None] = lambda _: None,
) -> Cascade:
    """Fills a bank, and serves steps of household episodes in front of it.

    Args:
        folder: Gets bank, configurations and logs.
        cache: Keeps compiled programs and the bank.
        plan: How much.
        random: Draws who is first in each round.
        progress: Called with a line before each slow step.

    Raises:
        BenchmarkError: The gateway does not start, or answers nothing.
        RetrievalError: The embedder's weights are missing.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    progress(f"bank of {plan.demonstrations:,} demonstrations")
    size = await filled_bank(folder, cache, plan.demonstrations, hash_embedder=plan.hash_embedder)
    with open_upstream(folder / "upstream", cache, text=ANSWER) as upstream:
        progress("cascade: stalls of the event loop")
        stalls, health = await _stalls(folder, upstream, plan)
        progress("cascade: time of our own, tracing on and off")
        windows = await _windows(folder, upstream, plan, random)
    rounds = range(plan.rounds)
    by_name = {one.name: one for one in windows}
    ratios = [ratio(by_name[f"on {n}"].rps, by_name[f"off {n}"].rps) for n in rounds]
    return Cascade(
        demonstrations=size,
        windows=tuple(windows),
        stalls=stalls,
        health_p50_ms=health.latency_ms(50),
        health_most_ms=health.latency_ms(100),
        rps_on_over_off=median(ratios),
    )


async def _stalls(
    folder: Path, upstream: Upstream, plan: CascadePlan
) -> tuple[dict[str, Stalls | None], Loaded]:
    ticks = folder / "ticks"
    spans: dict[str, tuple[int, int]] = {}
    service = _service("tutelage, probed", plan, probe=ticks)
    with running(await our_gateway(service, upstream, folder), folder) as gateway:
        calls = _Calls(folder / "probed.calls", gateway, 3 * plan.requests + len(PROOFS))
        await calls.check()
        await calls.send(1, plan.requests)
        begin_ns = time.monotonic_ns()
        await calls.send(1, plan.requests)
        spans["c1"] = (begin_ns, time.monotonic_ns())
        begin_ns = time.monotonic_ns()
        health = await calls.send_beside_health(AT_ONCE, plan.requests)
        spans[f"c{AT_ONCE}"] = (begin_ns, time.monotonic_ns())
    return {name: read_stalls(ticks, *span) for name, span in spans.items()}, health


async def _windows(
    folder: Path, upstream: Upstream, plan: CascadePlan, random: Random
) -> list[CascadeWindow]:
    on = await our_gateway(_service("tutelage, cascade", plan), upstream, folder)
    off = await our_gateway(_service("tutelage, untraced", plan, trace=False), upstream, folder)
    count = plan.requests * (plan.rounds + 2)
    with running(on, folder) as traced, running(off, folder) as untraced:
        both = {
            "on": _Calls(folder / "on.calls", traced, count),
            "off": _Calls(folder / "off.calls", untraced, count),
        }
        for calls in both.values():
            await calls.send(1, plan.requests)
        windows = [await both["on"].window("c1", 1, plan.requests)]
        await both["off"].send(1, plan.requests)
        for number in range(plan.rounds):
            for name in random.sample(list(both), len(both)):
                windows.append(await both[name].window(f"{name} {number}", AT_ONCE, plan.requests))
    return windows


def _service(
    name: str, plan: CascadePlan, *, trace: bool = True, probe: Path | None = None
) -> Service:
    embedder: Literal["minilm", "hash"] = "hash" if plan.hash_embedder else "minilm"
    return Service(name, mode="cascade", trace=trace, embedder=embedder, probe=probe)


class _Calls:
    """Steps for one gateway, each sent once."""

    def __init__(self, path: Path, gateway: Running, count: int) -> None:
        self._path = path
        self._gateway = gateway
        self._next = 0
        write_calls(path, step_calls(gateway.headers, count))

    async def check(self) -> None:
        """That it is a cascade which is measured: a student is asked, with demonstrations.

        Raises:
            BenchmarkError: It is something else.
        """
        for header in PROOFS:
            loaded = await self.send(1, 1, header)
            if not loaded.header_ms(0) > 0:
                raise BenchmarkError(
                    f"cascade mode is not at work: {header} is 0 or missing in an answer with "
                    f"status {next(iter(loaded.statuses))}"
                )

    async def send(self, connections: int, requests: int, header: str = HEADER) -> Loaded:
        load = Load(connections, requests=requests, first=self._next, header=header)
        self._next += requests
        return await send_load(self._gateway.port, self._path, load)

    async def window(self, name: str, connections: int, requests: int) -> CascadeWindow:
        pid = self._gateway.pid
        assert pid is not None
        before = spent(pid)
        loaded = await self.send(connections, requests)
        await asyncio.sleep(0.1)
        cpu_s = spent(pid).cpu_s - before.cpu_s
        return CascadeWindow(
            name=name,
            connections=connections,
            sent=loaded.sent,
            failed=loaded.failed,
            rps=loaded.rps,
            p50_ms=loaded.latency_ms(50),
            p99_ms=loaded.latency_ms(99),
            overhead_p50_ms=loaded.header_ms(50),
            overhead_p99_ms=loaded.header_ms(99),
            cpu_us=cpu_s / loaded.sent * 1e6,
        )

    async def send_beside_health(self, connections: int, requests: int) -> Loaded:
        """The health requests that were sent while the steps were served."""
        serving = asyncio.create_task(self.send(connections, requests))
        call = call_bytes(HEALTH_PATH, None)
        pieces = []
        while not serving.done():
            load = Load(seconds=0.5, pause_us=HEALTH_PAUSE_US)
            pieces.append(await send_load(self._gateway.port, [call], load))
        await serving
        return joined(pieces)
