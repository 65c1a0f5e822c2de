"""ToyAgent: fetch an item and bring it to a room, on a ring of rooms; what is right is exact."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import product
from typing import Final, NamedTuple

ROOMS: Final = 8
ITEMS: Final = 4
GO: Final = "go"
TAKE: Final = "take"
DROP: Final = "drop"
LONGEST: Final = 12
"""Steps of an episode; the longest shortest way has 10."""


class Act(NamedTuple):
    """What the agent does: go to a room, take or drop an item."""

    verb: str
    thing: int


@dataclass(frozen=True, slots=True, order=True)
class State:
    """Goal and what the agent sees."""

    item: int
    destination: int
    room: int
    holding: bool = False


@dataclass(frozen=True, slots=True)
class ToyWorld:
    """A ring of rooms and where each item lies, which the agent is not told."""

    places: tuple[int, ...]

    @staticmethod
    def drawn(generator: random.Random) -> ToyWorld:
        """A world whose items lie in different rooms."""
        return ToyWorld(tuple(generator.sample(range(ROOMS), ITEMS)))

    def target(self, state: State) -> int:
        """The room that the agent must be in next: the item's, then the destination."""
        return state.destination if state.holding else self.places[state.item]

    def right(self, state: State) -> dict[Act, float]:
        """The oracle's distribution: all shortest ways alike."""
        target = self.target(state)
        if state.room == target:
            return {Act(DROP if state.holding else TAKE, state.item): 1.0}
        ahead = (target - state.room) % ROOMS
        steps = [1] if ahead < ROOMS / 2 else [-1] if ahead > ROOMS / 2 else [1, -1]
        return {Act(GO, (state.room + step) % ROOMS): 1 / len(steps) for step in steps}

    def possible(self, state: State) -> tuple[Act, ...]:
        """What can be said at all in a state; wrong ones leave it as it is or lead astray."""
        neighbours = (Act(GO, (state.room + step) % ROOMS) for step in (1, -1))
        return (*neighbours, Act(TAKE, state.item), Act(DROP, state.item))

    def after(self, state: State, act: Act) -> State | None:
        """The next state; ``None``: the item is at its destination. Impossible acts do nothing."""
        if act.verb == GO and (act.thing - state.room) % ROOMS in (1, ROOMS - 1):
            return replace(state, room=act.thing)
        here = act.thing == state.item
        if act.verb == TAKE and here and not state.holding:
            return replace(state, holding=state.room == self.places[state.item])
        if act.verb == DROP and here and state.holding and state.room == state.destination:
            return None
        return state

    def tasks(self) -> list[State]:
        """All starts: goal and room, nothing in hand."""
        return [State(*numbers) for numbers in product(range(ITEMS), range(ROOMS), range(ROOMS))]


@dataclass(frozen=True, slots=True)
class ToyTeacher:
    """The oracle with errors: some everywhere, more in its blind spots."""

    world: ToyWorld
    seed: int
    error: float = 0.2
    blind_share: float = 0.1
    blind_error: float = 0.7

    def distribution(self, state: State) -> dict[Act, float]:
        """Its exact policy: ``(1 - e) oracle + e slip``; slips are fixed for a state."""
        draw = random.Random(f"{self.seed} {state}")
        error = self.blind_error if draw.random() < self.blind_share else self.error
        acts = self.world.possible(state)
        weights = [draw.expovariate(1.0) for _ in acts]
        shares = {
            act: error * weight / sum(weights) for act, weight in zip(acts, weights, strict=True)
        }
        for act, share in self.world.right(state).items():
            shares[act] += (1 - error) * share
        return shares

    def sample(self, state: State, generator: random.Random) -> Act:
        """What it does this time."""
        shares = self.distribution(state)
        return generator.choices(list(shares), list(shares.values()))[0]
