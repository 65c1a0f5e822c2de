"""What one episode can change: a database, who has logged in, and the answer given."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Any

from tutelage.benchmarks.office.schema import SCHEMA

Row = dict[str, Any]


def new_database() -> sqlite3.Connection:
    """An empty office in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    return connection


def copied(template: sqlite3.Connection) -> sqlite3.Connection:
    """A database in memory with the content of another."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    template.backup(connection)
    return connection


class Desk:
    """The office of one episode.

    Args:
        connection: Its database; closed with the desk.
        seed: Tokens of logins depend on it.
    """

    def __init__(self, connection: sqlite3.Connection, seed: str) -> None:
        self.connection = connection
        self.seed = seed
        self.logged_in: set[str] = set()
        self.completed = False
        self.answer: object = None
        """What ``complete_task`` was told."""

    def rows(self, sql: str, *values: object) -> list[Row]:
        """The rows of a query, each by column name."""
        cursor = self.connection.execute(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def row(self, sql: str, *values: object) -> Row | None:
        """The first row of a query, if there is one."""
        found = self.rows(sql, *values)
        return found[0] if found else None

    def write(self, sql: str, *values: object) -> int:
        """Carries out a change; returns the key of a row that it inserted."""
        return self.connection.execute(sql, values).lastrowid or 0

    def insert(self, table: str, **values: object) -> int:
        """Inserts a row; returns its key."""
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        return self.write(f"INSERT INTO {table} ({names}) VALUES ({marks})", *values.values())

    def update(self, table: str, key: int, **values: object) -> None:
        """Changes columns of one row."""
        if values:
            columns = ", ".join(f"{name} = ?" for name in values)
            self.write(f"UPDATE {table} SET {columns} WHERE id = ?", *values.values(), key)

    def token(self, app: str) -> str:
        """The access token of an app in this episode."""
        digest = hashlib.sha256(f"{self.seed}/{app}".encode()).hexdigest()
        return f"{app}-{digest[:12]}"

    @property
    def profile(self) -> Row:
        """Who the agent works for."""
        found = self.row("SELECT * FROM profile")
        assert found is not None
        return found

    @property
    def now(self) -> str:
        """The time of day never moves on, so that equal actions leave equal rows."""
        return f"{self.profile['today']} 09:00"

    def fork(self) -> Desk:
        """A copy that can be changed on its own."""
        other = Desk(copied(self.connection), self.seed)
        other.logged_in = set(self.logged_in)
        other.completed, other.answer = self.completed, self.answer
        return other

    def close(self) -> None:
        """Frees the database."""
        self.connection.close()
