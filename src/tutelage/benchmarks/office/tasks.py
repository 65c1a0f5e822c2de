"""The tasks of each split, and the office behind every task id."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tutelage.benchmarks.environment import Task
from tutelage.benchmarks.office.answers import answers_match
from tutelage.benchmarks.office.changes import State, changes, collateral, state_of, unmet
from tutelage.benchmarks.office.desk import Desk
from tutelage.benchmarks.office.population import furnished
from tutelage.benchmarks.office.scenario import Assignment, Scenario, Setting
from tutelage.benchmarks.office.scenarios import (
    calendar,
    contacts,
    files,
    mail,
    mixed,
    music,
    notes,
    payments,
    todo,
)
from tutelage.runtime.errors import WorldMissing

VARIANTS = 3
"""Tasks of each scenario that make up a split; more are drawn where more are asked for."""
_OFFICES = 12
_SPLITS = ("train", "dev", "test")
_LEVELS = ("easy", "medium", "hard")
_SPLIT = re.compile(r"(train|dev|test)(?::([1-9][0-9]{0,5}))?")
_TASK_ID = re.compile(r"([a-z_]+)-(0|[1-9][0-9]{0,5})")
_TOPICS = (mail, notes, payments, music, files, contacts, calendar, todo, mixed)

SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {scenario.name: scenario for topic in _TOPICS for scenario in topic.SCENARIOS}
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a task stands."""

    completed: bool
    answered: bool
    """Whether the answer is right, or none was asked for and none was given."""
    missing: int
    """Wanted changes that are not there."""
    collateral: int
    """Rows that changed although nobody wanted it."""

    @property
    def success(self) -> bool:
        """Whether the task was done, and nothing else."""
        return self.completed and self.answered and not self.missing and not self.collateral


@dataclass(frozen=True, slots=True)
class Game:
    """A task as it is played."""

    scenario: Scenario
    assignment: Assignment
    desk: Desk
    before: State

    def judge(self) -> Verdict:
        """Compares the office with what was wanted."""
        found = changes(self.before, self.desk.connection)
        return Verdict(
            completed=self.desk.completed,
            answered=answers_match(self.assignment.answer, self.desk.answer),
            missing=len(unmet(self.assignment.wanted, found)),
            collateral=len(collateral(self.assignment.wanted, found)),
        )


def tasks(split: str) -> list[Task]:
    """The tasks of ``train``, ``dev`` or ``test``; ``test:20`` is the first 20.

    Scenarios take turns by difficulty, and the variants of one stand together. Beyond the three
    variants of each scenario, as in ``train:500``, further ones are drawn.

    Raises:
        WorldMissing: There is no such split.
    """
    match = _SPLIT.fullmatch(split)
    if match is None:
        raise WorldMissing(
            f"office has no split {split!r}: use train, dev or test, with a number of tasks if you "
            "like, as in test:20"
        )
    names = _order(match[1])
    count = int(match[2] or len(names) * VARIANTS)
    found: list[Task] = []
    start = 0
    while len(found) < count:
        for name in names:
            level = SCENARIOS[name].level
            found += [
                Task(f"{name}-{variant}", match[1], level)
                for variant in range(start, start + VARIANTS)
            ]
        start += VARIANTS
    return found[:count]


def game(task_id: str) -> Game:
    """The game behind a task id, the same on every machine.

    Raises:
        WorldMissing: The id is not one of this world's.
    """
    match = _TASK_ID.fullmatch(task_id)
    if match is None or match[1] not in SCENARIOS:
        raise WorldMissing(f"office has no task {task_id!r}: ids look like star_mail-0")
    scenario, variant = SCENARIOS[match[1]], int(match[2])
    rng = random.Random(f"tutelage/office/{task_id}")
    # The variants of a scenario play in different offices.
    place = (list(SCENARIOS).index(scenario.name) * 5 + variant) % _OFFICES
    desk = Desk(furnished(str(place)), task_id)
    assignment = scenario.stage(Setting(desk, rng))
    return Game(scenario, assignment, desk, state_of(desk.connection))


def _order(split: str) -> list[str]:
    levels = [
        [name for name, one in SCENARIOS.items() if (one.split, one.level) == (split, level)]
        for level in _LEVELS
    ]
    return [
        names[place]
        for place in range(max(map(len, levels)))
        for names in levels
        if place < len(names)
    ]
