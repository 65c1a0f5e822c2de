"""JSON that every reader understands alike."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any, NoReturn

_EXACT = 2**53
"""Integers below this have a float of their own."""


def strict_json(text: str) -> Any:
    """Decodes JSON; what readers may understand differently is refused.

    Raises:
        ValueError: The text is not JSON, names a key twice, or holds NaN, an infinity or a number
            that a 64-bit float does not hold.
        RecursionError: It is nested too deeply.
    """
    return _DECODER.decode(text)


def compact_json(value: Any) -> str:
    """The shortest text of a value, with sorted keys: equal values have equal texts.

    Raises:
        ValueError: The value holds NaN or an infinity.
        TypeError: It holds something that JSON has not.
        RecursionError: It is nested too deeply.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def whole_number(value: float) -> float | int:
    """The integer that a float is, where nothing is lost; else the float: -0.0 has a sign."""
    if value.is_integer() and abs(value) < _EXACT and (value or math.copysign(1, value) > 0):
        return int(value)
    return value


def whole_numbers(value: Any) -> Any:
    """A decoded value with its whole floats as integers.

    Raises:
        RecursionError: It is nested too deeply.
    """
    if isinstance(value, float):
        return whole_number(value)
    if isinstance(value, dict):
        return {name: whole_numbers(part) for name, part in value.items()}
    if isinstance(value, list):
        return [whole_numbers(part) for part in value]
    return value


def exact_float(text: str) -> float:
    """The float that a decimal number is.

    Raises:
        ValueError: No finite float prints as this number.
    """
    value = float(text)
    if not math.isfinite(value) or Decimal(repr(value)) != Decimal(text):
        raise ValueError(f"{text[:40]} is no 64-bit float")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_once, parse_float=exact_float, parse_constant=_refused
)
