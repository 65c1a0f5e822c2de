"""The audit log: who did what to keys and configuration, in rows that are chained by their hash."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Row, select

from tutelage.runtime.gateway.keys import Pepper
from tutelage.runtime.store import schema
from tutelage.runtime.store.transactions import Transactions

ORIGIN = "0" * 64
"""What stands in the first row for the hash of the row before it."""

_ADVISORY_LOCK = 0x7475746D
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action; ``digest`` covers the entry and all entries before it."""

    number: int
    at_s: float
    actor: str
    """``key:…`` of the administration, or ``operator:…`` at the command line."""
    action: str
    subject: str
    detail: Mapping[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What a check of the whole log found."""

    entries: int
    """Entries that are as they were written."""
    head: str
    """Digest of the last of them; keep it with ``entries`` to notice a log that was cut short."""
    problem: str | None = None
    """The first thing that is wrong."""


class AuditLog:
    """An append-only log whose rows are chained with a key that is not in the database.

    Args:
        transactions: Of the database.
        pepper: The chain's key is derived from it.
        clock: Unix seconds.
    """

    def __init__(
        self,
        transactions: Transactions,
        pepper: Pepper,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._transactions = transactions
        self._key = pepper.derived("audit log")
        self._clock = clock

    def append(
        self,
        connection: Connection,
        *,
        actor: str,
        action: str,
        subject: str,
        detail: Mapping[str, Any],
    ) -> None:
        """Adds an entry in the writing transaction of the action itself; its last statement."""
        if connection.dialect.name == "postgresql":
            # SQLite has one writer anyway.
            connection.execute(
                sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK}
            )
        table = schema.audit
        last = connection.execute(
            select(table.c.number, table.c.digest).order_by(table.c.number.desc()).limit(1)
        ).first()
        number, previous = (1, ORIGIN) if last is None else (last.number + 1, last.digest)
        row = {
            "number": number,
            "at_s": float(self._clock()),
            "actor": actor,
            "action": action,
            "subject": subject,
            "detail": json.dumps(detail, sort_keys=True),
            "previous": previous,
        }
        connection.execute(table.insert().values(**row, digest=self._digest(row)))

    async def record(
        self, *, actor: str, action: str, subject: str, detail: Mapping[str, Any]
    ) -> None:
        """Adds an entry for an action that is no change of the database.

        Raises:
            StoreError: The database cannot be written.
        """

        def write() -> None:
            with self._transactions.writing() as connection:
                self.append(connection, actor=actor, action=action, subject=subject, detail=detail)

        await asyncio.to_thread(write)

    async def entries(self, *, after: int = 0, limit: int = 100) -> list[AuditEntry]:
        """Entries in order, from the one behind number ``after`` on.

        Raises:
            StoreError: The database cannot be read.
        """
        return await asyncio.to_thread(self._entries, after, limit)

    async def verify(self, known: tuple[int, str] | None = None) -> AuditVerdict:
        """Checks every row.

        Args:
            known: ``entries`` and ``head`` of an earlier verdict, to notice a log cut short.

        Raises:
            StoreError: The database cannot be read.
        """
        return await asyncio.to_thread(self._verify, known)

    def _entries(self, after: int, limit: int) -> list[AuditEntry]:
        table = schema.audit
        query = select(table).where(table.c.number > after).order_by(table.c.number).limit(limit)
        with self._transactions.reading() as connection:
            return [
                AuditEntry(
                    number=row.number,
                    at_s=row.at_s,
                    actor=row.actor,
                    action=row.action,
                    subject=row.subject,
                    detail=_detail(row.detail),
                    digest=row.digest,
                )
                for row in connection.execute(query)
            ]

    def _verify(self, known: tuple[int, str] | None) -> AuditVerdict:
        count, head = 0, ORIGIN
        with self._transactions.reading() as connection:
            for row in _all_rows(connection):
                problem = self._problem(row, count + 1, head)
                if problem is None and known is not None and known[0] == row.number:
                    problem = _differs(row, known[1])
                if problem is not None:
                    return AuditVerdict(count, head, problem)
                count, head = row.number, row.digest
        if known is not None and known[0] > count:
            return AuditVerdict(count, head, f"entries {count + 1} to {known[0]} are gone")
        return AuditVerdict(count, head)

    def _problem(self, row: Row[Any], number: int, previous: str) -> str | None:
        if row.number != number:
            return f"entry {number} is gone"
        if not hmac.compare_digest(row.previous.encode(), previous.encode()):
            return f"entry {number} does not follow the entry before it"
        if not hmac.compare_digest(row.digest.encode(), self._digest(row._asdict()).encode()):
            return f"entry {number} was changed, or written under another pepper"
        return None

    def _digest(self, row: Mapping[str, Any]) -> str:
        names = ("number", "at_s", "actor", "action", "subject", "detail", "previous")
        message = json.dumps([row[name] for name in names])
        return hmac.new(self._key, message.encode(), hashlib.sha256).hexdigest()


def _differs(row: Row[Any], digest: str) -> str | None:
    if hmac.compare_digest(row.digest.encode(), digest.encode()):
        return None
    return f"entry {row.number} is another one than it was"


def _detail(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    # A row that was tampered with is shown as it is; ``verify`` names it.
    return found if isinstance(found, dict) else {"text": text}


def _all_rows(connection: Connection) -> Iterator[Row[Any]]:
    table = schema.audit
    last: int | None = None
    while True:
        query = select(table).order_by(table.c.number).limit(_ROWS_AT_ONCE)
        if last is not None:
            query = query.where(table.c.number > last)
        rows = connection.execute(query).all()
        yield from rows
        if len(rows) < _ROWS_AT_ONCE:
            return
        last = rows[-1].number
