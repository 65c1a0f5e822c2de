"""Windows of load: every contender in every setting, in a new random order each round."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from tutelage.overhead.gateway.calls import chat_call
from tutelage.overhead.gateway.contenders import OTHERS, Running
from tutelage.overhead.gateway.load import RECORD, Load, Loaded, send_load
from tutelage.overhead.gateway.processes import spent
from tutelage.runtime.errors import BenchmarkError

CONNECTIONS = (1, 16, 64)
WARM_UP_REQUESTS = 64


@dataclass(frozen=True, slots=True)
class Case:
    """One setting."""

    stream: bool
    connections: int

    @property
    def name(self) -> str:
        """For example ``stream c16``."""
        return f"{'stream' if self.stream else 'unary'} c{self.connections}"


@dataclass(frozen=True, slots=True)
class Window:
    """What one contender did under load for a while."""

    contender: str
    case: Case
    round: int
    sent: int
    completed: int
    failed: int
    elapsed_s: float
    rps: float
    p50_ms: float
    p99_ms: float
    first_p50_ms: float
    """Until the first byte of a body."""
    first_p99_ms: float
    events: float
    """Events an answer."""
    cpu_us: float | None
    """CPU of the contender's processes a completed request; ``None``: not measured."""
    rss_mb: float | None
    """Resident memory of its processes at the end."""
    statuses: dict[int, int]
    """Requests by HTTP status; 0: no answer."""


def cases(connections: Sequence[int] = CONNECTIONS) -> list[Case]:
    """Unary and streamed calls with each number of connections."""
    return [Case(stream, number) for stream in (False, True) for number in connections]


async def measure_windows(
    contenders: Sequence[Running],
    settings: Sequence[Case],
    *,
    rounds: int,
    seconds: float,
    random: Random,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Window]:
    """Loads the contenders one after the other, all of them being up.

    Args:
        contenders: Whom.
        settings: Unary or streamed, and how many connections.
        rounds: Times that each contender gets each setting.
        seconds: For how long requests are started; what is in flight then may end.
        random: Draws the order of each round.
        progress: Called with a line before each round.

    """
    for one in contenders:
        for stream in (False, True):
            call = chat_call(one.headers, stream=stream)
            await _loaded(one, call, Load(4, requests=WARM_UP_REQUESTS))
    windows = []
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        order = [(one, case) for one in contenders for case in settings]
        random.shuffle(order)
        for one, case in order:
            windows.append(await _window(one, case, number, seconds))
    return windows


async def _window(one: Running, case: Case, number: int, seconds: float) -> Window:
    call = chat_call(one.headers, stream=case.stream)
    before = spent(one.pid) if one.pid is not None else None
    loaded = await _loaded(one, call, Load(case.connections, seconds=seconds))
    # What a contender does after its answer, such as writing a trace, is part of the request.
    await asyncio.sleep(0.1)
    after = spent(one.pid) if one.pid is not None else None
    cpu_us = rss_mb = None
    if before is not None and after is not None:
        cpu_us = (after.cpu_s - before.cpu_s) / loaded.completed * 1e6 if loaded.completed else None
        rss_mb = after.rss_bytes / 1e6
    return window_of(loaded, one.name, case, number, cpu_us, rss_mb)


async def _loaded(one: Running, call: bytes, load: Load) -> Loaded:
    """What came back; nothing from a gateway of others that is gone: the rest is measured."""
    try:
        return await send_load(one.port, [call], load)
    except BenchmarkError as error:
        if one.name in OTHERS:
            return Loaded(np.empty(0, RECORD), 0.0)
        raise BenchmarkError(f"{one.name} is gone in the middle of the run: {error}") from error


def window_of(
    loaded: Loaded,
    contender: str,
    case: Case,
    number: int,
    cpu_us: float | None,
    rss_mb: float | None,
) -> Window:
    """What came back, as figures."""
    return Window(
        contender=contender,
        case=case,
        round=number,
        sent=loaded.sent,
        completed=loaded.completed,
        failed=loaded.failed,
        elapsed_s=loaded.elapsed_s,
        rps=loaded.rps,
        p50_ms=loaded.latency_ms(50),
        p99_ms=loaded.latency_ms(99),
        first_p50_ms=loaded.first_ms(50),
        first_p99_ms=loaded.first_ms(99),
        events=loaded.events,
        cpu_us=cpu_us,
        rss_mb=rss_mb,
        statuses=loaded.statuses,
    )
