"""What changed in an office, and whether it is what was wanted and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tutelage.benchmarks.office.schema import TABLES

Kind = Literal["added", "changed", "removed"]
State = Mapping[str, Mapping[int, tuple[object, ...]]]
"""Rows by table and key."""

FREE = frozenset(("id", "sent_at", "made_at", "updated_at", "modified_at", "reply_to", "card"))
"""Columns that follow from a change and need not be named."""


@dataclass(frozen=True, slots=True)
class Change:
    """A row that is not what it was."""

    kind: Kind
    table: str
    key: int
    values: Mapping[str, object]
    """Of an added row all columns; of a changed one those that changed, as they are now."""

    def same_as(self, other: Change) -> bool:
        """Whether both are one change; keys of added rows do not count."""
        return (
            (self.kind, self.table) == (other.kind, other.table)
            and (self.kind == "added" or self.key == other.key)
            and _named(self.values) == _named(other.values)
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """A change that a task asks for."""

    kind: Kind
    table: str
    key: int | None = None
    """``None`` for an added row."""
    values: Mapping[str, object] = field(default_factory=dict)
    """Of a changed row exactly what changes; of an added one what counts. A list of texts stands
    for a text that holds them all, in any case."""

    def fits(self, change: Change) -> bool:
        """Whether a change is this one."""
        if (change.kind, change.table) != (self.kind, self.table):
            return False
        if self.kind != "added" and change.key != self.key:
            return False
        found = _named(change.values)
        if self.kind == "changed" and found.keys() != self.values.keys() - FREE:
            return False
        return all(_fits(value, change.values.get(name)) for name, value in self.values.items())


def added(table: str, **values: object) -> Wanted:
    """A row is there that was not; columns that are not given are free."""
    return Wanted("added", table, None, values)


def changed(table: str, key: int, **values: object) -> Wanted:
    """Exactly these columns of a row have new values."""
    return Wanted("changed", table, key, values)


def removed(table: str, key: int) -> Wanted:
    """A row is gone."""
    return Wanted("removed", table, key)


def state_of(connection: sqlite3.Connection) -> State:
    """All rows of an office."""
    return {
        table: {row[0]: row for row in connection.execute(f"SELECT * FROM {table}")}
        for table in TABLES
    }


def changes(before: State, connection: sqlite3.Connection) -> list[Change]:
    """What differs from an earlier state, table by table."""
    found: list[Change] = []
    for table in TABLES:
        cursor = connection.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in cursor.description]
        old = before[table]
        seen = 0
        for row in cursor:
            known = old.get(row[0])
            seen += known is not None
            if known is None:
                values = dict(zip(names, row, strict=True))
                found.append(Change("added", table, row[0], values))
            elif known != row:
                values = {
                    name: value
                    for name, value, was in zip(names, row, known, strict=True)
                    if value != was
                }
                found.append(Change("changed", table, row[0], values))
        if seen < len(old):
            left = {row[0] for row in connection.execute(f"SELECT id FROM {table}")}
            found += [Change("removed", table, key, {}) for key in old if key not in left]
    return found


def unmet(wanted: Sequence[Wanted], found: Sequence[Change]) -> list[Wanted]:
    """Wanted changes that are not there."""
    return _paired(wanted, found)[0]


def collateral(wanted: Sequence[Wanted], found: Sequence[Change]) -> list[Change]:
    """Changes that nobody wanted."""
    return _paired(wanted, found)[1]


def _paired(wanted: Sequence[Wanted], found: Sequence[Change]) -> tuple[list[Wanted], list[Change]]:
    left = list(found)
    missing: list[Wanted] = []
    # What says more about a row chooses first.
    for want in sorted(wanted, key=lambda one: -len(one.values)):
        fitting = next((change for change in left if want.fits(change)), None)
        if fitting is None:
            missing.append(want)
        else:
            left.remove(fitting)
    return missing, [
        change
        for change in left
        if change.kind == "added" or _named(change.values) or change.kind == "removed"
    ]


def _named(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if name not in FREE}


def _fits(wanted: object, value: object) -> bool:
    if isinstance(wanted, list):
        text = str(value).casefold()
        return all(str(part).casefold() in text for part in wanted)
    if isinstance(wanted, str) and isinstance(value, str):
        return wanted.strip() == value.strip()
    return wanted == value
