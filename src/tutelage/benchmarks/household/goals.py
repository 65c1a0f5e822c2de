"""What an agent is asked to do, and how it is worded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tutelage.runtime.errors import BenchmarkError

LOOK = "look_at_in_light"
PICK_TWO = "pick_two_then_place"

WORDINGS: Mapping[str, tuple[str, ...]] = {
    "pick_and_place": (
        "put a {thing} in {place}.",
        "put some {thing} on {place}.",
        "find some {thing} and put it in {place}.",
    ),
    LOOK: (
        "look at {thing} under the desklamp.",
        "examine the {thing} with the desklamp.",
    ),
    "pick_clean_then_place": (
        "put a clean {thing} in {place}.",
        "clean some {thing} and put it in {place}.",
    ),
    "pick_heat_then_place": (
        "put a hot {thing} in {place}.",
        "heat some {thing} and put it in {place}.",
    ),
    "pick_cool_then_place": (
        "put a cool {thing} in {place}.",
        "cool some {thing} and put it in {place}.",
    ),
    PICK_TWO: (
        "put two {thing} in {place}.",
        "find two {thing} and put them in {place}.",
    ),
}
"""Wordings of a goal by category; tasks take the categories in turn."""

TREATMENT_OF: Mapping[str, str] = {
    "pick_clean_then_place": "clean",
    "pick_heat_then_place": "heat",
    "pick_cool_then_place": "cool",
}
"""Verb of the treatment that a category asks for, where it asks for one."""

_BLANKS = {"thing": "(?P<thing>[a-z]+)", "place": "(?P<place>[a-z]+)"}
_PATTERNS = tuple(
    (category, re.compile(wording.replace(".", "[.]").format(**_BLANKS)))
    for category, wordings in WORDINGS.items()
    for wording in wordings
)


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal that was understood."""

    category: str
    thing: str
    """Kind of thing to handle."""
    place: str | None = None
    """Kind of place to put it; ``None`` where it only has to be looked at."""

    @property
    def treatment(self) -> str | None:
        """The verb of the treatment the thing needs, if any."""
        return TREATMENT_OF.get(self.category)

    @property
    def count(self) -> int:
        """How many things are needed."""
        return 2 if self.category == PICK_TWO else 1


def read_goal(text: str) -> Goal:
    """Reads a goal in any of the wordings.

    Raises:
        BenchmarkError: The text is none of them.
    """
    for category, pattern in _PATTERNS:
        if match := pattern.fullmatch(text):
            return Goal(category, **match.groupdict())
    raise BenchmarkError(f"household knows no goal {text!r}: use one of its wordings")
