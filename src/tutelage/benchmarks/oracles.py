"""What stands for the teacher in each world, in the words of a report."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_OFFICE = "a scripted agent; once others have acted, it makes the calls that are missing"
ORACLES: Mapping[str, str] = MappingProxyType(
    {
        "alfworld": "the hand-coded expert, and a planner once the expert has lost its way",
        "appworld": "AppWorld's published solution, statement by statement",
        "bfcl": "the package's gold calls",
        "household": "a scripted searcher that knows only what it has seen",
        "office": _OFFICE,
        "office-tools": _OFFICE,
        "scienceworld": "the simulator's gold path, and the way back to it after detours",
        "textworld": "TextWorld's own policy, which knows the hidden state",
    }
)


def oracle_of(world: str) -> str:
    """What a world's oracle is."""
    return ORACLES.get(world, "the world's own oracle")
