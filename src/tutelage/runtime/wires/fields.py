"""Fields of a client's JSON body, read with the errors that a client can act on."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from tutelage.runtime.errors import BadRequest

_KINDS = {
    type(None): "null",
    bool: "a boolean",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}
_QUOTED_CHARACTERS = 80


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    return _KINDS.get(type(value), "an object" if isinstance(value, Mapping) else "no JSON value")


def wrong(path: str, value: object, wanted: str) -> BadRequest:
    """The error for a field that is something other than ``wanted``."""
    return BadRequest(f"{path} is {kind_of(value)}: give {wanted}", param=path, code="invalid_type")


def check_object(value: object, path: str) -> Mapping[str, Any]:
    """A JSON object.

    Raises:
        BadRequest: It is something else.
    """
    if not isinstance(value, Mapping):
        raise wrong(path, value, "an object")
    return value


def check_body(body: object) -> Mapping[str, Any]:
    """The body of a call.

    Raises:
        BadRequest: It is no JSON object.
    """
    if not isinstance(body, Mapping):
        raise BadRequest(f"the body is {kind_of(body)}: send a JSON object", code="invalid_type")
    return body


def check_list(value: object, path: str, *, empty: bool = True) -> list[Any]:
    """A JSON list.

    Raises:
        BadRequest: It is something else, or empty where it must not be.
    """
    if not isinstance(value, list):
        raise wrong(path, value, "a list")
    if not value and not empty:
        raise BadRequest(f"{path} is empty: give at least one item", param=path, code="empty")
    return value


def check_text(value: object, path: str, *, empty: bool = True) -> str:
    """A string.

    Raises:
        BadRequest: It is something else, or empty where it must not be.
    """
    if not isinstance(value, str):
        raise wrong(path, value, "a string")
    if not value.strip() and not empty:
        raise BadRequest(f"{path} is empty: give a string", param=path, code="empty")
    return value


def check_choice(value: object, path: str, choices: Collection[str]) -> str:
    """One of some words.

    Raises:
        BadRequest: It is none of them.
    """
    text = check_text(value, path)
    if text not in choices:
        shown = text if len(text) <= _QUOTED_CHARACTERS else f"{text[:_QUOTED_CHARACTERS]}…"
        raise BadRequest(
            f"{path} = {shown!r}: give one of {', '.join(sorted(choices))}",
            param=path,
            code="invalid_value",
        )
    return text


def check_whole(
    value: object, path: str, *, least: int | None = None, most: int | None = None
) -> int:
    """A whole number within bounds; ``2.0`` is one.

    Raises:
        BadRequest: It is something else, or out of bounds.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(path, value, "a whole number")
    _check_bounds(value, path, least, most)
    return value


def check_number(
    value: object, path: str, *, least: float | None = None, most: float | None = None
) -> float:
    """A finite number within bounds.

    Raises:
        BadRequest: It is something else, or out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(path, value, "a number")
    if not math.isfinite(value):
        raise BadRequest(f"{path} is not finite: give a number", param=path, code="invalid_value")
    _check_bounds(value, path, least, most)
    return value


def check_switch(value: object, path: str) -> bool:
    """A boolean.

    Raises:
        BadRequest: It is something else.
    """
    if not isinstance(value, bool):
        raise wrong(path, value, "true or false")
    return value


def _check_bounds(value: float, path: str, least: float | None, most: float | None) -> None:
    if (least is None or value >= least) and (most is None or value <= most):
        return
    if most is None:
        bounds = f"{least} or more"
    elif least is None:
        bounds = f"{most} or less"
    else:
        bounds = f"{least} to {most}"
    raise BadRequest(f"{path} = {value}: give {bounds}", param=path, code="out_of_range")
