"""One measured number."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
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
        if self.value is None:
            return "-"
        digits = ",.0f" if abs(self.value) >= 100 else ".3g"
        return f"{self.value:{digits}} {self.unit}".strip()


def value_of(figures: Sequence[Figure], part: str, name: str) -> float | None:
    """The value of one figure; ``None`` if it is not there or was not measured."""
    found = (one.value for one in figures if (one.part, one.name) == (part, name))
    return next(found, None)


def median_ms(seconds: Sequence[float]) -> float:
    """The median in milliseconds."""
    return statistics.median(seconds) * 1000
