"""Plans for ALFWorld games, by Fast Downward on the part of a game that matters for its goal.

On a whole game the search takes from milliseconds to a minute: every fork in every drawer is
something to carry about. Without the things that do not matter it takes milliseconds. What is left
has a plan exactly if the whole game has one: the goal's kinds of things and places, what cleans,
heats and cools, and a place for what is in the hands are all kept.

Import this module inside a function: it needs the ``alfworld`` extra.
"""

from __future__ import annotations

import ctypes
import importlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

TOOLS = frozenset({"sinkbasintype", "microwavetype", "fridgetype"})
"""Types of the places that clean, heat and cool."""


def load_library() -> ctypes.CDLL:
    """A copy of the planner's library with a state of its own; it holds one game at a time."""
    library: ctypes.CDLL = importlib.import_module("fast_downward").load_lib()
    return library


class Planner:
    """Fast Downward with a library of its own, so that it disturbs no game."""

    def __init__(self) -> None:
        self._library: ctypes.CDLL | None = None

    def plan(self, domain: str, problem: str) -> tuple[str, ...]:
        """Grounded operators that reach the goal of a PDDL problem; empty if none are found."""
        downward = importlib.import_module("fast_downward")
        _, translated = downward.pddl2sas(domain, problem, optimize=True)
        if self._library is None:
            self._library = load_library()
        if not self._library.solve_sas(translated.encode(), False):
            return ()
        operators = (downward.Operator * self._library.get_last_plan_length())()
        self._library.get_last_plan(operators)
        return tuple(operator.name for operator in operators)


def essential_problem(state: Any) -> str:
    """The state of a game as a PDDL problem without the things that do not matter for its goal.

    Args:
        state: A TextWorld ``PddlState``.
    """
    source = state.pddl_problem.lower()
    goal = source[source.index("(:goal") :]
    kinds = {thing.name: thing.type_name for thing in state.task.objects}
    facts = _rows(state.facts)
    kept = _essential(facts, kinds, set(re.findall(r"\w+", goal)))
    things = " ".join(f"{name} - {kind}" for name, kind in kinds.items() if name in kept)
    true = " ".join(
        f"({predicate} {' '.join(row)})"
        for predicate, rows in facts.items()
        for row in rows
        if kept.issuperset(row)
    )
    return (
        f"(define (problem essential) (:domain {state.task.domain_name}) (:objects {things})"
        f" (:init {true} (= (total-cost) 0)) {goal}"
    )


def _rows(facts: Iterable[Any]) -> dict[str, list[tuple[str, ...]]]:
    """Arguments of the true facts by predicate, without what the translator derives."""
    rows: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for fact in facts:
        if "@" not in fact.name and not fact.is_negation:
            rows[fact.name].append(tuple(variable.name for variable in fact.arguments))
    return rows


def _essential(
    facts: Mapping[str, list[tuple[str, ...]]], kinds: Mapping[str, str], wanted: set[str]
) -> set[str]:
    def pairs(predicate: str) -> set[tuple[str, str]]:
        return {(row[0], row[1]) for row in facts.get(predicate, ())}

    type_of = dict(pairs("objecttype") | pairs("receptacletype"))
    spot_of = dict(pairs("receptacleatlocation"))
    held = {thing for _, thing in pairs("holds")}
    here = {spot for _, spot in pairs("atlocation")}
    things = held | {name for name, kind in pairs("objecttype") if kind in wanted}
    places = {name for name, kind in pairs("receptacletype") if kind in wanted | TOOLS}
    places |= {place for thing, place in pairs("inreceptacle") if thing in things}
    places |= {place for place, spot in spot_of.items() if spot in here}
    openable = {place for (place,) in facts.get("openable", ())}
    for thing in held:  # somewhere to put it, if it is in the way
        room = [
            place
            for place, _ in pairs("receptacletype")
            if (type_of[place], type_of[thing]) in pairs("cancontain")
        ]
        places |= set(sorted(room, key=lambda place: (place in openable, place))[:1])
    spots = here | {spot_of[place] for place in places if place in spot_of}
    chosen = {"object": things, "receptacle": places, "location": spots}
    return {name for name, kind in kinds.items() if name in chosen.get(kind, kinds)}
