"""What a scenario is: a template of tasks that differ in people, names and numbers."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tutelage.benchmarks.office.changes import Wanted
from tutelage.benchmarks.office.desk import Desk, Row

Split = Literal["train", "dev", "test"]
Level = Literal["easy", "medium", "hard"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """One task of a scenario."""

    goal: str
    """What the user says."""
    values: Mapping[str, object] = field(default_factory=dict)
    """What the user says of names and numbers, for the solution's ``$name``."""
    wanted: Sequence[Wanted] = ()
    """Every change that the task asks for."""
    answer: object = None
    """``None`` where no answer is asked for."""


class Setting:
    """Where a scenario is staged: an office that may still be furnished.

    Args:
        desk: Its office.
        rng: Draws what differs between the variants.
    """

    def __init__(self, desk: Desk, rng: random.Random) -> None:
        self.desk = desk
        self.rng = rng

    def day(self, offset: int) -> str:
        """A day from today, as YYYY-MM-DD."""
        today = datetime.date.fromisoformat(str(self.desk.profile["today"]))
        return (today + datetime.timedelta(days=offset)).isoformat()

    def add(self, table: str, **values: object) -> int:
        """Puts a row into the office; returns its key."""
        return self.desk.insert(table, **values)

    def mail(self, sender: str, subject: str, body: str = "", **values: object) -> int:
        """Puts a mail into the inbox; returns its key."""
        row = {"folder": "inbox", "recipients": self.desk.profile["email"]}
        row["sent_at"] = f"{self.day(-self.rng.randint(1, 20))} {self.rng.randint(10, 18)}:15"
        return self.add("mails", **{**row, **values}, sender=sender, subject=subject, body=body)

    def rows(self, table: str, where: str = "1", *values: object) -> list[Row]:
        """Rows of the office in the order of their keys."""
        return self.desk.rows(f"SELECT * FROM {table} WHERE {where} ORDER BY id", *values)

    def one(self, table: str, where: str = "1", *values: object) -> Row:
        """One of the rows that fit, drawn at random."""
        return self.rng.choice(self.rows(table, where, *values))

    def some(self, count: int, table: str, where: str = "1", *values: object) -> list[Row]:
        """Several of the rows that fit, drawn at random, in the order of their keys."""
        found = self.rng.sample(self.rows(table, where, *values), count)
        return sorted(found, key=lambda row: int(row["id"]))

    def choice(self, *values: str) -> str:
        """One of several texts."""
        return self.rng.choice(values)

    def number(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return self.rng.randint(low, high)


def full_name(contact: Row) -> str:
    """First and last name of a contact."""
    return f"{contact['first_name']} {contact['last_name']}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A template of tasks with its solution.

    The solution is a text of blocks (see ``solution``): it may know what the user says, and finds
    everything else through the APIs.
    """

    name: str
    split: Split
    level: Level
    stage: Callable[[Setting], Assignment]
    solution: str
