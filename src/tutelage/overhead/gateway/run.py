"""One run: everything that is measured, one part after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tutelage.overhead.gateway import contenders as known
from tutelage.overhead.gateway.bars import Bar, bars
from tutelage.overhead.gateway.cascade import Cascade, CascadePlan, measure_cascade
from tutelage.overhead.gateway.contenders import Contender, Missing, Running, running
from tutelage.overhead.gateway.installed import (
    litellm_environment,
    litellm_version,
    portkey_environment,
    portkey_version,
)
from tutelage.overhead.gateway.our_gateway import Service, our_gateway
from tutelage.overhead.gateway.ratios import Cell, cells
from tutelage.overhead.gateway.soak import FAIL_EVERY, Soak, measure_soak
from tutelage.overhead.gateway.upstream import Upstream, open_upstream
from tutelage.overhead.gateway.windows import CONNECTIONS, Window, cases, measure_windows
from tutelage.runtime.errors import BenchmarkError

OURS = (known.TUTELAGE, known.UNTRACED)
PARTS = ("pass-through", "cascade", "soak")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run measures."""

    parts: tuple[str, ...] = PARTS
    contenders: tuple[str, ...] = known.NAMES
    """``direct`` and ``reference`` are what the others are compared with."""
    connections: tuple[int, ...] = CONNECTIONS
    rounds: int = 5
    seconds: float = 2.0
    """Of one window."""
    cascade: CascadePlan = field(default_factory=CascadePlan)
    soak_requests: int = 50_000
    seed: int = 0
    """Of the random orders."""
    install: bool = True
    """Whether gateways of others may be installed into the cache."""

    def __post_init__(self) -> None:
        for chosen, names, what in (
            (self.parts, PARTS, "part"),
            (self.contenders, known.NAMES, "contender"),
        ):
            unknown = [one for one in chosen if one not in names]
            if unknown:
                raise BenchmarkError(f"no {what} {unknown[0]!r}: choose from {', '.join(names)}")


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run found."""

    plan: Plan
    duration_s: float
    versions: dict[str, str]
    missing: tuple[Missing, ...]
    windows: tuple[Window, ...]
    cascade: Cascade | None
    soak: Soak | None

    @property
    def cells(self) -> list[Cell]:
        """The windows as medians and ratios."""
        return cells(self.windows)

    @property
    def bars(self) -> list[Bar]:
        """What was promised, beside what was measured."""
        return bars(self.windows, self.cascade, self.soak)


async def measure_gateway(
    plan: Plan,
    folder: Path,
    cache: Path,
    *,
    progress: Progress = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Measured:
    """Measures the parts of a plan.

    Args:
        plan: What.
        folder: Gets configurations, databases and logs.
        cache: Keeps compiled programs and the gateways of others.
        progress: Called with a line before each slow step.
        clock: Seconds that never go back.

    Raises:
        BenchmarkError: The upstream, the reference or our gateway does not start.
        RetrievalError: The embedder's weights are missing.
    """
    begin_s = clock()
    random = Random(plan.seed)
    versions: dict[str, str] = {}
    missing: list[Missing] = []
    windows: list[Window] = []
    cascade, soak = None, None
    if "pass-through" in plan.parts:
        with ExitStack() as stack:
            upstream = stack.enter_context(open_upstream(folder / "upstream", cache))
            up: list[Running] = []
            for name in plan.contenders:
                progress(f"starting {name}")
                found = await _start(name, upstream, folder / "run", cache, plan, stack)
                if isinstance(found, Missing):
                    missing.append(found)
                else:
                    up.append(found)
            versions = {one.name: one.version for one in up}
            windows = await measure_windows(
                up,
                cases(plan.connections),
                rounds=plan.rounds,
                seconds=plan.seconds,
                random=random,
                progress=progress,
            )
    if "soak" in plan.parts:
        soak = await _soak(plan, folder / "soak", cache, random, progress)
    if "cascade" in plan.parts:
        cascade = await measure_cascade(folder / "cascade", cache, plan.cascade, random, progress)
    return Measured(
        plan, clock() - begin_s, versions, tuple(missing), tuple(windows), cascade, soak
    )


async def _start(
    name: str, upstream: Upstream, folder: Path, cache: Path, plan: Plan, stack: ExitStack
) -> Running | Missing:
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    if name == known.DIRECT:
        return known.direct(upstream)
    contender = await _contender(name, upstream, folder, cache, plan)
    if isinstance(contender, Missing):
        return contender
    try:
        return stack.enter_context(running(contender, folder))
    except BenchmarkError as error:
        if name in known.OTHERS:
            return Missing(name, f"skipped: {error}")
        raise


async def _contender(
    name: str, upstream: Upstream, folder: Path, cache: Path, plan: Plan
) -> Contender | Missing:
    if name == known.REFERENCE:
        return known.reference(upstream)
    if name in OURS:
        service = Service(name, trace=name == known.TUTELAGE)
        return await our_gateway(service, upstream, folder / name.replace(", ", "-"))
    if name == known.LITELLM:
        found = litellm_environment(cache, install=plan.install)
        if isinstance(found, Missing):
            return found
        return known.litellm(upstream, folder, found, litellm_version(found) or "?")
    found = portkey_environment(cache, install=plan.install)
    if isinstance(found, Missing):
        return found
    return known.portkey(upstream, found, portkey_version(found) or "?")


async def _soak(plan: Plan, folder: Path, cache: Path, random: Random, progress: Progress) -> Soak:
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    with open_upstream(folder / "upstream", cache, fail_every=FAIL_EVERY) as upstream:
        gateway = await our_gateway(Service(known.TUTELAGE), upstream, folder)
        with running(gateway, folder) as up:
            return await measure_soak(
                up, requests=plan.soak_requests, random=random, progress=progress
            )
