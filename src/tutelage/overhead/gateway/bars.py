"""The bars that the gateway is to stay below or above."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tutelage.overhead.gateway.cascade import Cascade
from tutelage.overhead.gateway.contenders import LITELLM, TUTELAGE, UNTRACED
from tutelage.overhead.gateway.ratios import cell_of, cells, median, paired, ratio
from tutelage.overhead.gateway.soak import Soak
from tutelage.overhead.gateway.windows import Case, Window

MEASURED_AT = 16

REFERENCE_CPU = 2.0
LITELLM_CPU = 30.0
FIRST_EVENT_MS = 1.0
CASCADE_MS = 10.0
BLOCKED_MS = 5.0
TRACING_RPS = 0.9
GROWTH = 0.05


@dataclass(frozen=True, slots=True)
class Bar:
    """A promise, and what was measured."""

    name: str
    value: float | None
    """``None``: not measured in this run."""
    relation: Literal["at most", "at least"]
    limit: float
    unit: str
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether it holds; ``None`` if it was not measured."""
        if self.value is None or math.isnan(self.value):
            return None
        return self.value <= self.limit if self.relation == "at most" else self.value >= self.limit

    @property
    def verdict(self) -> str:
        """For a person."""
        return {None: "not measured", True: "met", False: "MISSED"}[self.is_met]


def bars(windows: Sequence[Window], cascade: Cascade | None, soak: Soak | None) -> list[Bar]:
    """All of them, in a fixed order."""
    return [*_pass_through(windows), *_cascade(cascade), *_soak(soak)]


def _pass_through(windows: Sequence[Window]) -> list[Bar]:
    found = cells(windows)
    made = []
    for stream in (False, True):
        case = Case(stream, MEASURED_AT)
        cell = cell_of(found, TUTELAGE, case)
        untraced = cell_of(found, UNTRACED, case)
        spread = cell.cpu_over_reference_range if cell else None
        notes = [f"rounds from {spread[0]:.2f} to {spread[1]:.2f}"] if spread else []
        if untraced is not None and untraced.cpu_over_reference is not None:
            notes.append(f"{untraced.cpu_over_reference:.2f} with tracing off")
        made.append(
            Bar(
                f"CPU a request over the reference, {case.name}",
                cell.cpu_over_reference if cell else None,
                "at most",
                REFERENCE_CPU,
                "x",
                "; ".join(notes),
            )
        )
    for stream in (False, True):
        case = Case(stream, MEASURED_AT)
        over = paired(windows, case, LITELLM, TUTELAGE, lambda a, b: ratio(a.cpu_us, b.cpu_us))
        name = f"CPU a request of LiteLLM over ours, {case.name}"
        made.append(Bar(name, median(over), "at least", LITELLM_CPU, "x"))
    first = cell_of(found, TUTELAGE, Case(True, 1))
    made.append(
        Bar(
            "added time to the first event, stream c1, p50",
            first.added_first_p50_ms if first else None,
            "at most",
            FIRST_EVENT_MS,
            "ms",
        )
    )
    for stream in (False, True):
        case = Case(stream, MEASURED_AT)
        on_over_off = paired(windows, case, TUTELAGE, UNTRACED, lambda a, b: ratio(a.rps, b.rps))
        name = f"requests a second with tracing over without, {case.name}"
        made.append(Bar(name, median(on_over_off), "at least", TRACING_RPS, "x"))
    return made


def _cascade(cascade: Cascade | None) -> list[Bar]:
    alone = (
        next((one for one in cascade.windows if one.connections == 1), None) if cascade else None
    )
    blocked = cascade.stalls.get("c1") if cascade else None
    size = f"{cascade.demonstrations:,} demonstrations" if cascade else ""
    return [
        Bar(
            "cascade, time without the upstream, c1, p50",
            alone.overhead_p50_ms if alone else None,
            "at most",
            CASCADE_MS,
            "ms",
            f"{size}; p99 {alone.overhead_p99_ms:.3g} ms, {alone.sent} steps" if alone else "",
        ),
        Bar(
            "cascade, longest block of the event loop, c1",
            blocked.most_ms if blocked else None,
            "at most",
            BLOCKED_MS,
            "ms",
            f"{blocked.long} of {blocked.ticks:,} ticks above {BLOCKED_MS:g} ms, p99 "
            f"{blocked.p99_ms:.3g} ms; most CPU between two {blocked.most_cpu_ms:.3g} ms"
            if blocked
            else "",
        ),
        Bar(
            f"cascade, requests a second with tracing over without, c{MEASURED_AT}",
            cascade.rps_on_over_off if cascade else None,
            "at least",
            TRACING_RPS,
            "x",
        ),
    ]


def _soak(soak: Soak | None) -> list[Bar]:
    note = ""
    if soak is not None:
        note = (
            f"{soak.completed:,} answered and {soak.failed:,} failed; "
            f"{soak.rss_mb[0]:.0f} to {soak.rss_mb[-1]:.0f} MB"
        )
    growth = 100 * soak.growth if soak else None
    return [Bar("growth of memory", growth, "at most", 100 * GROWTH, "%", note)]
