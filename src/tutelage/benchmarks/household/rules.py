"""The rules of the room: its state, one function a verb, and when a goal is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tutelage.benchmarks.household.goals import LOOK, Goal
from tutelage.benchmarks.household.grammar import REFUSAL, Command, listing, parse
from tutelage.benchmarks.household.vocabulary import LAMP, OPENABLE, TREATMENTS, kind, treated


@dataclass(frozen=True, slots=True)
class State:
    """Everything in the room that can change."""

    contents: Mapping[str, tuple[str, ...]]
    """Numbered things by numbered place; its keys, in order, are all places."""
    here: str | None = None
    """The place the agent stands at; ``None`` in the middle of the room."""
    hand: str | None = None
    opened: frozenset[str] = frozenset()
    lit: frozenset[str] = frozenset()
    conditions: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def is_closed(self, place: str) -> bool:
        """Whether a door is between the agent and what is in the place."""
        return kind(place) in OPENABLE and place not in self.opened

    @property
    def visible(self) -> tuple[str, ...]:
        """What the agent sees at the place where it stands."""
        if self.here is None or self.is_closed(self.here):
            return ()
        return self.contents[self.here]


Effect = tuple[State, str] | None
"""The new state and what is said; ``None`` if the command is impossible."""


def describe(state: State, place: str) -> str:
    """What is seen of a place by someone who stands at it."""
    if state.is_closed(place):
        return f"The {place} is closed."
    things = listing(state.contents[place])
    if kind(place) in OPENABLE:
        return f"The {place} is open. In it, you see {things}."
    return f"On the {place}, you see {things}."


def go(state: State, command: Command) -> Effect:
    """Walks to another place."""
    place = command.place
    if place not in state.contents or place == state.here:
        return None
    return replace(state, here=place), f"You arrive at {place}. {describe(state, place)}"


def open_place(state: State, command: Command) -> Effect:
    """Opens the place the agent stands at."""
    place = command.place
    if place != state.here or not state.is_closed(place):
        return None
    state = replace(state, opened=state.opened | {place})
    return state, f"You open the {place}. {describe(state, place)}"


def close_place(state: State, command: Command) -> Effect:
    """Closes the place the agent stands at."""
    place = command.place
    if place != state.here or place not in state.opened:
        return None
    return replace(state, opened=state.opened - {place}), f"You close the {place}."


def take(state: State, command: Command) -> Effect:
    """Picks up a thing; fixtures stay, and the hand holds one thing only."""
    thing, place = command.thing, command.place
    is_free = state.hand is None and kind(thing) != LAMP
    if place != state.here or thing not in state.visible or not is_free:
        return None
    left = tuple(other for other in state.visible if other != thing)
    state = replace(state, hand=thing, contents={**state.contents, place: left})
    return state, f"You pick up the {thing} from the {place}."


def move(state: State, command: Command) -> Effect:
    """Puts down the thing in the hand."""
    thing, place = command.thing, command.place
    if place != state.here or thing != state.hand or state.is_closed(place):
        return None
    held = (*state.contents[place], thing)
    state = replace(state, hand=None, contents={**state.contents, place: held})
    return state, f"You move the {thing} to the {place}."


def treat(state: State, command: Command) -> Effect:
    """Cleans, heats or cools the thing in the hand at the appliance for it."""
    treatment = TREATMENTS[command.verb]
    thing, here = command.thing, state.here
    if here is None or thing != state.hand or kind(thing) not in treatment.suits:
        return None
    if kind(here) != treatment.appliance or command.place not in (here, treatment.appliance):
        return None
    conditions = treated(state.conditions, thing, command.verb)
    return replace(
        state, conditions=conditions
    ), f"You {command.verb} the {thing} using the {here}."


def use(state: State, command: Command) -> Effect:
    """Turns on a lamp that stands where the agent is."""
    for thing in state.visible:
        if kind(thing) == LAMP and thing not in state.lit and command.thing in (thing, LAMP):
            return replace(state, lit=state.lit | {thing}), f"You turn on the {thing}."
    return None


def examine(state: State, command: Command) -> Effect:
    """Describes the place the agent stands at, or a thing it sees or holds."""
    name = command.thing
    if name == state.here:
        return state, describe(state, name)
    if name != state.hand and name not in state.visible:
        return None
    conditions = " and ".join(sorted(state.conditions.get(name, ())))
    if conditions:
        return state, f"This is a {conditions} {name}."
    return state, f"There's nothing special about the {name}."


def look(state: State, command: Command) -> Effect:
    """Tells where the agent is."""
    if state.here is None:
        places = listing(state.contents)
        return state, (
            f"You are in the middle of a room. Looking quickly around you, you see {places}."
        )
    return state, f"You are facing the {state.here}. {describe(state, state.here)}"


def inventory(state: State, command: Command) -> Effect:
    """Tells what the agent holds."""
    if state.hand is None:
        return state, "You are not carrying anything."
    return state, f"You are carrying: a {state.hand}."


VERBS: Mapping[str, Callable[[State, Command], Effect]] = {
    "go": go,
    "open": open_place,
    "close": close_place,
    "take": take,
    "move": move,
    "clean": treat,
    "heat": treat,
    "cool": treat,
    "use": use,
    "examine": examine,
    "look": look,
    "inventory": inventory,
}


def act(state: State, action: str) -> tuple[State, str]:
    """The state after an action, and the observation; an impossible action changes nothing."""
    command = parse(action)
    effect = VERBS[command.verb](state, command) if command else None
    return effect or (state, REFUSAL)


def achieved(goal: Goal, state: State) -> bool:
    """Whether the goal is reached in this state."""
    if goal.category == LOOK:
        holds = state.hand is not None and kind(state.hand) == goal.thing
        return holds and not state.lit.isdisjoint(state.visible)
    condition = TREATMENTS[goal.treatment].condition if goal.treatment else None
    return any(
        sum(
            kind(thing) == goal.thing
            and (condition is None or condition in state.conditions.get(thing, ()))
            for thing in things
        )
        >= goal.count
        for place, things in state.contents.items()
        if kind(place) == goal.place
    )
