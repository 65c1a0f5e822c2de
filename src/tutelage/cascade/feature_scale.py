"""Named features of a step as a row of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.runtime.errors import ConfigError

FeatureRows = Sequence[Mapping[str, float]]
"""One mapping a step; a feature that is absent or not finite is missing."""


@dataclass(frozen=True, slots=True)
class FeatureScale:
    """Standardises features and marks missing ones.

    A feature becomes ``(value - mean) / deviation``, or 0 if it is missing. A feature that was
    missing somewhere when the scale was fitted gets a second column, 1 where it is missing.
    """

    names: tuple[str, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    marked: tuple[bool, ...]
    """Which features have a column for "missing"."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of a row."""
        marks = zip(self.names, self.marked, strict=True)
        return (*self.names, *(f"{name} missing" for name, marked in marks if marked))

    def row(self, features: Mapping[str, float]) -> list[float]:
        """(columns,); features that the scale does not know are left out."""
        row: list[float] = []
        marks: list[float] = []
        for name, mean, deviation, marked in zip(
            self.names, self.means, self.deviations, self.marked, strict=True
        ):
            value = features.get(name, nan)
            known = isfinite(value)
            row.append((value - mean) / deviation if known else 0.0)
            if marked:
                marks.append(0.0 if known else 1.0)
        return row + marks

    def matrix(self, rows: FeatureRows) -> NDArray[np.float64]:
        """(steps, columns)."""
        if not rows:
            return np.zeros((0, len(self.columns)))
        return np.array([self.row(features) for features in rows], dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """The scale as JSON values."""
        return {
            "names": list(self.names),
            "means": list(self.means),
            "deviations": list(self.deviations),
            "marked": list(self.marked),
        }


def fit_scale(rows: FeatureRows, names: Sequence[str] | None = None) -> FeatureScale:
    """Means and deviations of the values that are there.

    Args:
        rows: (steps,).
        names: Features to use; ``None`` takes all that occur, sorted.

    Raises:
        ValueError: There are no rows or no features.
    """
    if names is None:
        names = sorted({name for features in rows for name in features})
    if not rows or not names:
        raise ValueError("no features to fit on: give at least one step with at least one feature")
    means, deviations, marked = [], [], []
    for name in names:
        values = np.array([features.get(name, nan) for features in rows], dtype=np.float64)
        known = values[np.isfinite(values)]
        deviation = float(known.std()) if known.size else 0.0
        means.append(float(known.mean()) if known.size else 0.0)
        # A constant feature says nothing; rounding must not blow it up.
        deviations.append(deviation if deviation > 1e-9 * max(1.0, abs(means[-1])) else 1.0)
        marked.append(known.size < values.size)
    return FeatureScale(tuple(names), tuple(means), tuple(deviations), tuple(marked))


def scale_from_json(values: Any) -> FeatureScale:
    """Reads what ``FeatureScale.to_json`` wrote.

    Raises:
        ConfigError: It is no table, or a field is missing, of the wrong kind or of another length.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"score model: scale = {values!r} is not a table")
    names = [str(name) for name in listed(values, "names")]
    means, deviations = numbers(values, "means"), numbers(values, "deviations")
    marked = [bool(mark) for mark in listed(values, "marked")]
    if not len(names) == len(means) == len(deviations) == len(marked):
        raise ConfigError("score model: names, means, deviations and marked differ in length")
    if 0.0 in deviations:
        raise ConfigError("score model: deviations holds 0: a feature cannot be divided by it")
    return FeatureScale(tuple(names), means, deviations, tuple(marked))


def listed(values: Mapping[str, Any], key: str) -> list[Any]:
    """The list under a key of a score model's JSON.

    Raises:
        ConfigError: There is none.
    """
    found = values.get(key)
    if not isinstance(found, list):
        raise ConfigError(f"score model: {key} = {found!r} is not a list")
    return found


def numbers(values: Mapping[str, Any], key: str) -> tuple[float, ...]:
    """The finite numbers under a key of a score model's JSON.

    Raises:
        ConfigError: There are none, or others among them.
    """
    return tuple(_number(value, key) for value in listed(values, key))


def number(values: Mapping[str, Any], key: str) -> float:
    """The finite number under a key of a score model's JSON.

    Raises:
        ConfigError: There is none.
    """
    return _number(values.get(key), key)


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ConfigError(f"score model: {key} holds {value!r}, which is not a finite number")
    return float(value)
