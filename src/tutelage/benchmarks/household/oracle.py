"""A searcher that reads the transcript as an agent does, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.benchmarks.household.goals import LOOK, read_goal
from tutelage.benchmarks.household.grammar import REFUSAL, parse, read_listing
from tutelage.benchmarks.household.vocabulary import (
    LAMP,
    OPENABLE,
    TREATMENTS,
    kind,
    likelihood,
    treated,
)
from tutelage.runtime.errors import BenchmarkError


class HouseholdOracle:
    """Chooses the next action anew from what was observed, whoever acted until now.

    It sees a goal, the opening and pairs of action and observation; it has no way to the room
    itself. Where a thing was not seen yet, places are searched by how likely people keep such a
    thing there, for the steps it costs to look.

    Args:
        goal: Wording of the goal.
        opening: First observation, which lists the places.

    Raises:
        BenchmarkError: The goal is in no known wording, or the room lacks a place that it needs.
    """

    def __init__(self, goal: str, opening: str) -> None:
        self._goal = read_goal(goal)
        self._places = read_listing(opening) or ()
        self._require_places()
        self._contents: dict[str, tuple[str, ...]] = {}
        self._opened: set[str] = set()
        self._conditions: dict[str, frozenset[str]] = {}
        self._here: str | None = None
        self._hand: str | None = None

    def observe(self, action: str, observation: str) -> None:
        """Remembers what an action, its own or another actor's, did and showed."""
        command = parse(action)
        if command is None or observation == REFUSAL:
            return
        match command.verb:
            case "go":
                self._here = command.place
                self._notice(command.place, observation)
            case "open":
                self._opened.add(command.place)
                self._notice(command.place, observation)
            case "close":
                self._opened.discard(command.place)
            case "look" | "examine" if self._here:
                self._notice(self._here, observation)
            case "take":
                left = self._contents.get(command.place, ())
                self._contents[command.place] = tuple(t for t in left if t != command.thing)
                self._hand = command.thing
            case "move":
                held = self._contents.get(command.place, ())
                self._contents[command.place] = (*held, command.thing)
                self._hand = None
            case "clean" | "heat" | "cool":
                self._conditions = treated(self._conditions, command.thing, command.verb)

    def next(self) -> str:
        """The action to take now."""
        if self._hand is None:
            return self._fetch()
        if kind(self._hand) != self._goal.thing:
            return self._put_away(self._hand)
        if self._goal.category == LOOK:
            return self._light()
        verb = self._goal.treatment
        if verb and not self._is_ready(self._hand):
            return self._treat(verb, self._hand)
        target = min(self._targets(), key=self._steps_to)
        return self._reach(target) or f"move {self._hand} to {target}"

    def _require_places(self) -> None:
        verb = self._goal.treatment
        needed = {self._goal.place, TREATMENTS[verb].appliance if verb else None} - {None}
        missing = needed - {kind(place) for place in self._places}
        if missing:
            names = ", ".join(sorted(map(str, missing)))
            raise BenchmarkError(f"household: the goal needs a place that is not there: {names}")

    def _notice(self, place: str, observation: str) -> None:
        shown = read_listing(observation)
        if shown is not None:
            self._contents[place] = shown

    def _is_closed(self, place: str) -> bool:
        return kind(place) in OPENABLE and place not in self._opened

    def _is_ready(self, thing: str) -> bool:
        verb = self._goal.treatment
        return verb is None or TREATMENTS[verb].condition in self._conditions.get(thing, ())

    def _steps_to(self, place: str) -> int:
        return (place != self._here) + self._is_closed(place)

    def _reach(self, place: str) -> str | None:
        """The next step towards an open place at hand; ``None`` when the agent is there."""
        if place != self._here:
            return f"go to {place}"
        return f"open {place}" if self._is_closed(place) else None

    def _known(self, thing_kind: str) -> Iterator[tuple[str, str]]:
        """Things of a kind that were seen, with the place where each lies now."""
        for place, things in self._contents.items():
            yield from ((thing, place) for thing in things if kind(thing) == thing_kind)

    def _delivered(self, place: str) -> int:
        things = self._contents.get(place, ())
        return sum(kind(t) == self._goal.thing and self._is_ready(t) for t in things)

    def _targets(self) -> list[str]:
        """Places to deliver to: those that hold most of what is wanted already."""
        places = [place for place in self._places if kind(place) == self._goal.place]
        most = max(map(self._delivered, places), default=0)
        return [place for place in places if self._delivered(place) == most]

    def _fetch(self) -> str:
        # The first target, not the nearest: of two half-full ones the nearest changes on the way.
        target = next(iter(self._targets()), None)
        known = [
            (thing, place)
            for thing, place in self._known(self._goal.thing)
            if place != target or not self._is_ready(thing)
        ]
        if not known:
            return self._search(self._goal.thing)
        thing, place = min(
            known, key=lambda found: (not self._is_ready(found[0]), self._steps_to(found[1]))
        )
        return self._reach(place) or f"take {thing} from {place}"

    def _treat(self, verb: str, thing: str) -> str:
        appliances = [p for p in self._places if kind(p) == TREATMENTS[verb].appliance]
        appliance = min(appliances, key=lambda place: place != self._here)
        if appliance != self._here:
            return f"go to {appliance}"
        return f"{verb} {thing} with {appliance}"

    def _light(self) -> str:
        for lamp, place in self._known(LAMP):
            return self._reach(place) or f"use {lamp}"
        return self._search(LAMP)

    def _put_away(self, thing: str) -> str:
        place = min(self._places, key=self._steps_to)
        return self._reach(place) or f"move {thing} to {place}"

    def _search(self, thing_kind: str) -> str:
        unseen = [p for p in self._places if p not in self._contents]
        if not unseen:
            return "look"
        place = max(
            unseen, key=lambda p: likelihood(thing_kind, kind(p)) / (self._steps_to(p) or 1)
        )
        return self._reach(place) or "look"
