"""Windows as ratios: each contender against the direct way and the reference, round by round."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tutelage.overhead.gateway.contenders import DIRECT, NAMES, REFERENCE
from tutelage.overhead.gateway.windows import Case, Window


@dataclass(frozen=True, slots=True)
class Cell:
    """One contender in one setting: medians over the rounds; ``None`` where it has no answer.

    Ratios and differences are taken within a round, and the median of these is told.
    """

    contender: str
    case: Case
    rounds: int
    completed: int
    failed: int
    rps: float | None
    p50_ms: float | None
    p99_ms: float | None
    first_p50_ms: float | None
    cpu_us: float | None
    """CPU a completed request."""
    rss_mb: float | None
    rps_over_direct: float | None
    rps_over_reference: float | None
    cpu_over_reference: float | None
    cpu_over_reference_range: tuple[float, float] | None
    """Of the round with the least, and that with the most."""
    added_p50_ms: float | None
    """Over the direct way."""
    added_p99_ms: float | None
    added_first_p50_ms: float | None
    added_first_p99_ms: float | None


def cells(windows: Sequence[Window]) -> list[Cell]:
    """All contenders in all settings; unary before streamed, few connections before many."""
    found = sorted(
        {(one.case.stream, one.case.connections, NAMES.index(one.contender)) for one in windows}
    )
    return [
        _cell(windows, NAMES[place], Case(stream, connections))
        for stream, connections, place in found
    ]


def cell_of(found: Iterable[Cell], contender: str, case: Case) -> Cell | None:
    """One of the cells; ``None`` if it was not measured."""
    return next((one for one in found if (one.contender, one.case) == (contender, case)), None)


def paired(
    windows: Sequence[Window],
    case: Case,
    one: str,
    other: str,
    join: Callable[[Window, Window], float | None],
) -> list[float]:
    """A figure of two contenders in each round in which both gave one.

    Args:
        windows: All of a run.
        case: The setting.
        one: First contender.
        other: Second contender.
        join: The figure; ``None`` or ``nan`` where there is none.
    """
    by_round = {
        (window.contender, window.round): window for window in windows if window.case == case
    }
    values = []
    for (contender, number), window in sorted(by_round.items(), key=lambda item: item[0][1]):
        beside = by_round.get((other, number))
        if contender == one and beside is not None:
            value = join(window, beside)
            if value is not None and math.isfinite(value):
                values.append(value)
    return values


def ratio(over: float | None, under: float | None) -> float | None:
    """A quotient; ``None`` where one part is missing or nothing is divided by."""
    return over / under if over is not None and under else None


def median(values: Iterable[float | None]) -> float | None:
    """The median of what is there and finite; ``None`` of nothing."""
    found = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.median(found) if found else None


def _cell(windows: Sequence[Window], contender: str, case: Case) -> Cell:
    mine = [one for one in windows if (one.contender, one.case) == (contender, case)]

    def beside(other: str, join: Callable[[Window, Window], float | None]) -> list[float]:
        return paired(windows, case, contender, other, join)

    cpu = beside(REFERENCE, lambda a, b: ratio(a.cpu_us, b.cpu_us))
    return Cell(
        contender=contender,
        case=case,
        rounds=len(mine),
        completed=sum(one.completed for one in mine),
        failed=sum(one.failed for one in mine),
        rps=median(one.rps for one in mine if one.completed),
        p50_ms=median(one.p50_ms for one in mine),
        p99_ms=median(one.p99_ms for one in mine),
        first_p50_ms=median(one.first_p50_ms for one in mine),
        cpu_us=median(one.cpu_us for one in mine),
        rss_mb=median(one.rss_mb for one in mine),
        rps_over_direct=median(beside(DIRECT, lambda a, b: ratio(a.rps or None, b.rps))),
        rps_over_reference=median(beside(REFERENCE, lambda a, b: ratio(a.rps or None, b.rps))),
        cpu_over_reference=median(cpu),
        cpu_over_reference_range=(min(cpu), max(cpu)) if cpu else None,
        added_p50_ms=median(beside(DIRECT, lambda a, b: a.p50_ms - b.p50_ms)),
        added_p99_ms=median(beside(DIRECT, lambda a, b: a.p99_ms - b.p99_ms)),
        added_first_p50_ms=median(beside(DIRECT, lambda a, b: a.first_p50_ms - b.first_p50_ms)),
        added_first_p99_ms=median(beside(DIRECT, lambda a, b: a.first_p99_ms - b.first_p99_ms)),
    )
