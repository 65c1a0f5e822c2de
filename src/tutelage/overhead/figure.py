"""One measured number."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its unit; absolute times hold for one machine, ratios carry over."""

    part: str
    name: str
    value: float | None
    """``None`` where it was not measured; the note says why."""
    unit: str
    note: str = ""

    @property
    def text(self) -> str:
        """The value for a person."""
        return "-" if self.value is None else f"{self.value:,.3g} {self.unit}".strip()


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of a call, all threads of this process together."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall_s, time.process_time() - cpu_s
