"""Actors that play the household without the environment around it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tutelage.benchmarks.household.oracle import HouseholdOracle
from tutelage.benchmarks.household.rules import State, achieved, act
from tutelage.benchmarks.household.tasks import Game
from tutelage.benchmarks.household.vocabulary import TREATMENTS


@dataclass(frozen=True)
class Played:
    success: bool
    steps: int
    transcript: tuple[tuple[str, str], ...]


def _plausible(state: State) -> list[str]:
    """What an actor without a plan might try: some of it is impossible."""
    commands = ["look", "inventory", "use desklamp", *(f"go to {p}" for p in state.contents)]
    if state.here:
        commands += [f"{verb} {state.here}" for verb in ("open", "close", "examine")]
        commands += [f"take {thing} from {state.here}" for thing in state.visible]
        if state.hand:
            commands.append(f"move {state.hand} to {state.here}")
            commands += [f"{v} {state.hand} with {t.appliance}" for v, t in TREATMENTS.items()]
    return commands


@pytest.fixture(scope="session")
def plausible() -> Callable[[State], list[str]]:
    return _plausible


Play = Callable[..., Played]


@pytest.fixture
def play() -> Play:
    def run(game: Game, cap: int, detours: float = 0.0, seed: str = "detours") -> Played:
        rng = random.Random(seed)
        state = State(game.room.contents)
        oracle = HouseholdOracle(game.wording, act(state, "look")[1])
        transcript: list[tuple[str, str]] = []
        while len(transcript) < cap and not achieved(game.goal, state):
            wanders = rng.random() < detours
            action = rng.choice(_plausible(state)) if wanders else oracle.next()
            state, observation = act(state, action)
            oracle.observe(action, observation)
            transcript.append((action, observation))
        return Played(achieved(game.goal, state), len(transcript), tuple(transcript))

    return run
