"""The tasks of each split, and the game behind every task id."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tutelage.benchmarks.environment import Task
from tutelage.benchmarks.household.goals import LOOK, TREATMENT_OF, WORDINGS, Goal
from tutelage.benchmarks.household.layout import Room, bucket, draw_places, furnish, shuffled
from tutelage.benchmarks.household.vocabulary import (
    LAMP,
    LIKELY_PLACES,
    THINGS,
    TREATMENTS,
    kind,
)
from tutelage.runtime.errors import WorldMissing

SPLITS: Mapping[str, int] = {"train": 200, "test": 60}
"""Number of tasks in each split unless one is asked for."""

_UNSEEN_SHARE = 6
"""One pairing of thing and place in so many is asked for in test tasks only."""
_TASK_ID = re.compile(r"(train|test)-([0-9]{5}|[1-9][0-9]{5,6})")
_SPLIT = re.compile(r"(train|test)(?::([1-9][0-9]{0,6}))?")


@dataclass(frozen=True, slots=True)
class Game:
    """A task as it is played."""

    goal: Goal
    wording: str
    room: Room


def tasks(split: str) -> list[Task]:
    """The tasks of ``train`` or ``test``; ``train:500`` asks for 500 of them.

    Raises:
        WorldMissing: There is no such split.
    """
    match = _SPLIT.fullmatch(split)
    if match is None:
        raise WorldMissing(
            f"household has no split {split!r}: use train or test, "
            "with a number of tasks if you like, as in train:500"
        )
    name, count = match[1], int(match[2] or SPLITS[match[1]])
    return [Task(f"{name}-{index:05d}", name, _category(index)) for index in range(count)]


def game(task_id: str) -> Game:
    """The game behind a task id, the same on every machine.

    Raises:
        WorldMissing: The id is not one of this world's.
    """
    match = _TASK_ID.fullmatch(task_id)
    if match is None:
        raise WorldMissing(f"household has no task {task_id!r}: ids look like train-00012")
    split, category = match[1], _category(int(match[2]))
    rng = random.Random(f"tutelage/household/{split}/{int(match[2])}")
    while True:
        room = shuffled(rng, THINGS)[0]
        places = draw_places(rng, room, split)
        goals = list(_possible_goals(category, room, places, split))
        if goals:
            goal = shuffled(rng, goals)[0]
            return Game(
                goal,
                shuffled(rng, WORDINGS[category])[0].format(thing=goal.thing, place=goal.place),
                furnish(rng, room, places, _wanted(rng, goal), kept_clear=goal.place),
            )


def _category(index: int) -> str:
    return tuple(WORDINGS)[index % len(WORDINGS)]


def _wanted(rng: random.Random, goal: Goal) -> dict[str, int]:
    spare = 1 if rng.random() < 0.4 else 0
    lamps = {LAMP: 1} if goal.category == LOOK else {}
    return {goal.thing: goal.count + spare, **lamps}


def _possible_goals(
    category: str, room: str, places: tuple[str, ...], split: str
) -> Iterator[Goal]:
    kinds = {kind(place) for place in places}
    verb = TREATMENT_OF.get(category)
    if category == LOOK:
        if kinds & LIKELY_PLACES[LAMP].keys():
            yield from (Goal(LOOK, thing) for thing in THINGS[room])
        return
    treatment = TREATMENTS[verb] if verb else None
    if treatment and treatment.appliance not in kinds:
        return
    for thing in THINGS[room]:
        homes = [place for place in LIKELY_PLACES[thing] if place in kinds]
        if len(homes) < 2 or (treatment and thing not in treatment.suits):
            continue
        for place in homes:
            unseen = bucket(f"{thing} -> {place}", _UNSEEN_SHARE) == 0
            own_appliance = treatment is not None and place == treatment.appliance
            if not own_appliance and not (unseen and split == "train"):
                yield Goal(category, thing, place)
