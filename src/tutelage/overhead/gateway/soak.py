"""Memory over many requests, half of which fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tutelage.overhead.gateway.calls import chat_call
from tutelage.overhead.gateway.contenders import Running
from tutelage.overhead.gateway.load import Load, send_load
from tutelage.overhead.gateway.processes import spent

FAIL_EVERY = 2
BATCHES = 10
AT_ONCE = 16
DISTINCT = 64
SETTLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Soak:
    """Resident memory of a gateway under requests of which every other one fails."""

    completed: int
    failed: int
    warm_up: int
    """Requests before the first reading, not counted above."""
    requests: tuple[int, ...]
    """Sent until each reading."""
    rss_mb: tuple[float, ...]
    """At each reading, the first one before any of them."""

    @property
    def growth(self) -> float:
        """Share by which memory grew from the first reading to the last."""
        return self.rss_mb[-1] / self.rss_mb[0] - 1


async def measure_soak(
    gateway: Running,
    *,
    requests: int,
    random: Random,
    progress: Callable[[str], None] = lambda _: None,
) -> Soak:
    """Sends unary and streamed calls, mixed, to a gateway whose upstream fails every other time.

    Args:
        gateway: In front of an upstream with ``fail_every=2``.
        requests: In all; a tenth more is sent before, for what is made once and kept.
        random: Mixes the calls.
        progress: Called with a line before it starts.

    Raises:
        BenchmarkError: The gateway takes no connections.
    """
    assert gateway.pid is not None
    progress(f"{requests:,} requests, half of them failing")
    calls = [chat_call(gateway.headers, stream=number % 2 == 0) for number in range(DISTINCT)]
    random.shuffle(calls)
    batch = max(1, requests // BATCHES)
    completed = failed = 0
    sent, rss_mb = [0], []
    await send_load(gateway.port, calls, Load(AT_ONCE, requests=batch))
    rss_mb.append(await _settled_mb(gateway.pid))
    while sent[-1] < requests:
        size = min(batch, requests - sent[-1])
        loaded = await send_load(gateway.port, calls, Load(AT_ONCE, requests=size, first=sent[-1]))
        completed += loaded.completed
        failed += loaded.failed
        sent.append(sent[-1] + size)
        rss_mb.append(await _settled_mb(gateway.pid))
    return Soak(completed, failed, batch, tuple(sent), tuple(rss_mb))


async def _settled_mb(pid: int) -> float:
    # Traces that are still being written are no leak.
    await asyncio.sleep(SETTLE_S)
    return spent(pid).rss_bytes / 1e6
