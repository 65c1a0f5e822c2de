"""Whether an answer is the one a task asks for."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[-+]?\$?\s*([0-9][0-9,]*(?:\.[0-9]+)?)")
TOLERANCE = 0.005
"""Half a cent."""


def answers_match(wanted: object, given: object) -> bool:
    """Whether an answer is right.

    Numbers may come as text with a currency mark, texts in any case and spacing, lists in any
    order and as text with commas. A task that asks for nothing wants no answer.
    """
    if wanted is None:
        return given is None or given == ""
    if isinstance(wanted, bool) or isinstance(given, bool):
        return wanted is given
    if isinstance(wanted, int | float):
        number = _number(given)
        return number is not None and abs(number - wanted) < TOLERANCE
    if isinstance(wanted, list):
        parts = given.split(",") if isinstance(given, str) else given
        if not isinstance(parts, list):
            return False
        return sorted(map(_plain, parts)) == sorted(map(_plain, wanted))
    return _plain(given) == _plain(wanted)


def _plain(value: object) -> str:
    return " ".join(str(value).casefold().split()).rstrip(".")


def _number(value: object) -> float | None:
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and (match := _NUMBER.fullmatch(value.strip())):
        sign = -1.0 if value.strip().startswith("-") else 1.0
        return sign * float(match[1].replace(",", ""))
    return None
