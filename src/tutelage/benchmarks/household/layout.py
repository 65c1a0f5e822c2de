"""How rooms are built: which places there are, and what lies where.

Only ``random.Random.random`` is drawn from: its sequence for a seed is the same in every Python
release, which is not promised for the other methods.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tutelage.benchmarks.household.vocabulary import ROOMS, THINGS, kind, likelihood

LEAST_PLACES, MOST_PLACES = 8, 14
LEAST_CLUTTER, MOST_CLUTTER = 8, 14
_TEST_SHARE = 4
"""One floor plan in so many is for test rooms only."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Room:
    """A room before anyone has touched it."""

    kind: str
    places: tuple[str, ...]
    """Numbered names in the order in which an agent is told of them."""
    contents: Mapping[str, tuple[str, ...]]
    """Numbered names of the things at every place."""

    @property
    def floor_plan(self) -> str:
        """The kind of room and all its places."""
        return f"{self.kind}: {', '.join(self.places)}"


def bucket(text: str, buckets: int) -> int:
    """A number below ``buckets`` that depends on nothing but the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % buckets


def between(rng: random.Random, least: int, most: int) -> int:
    """A whole number from ``least`` to ``most``, both included."""
    return least + int(rng.random() * (most - least + 1))


def shuffled(rng: random.Random, items: Iterable[_T]) -> list[_T]:
    """The items in random order."""
    return sorted(items, key=lambda _: rng.random())


def draw(rng: random.Random, items: Sequence[_T], weights: Sequence[float]) -> _T:
    """One item, with probability in proportion to its weight."""
    point = rng.random() * sum(weights)
    for item, weight in zip(items, weights, strict=True):
        point -= weight
        if point < 0:
            return item
    return items[-1]


def draw_places(rng: random.Random, room: str, split: str) -> tuple[str, ...]:
    """The places of a new room; no floor plan serves both splits."""
    while True:
        counts = {place: between(rng, *limits) for place, limits in ROOMS[room].items()}
        places = tuple(
            f"{place} {number}" for place, count in counts.items() for number in range(count, 0, -1)
        )
        is_test = bucket(f"{room}: {', '.join(places)}", _TEST_SHARE) == 0
        if LEAST_PLACES <= len(places) <= MOST_PLACES and is_test == (split == "test"):
            return places


def furnish(
    rng: random.Random,
    room: str,
    places: tuple[str, ...],
    wanted: Mapping[str, int],
    kept_clear: str | None,
) -> Room:
    """Puts things where they are likely to be.

    Args:
        rng: The source of chance.
        room: Kind of room.
        places: Its places.
        wanted: How many of which kinds of things the task needs.
        kept_clear: Kind of place where no wanted thing may lie.
    """
    clutter = [thing for thing in THINGS[room] if thing not in wanted]
    kinds = [thing for thing, count in wanted.items() for _ in range(count)]
    kinds += [
        clutter[int(rng.random() * len(clutter))]
        for _ in range(between(rng, LEAST_CLUTTER, MOST_CLUTTER))
    ]
    contents: dict[str, list[str]] = {place: [] for place in places}
    numbers = {thing: list(range(kinds.count(thing), 0, -1)) for thing in kinds}
    for thing in shuffled(rng, kinds):
        open_to = [p for p in places if thing not in wanted or kind(p) != kept_clear]
        weights = [likelihood(thing, kind(place)) for place in open_to]
        contents[draw(rng, open_to, weights)].append(f"{thing} {numbers[thing].pop()}")
    return Room(room, places, {place: tuple(things) for place, things in contents.items()})
