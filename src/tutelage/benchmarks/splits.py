"""Splits as the command line names them: ``dev``, or ``dev:12`` for the first twelve tasks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tutelage.runtime.errors import WorldMissing


@dataclass(frozen=True, slots=True)
class Split:
    """A split, all of it or its beginning."""

    name: str
    count: int | None
    """Tasks from its beginning; absent: all."""


def read_split(text: str, known: Collection[str], world: str) -> Split:
    """What a user wrote as a split.

    Args:
        text: ``NAME`` or ``NAME:COUNT``.
        known: The splits of the world.
        world: Named in errors.

    Raises:
        WorldMissing: There is no such split, or the count is no positive number.
    """
    name, separator, count = text.partition(":")
    if name not in known:
        raise WorldMissing(f"unknown split {name!r} of {world}: use one of {', '.join(known)}")
    if not separator:
        return Split(name, None)
    if not (count.isascii() and count.isdecimal() and int(count)):
        raise WorldMissing(f"split {text!r} of {world}: write it like '{name}:20'")
    return Split(name, int(count))
