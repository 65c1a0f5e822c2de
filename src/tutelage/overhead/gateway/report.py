"""One run as JSON values, tables and a block for the log."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tutelage.overhead.gateway.ratios import Cell
from tutelage.overhead.gateway.run import Measured
from tutelage.overhead.report import Machine

COLUMNS = (
    "setting",
    "contender",
    "RPS",
    "/ direct",
    "/ reference",
    "CPU us",
    "/ reference",
    "+p50 ms",
    "+p99 ms",
    "+first ms",
    "RSS MB",
    "failed",
)
_NAMED = {0: "with no status", 200: "broken off"}
BAR_COLUMNS = ("bar", "measured", "limit", "", "note")
CASCADE_COLUMNS = (
    "window",
    "requests a second",
    "p50 ms",
    "own p50 ms",
    "own p99 ms",
    "CPU us",
    "failed",
)


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """One run, and where it ran."""

    command: str
    machine: Machine
    load_at_end: float
    measured: Measured

    def document(self) -> dict[str, Any]:
        """The report as JSON values; what was not measured is null."""
        measured = self.measured
        return {
            "command": self.command,
            "machine": asdict(self.machine),
            "load_at_end": self.load_at_end,
            "duration_s": measured.duration_s,
            "plan": asdict(measured.plan),
            "versions": measured.versions,
            "missing": [asdict(one) for one in measured.missing],
            "bars": [{**asdict(one), "is_met": one.is_met} for one in measured.bars],
            "cells": [_finite(asdict(one)) for one in measured.cells],
            "cascade": _finite(asdict(measured.cascade)) if measured.cascade else None,
            "soak": {**asdict(measured.soak), "growth": measured.soak.growth}
            if measured.soak
            else None,
            "windows": [_finite(asdict(one)) for one in measured.windows],
        }

    def title(self) -> str:
        """Where and on what."""
        machine = self.machine
        return (
            f"{machine.processor}, {machine.cores} cores, load {machine.load:.1f} at the start and "
            f"{self.load_at_end:.1f} at the end; Python {machine.python}"
        )

    def rows(self) -> list[list[str]]:
        """A row for each contender in each setting."""
        return [_row(cell) for cell in self.measured.cells]

    def bar_rows(self) -> list[list[str]]:
        """A row for each bar."""
        return [
            [
                bar.name,
                f"{number(bar.value)} {bar.unit}" if bar.value is not None else "-",
                f"{bar.relation} {bar.limit:g} {bar.unit}",
                bar.verdict,
                bar.note,
            ]
            for bar in self.measured.bars
        ]

    def cascade_rows(self) -> list[list[str]]:
        """A row for each window of cascade mode."""
        windows = self.measured.cascade.windows if self.measured.cascade else ()
        return [
            [
                f"{one.name}, c{one.connections}" if one.name != "c1" else "tracing on, c1",
                number(one.rps),
                number(one.p50_ms),
                number(one.overhead_p50_ms),
                number(one.overhead_p99_ms),
                number(one.cpu_us),
                f"{one.failed:,}",
            ]
            for one in windows
        ]

    def notes(self) -> list[str]:
        """Versions, and who was left out and why."""
        measured = self.measured
        found = [f"{name}: {version}" for name, version in measured.versions.items()]
        found += [f"{one.name}: {one.reason}" for one in measured.missing]
        found += [
            f"{name}: not answered with 200: "
            + ", ".join(
                f"{count:,} {_NAMED.get(status, f'with {status}')}"
                for status, count in failed.items()
            )
            for name, failed in _failures(measured).items()
        ]
        gone = Counter(one.contender for one in measured.windows if not one.sent)
        found += [f"{name}: was gone in {count} windows" for name, count in gone.items()]
        if measured.cascade is not None:
            cascade = measured.cascade
            found.append(
                f"health requests while 16 clients are served: p50 {cascade.health_p50_ms:.3g} ms, "
                f"longest {cascade.health_most_ms:.3g} ms"
            )
            for name, stalls in cascade.stalls.items():
                text = (
                    f"p99 {stalls.p99_ms:.3g} ms, longest {stalls.most_ms:.3g} ms, "
                    f"{stalls.long} of {stalls.ticks:,} above 5 ms"
                    if stalls
                    else "the probe did not run"
                )
                found.append(f"lateness of the event loop in cascade mode, {name}: {text}")
        return found

    def markdown(self) -> str:
        """The report as a block of Markdown."""
        plan = self.measured.plan
        lines = [
            f"`{self.command}`: {self.title()}. {plan.rounds} rounds of {plan.seconds:g} s windows "
            f"in random order, {self.measured.duration_s / 60:.0f} minutes in all. "
            "Times hold for this machine; ratios carry over.",
            "",
            *_table(BAR_COLUMNS, self.bar_rows()),
            "",
        ]
        for columns, rows in ((COLUMNS, self.rows()), (CASCADE_COLUMNS, self.cascade_rows())):
            if rows:
                lines += [*_table(columns, rows), ""]
        return "\n".join([*lines, *(f"- {note}" for note in self.notes()), ""])


def number(value: float | None) -> str:
    """Three digits for a person; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _row(cell: Cell) -> list[str]:
    return [
        cell.case.name,
        cell.contender,
        number(cell.rps),
        number(cell.rps_over_direct),
        number(cell.rps_over_reference),
        number(cell.cpu_us),
        number(cell.cpu_over_reference),
        number(cell.added_p50_ms),
        number(cell.added_p99_ms),
        number(cell.added_first_p50_ms),
        number(cell.rss_mb),
        f"{cell.failed:,}" if cell.failed else "0",
    ]


def _failures(measured: Measured) -> dict[str, Counter[int]]:
    """Failed requests by contender and status; 200 is an answer that broke off."""
    found: dict[str, Counter[int]] = {}
    for window in measured.windows:
        if window.failed:
            counts = Counter(window.statuses)
            counts[200] -= window.completed
            found.setdefault(window.contender, Counter()).update(+counts)
    return found


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    marks = ["---", "---", *["---:"] * (len(columns) - 2)]
    lines = [columns, marks, *rows]
    return [f"| {' | '.join(line)} |".replace("  ", " ") for line in lines]


def _finite(value: Any) -> Any:
    """The same without ``nan``, which JSON does not know; keys are text."""
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
