"""How long an event loop was blocked, as the probe in it noted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

LONG_MS = 5.0


@dataclass(frozen=True, slots=True)
class Stalls:
    """Lateness of a timer of one millisecond within a span of time."""

    ticks: int
    p99_ms: float
    most_ms: float
    """The longest, wall time: also what other processes took from us."""
    most_cpu_ms: float
    """The most CPU that the loop's thread used between two ticks."""
    long: int
    """Ticks later than 5 ms."""


def read_stalls(path: Path, begin_ns: int, end_ns: int) -> Stalls | None:
    """The stalls in a span of monotonic time; ``None`` if the probe never ticked in it.

    Args:
        path: As ``Probe.save`` writes it.
        begin_ns: Start of the span.
        end_ns: Its end.
    """
    if not path.exists():
        return None
    ticks: npt.NDArray[np.int64] = np.fromfile(path, np.int64).reshape(-1, 3)
    ticks = ticks[(ticks[:, 0] >= begin_ns) & (ticks[:, 0] <= end_ns)]
    if not len(ticks):
        return None
    late_ms, cpu_ms = ticks[:, 1] / 1e6, ticks[:, 2] / 1e6
    return Stalls(
        ticks=len(ticks),
        p99_ms=float(np.percentile(late_ms, 99)),
        most_ms=float(late_ms.max()),
        most_cpu_ms=float(cpu_ms.max()),
        long=int((late_ms > LONG_MS).sum()),
    )
