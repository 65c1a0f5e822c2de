"""Conversations in the database, shared by the workers of a gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Connection, Engine, delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from tutelage.runtime.errors import StoreError
from tutelage.runtime.store.schema import conversations
from tutelage.runtime.store.transactions import Transactions

_COLUMNS = ("tenant", "prefix_sha256", "episode_id", "created_at_s")


class SqlConversationStore:
    """Keeps the episodes of transcripts in the table ``conversations``.

    What is saved while a transaction runs goes into the next one together. Blocking work runs in
    two threads of its own, so that reading does not wait for a commit.

    Args:
        engine: From ``open_engine``; the caller disposes of it.
        clock: Unix time in seconds.
        queue_rows: Rows that may wait to be written; more are refused.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Callable[[], float] = time.time,
        queue_rows: int = 1000,
    ) -> None:
        self._transactions = Transactions(engine)
        self._clock = clock
        self._queue_rows = queue_rows
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="tutelage-conversations-read")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="tutelage-conversations-write")
        self._waiting: dict[tuple[str, str], tuple[str, float]] = {}
        self._next: asyncio.Future[None] | None = None
        self._flush: asyncio.Task[None] | None = None

    async def load(self, tenant: str, digest: str) -> str | None:
        """The episode that was saved last under a digest.

        Raises:
            StoreError: The database cannot be read.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, self._load, tenant, digest)

    async def save(self, tenant: str, digest: str, episode_id: str) -> None:
        """Returns when the row is committed; a caller that is cancelled leaves it to be written.

        Raises:
            StoreError: The database cannot be written, or too many rows wait for it.
        """
        if len(self._waiting) >= self._queue_rows:
            raise StoreError(
                f"{self._queue_rows} conversations wait for the database: this one is not saved"
            )
        self._waiting[tenant, digest] = (episode_id, self._clock())
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        written = self._next
        if self._flush is None or self._flush.done():
            self._flush = asyncio.create_task(self._write(), name="tutelage-conversations")
        await asyncio.shield(written)

    async def forget(self, before_s: float, limit: int = 500) -> int:
        """Deletes at most ``limit`` rows that were saved before a Unix time; how many they were.

        Raises:
            StoreError: The database cannot be written.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, self._forget, before_s, limit)

    async def aclose(self) -> None:
        """Writes what waits, and ends the threads."""
        if self._flush is not None:
            await self._flush
        self._reader.shutdown()
        self._writer.shutdown()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._next is not None:
            rows = [
                dict(zip(_COLUMNS, (*key, *value), strict=True))
                for key, value in self._waiting.items()
            ]
            written, self._next = self._next, None
            self._waiting.clear()
            try:
                await loop.run_in_executor(self._writer, self._save, rows)
            except StoreError as error:
                written.set_exception(error)
                # Reading it says that it is known, should nobody wait any more.
                written.exception()
            else:
                written.set_result(None)

    def _load(self, tenant: str, digest: str) -> str | None:
        query = select(conversations.c.episode_id).where(
            conversations.c.tenant == tenant, conversations.c.prefix_sha256 == digest
        )
        with self._transactions.reading() as connection:
            found: str | None = connection.execute(query).scalar_one_or_none()
        return found

    def _save(self, rows: list[dict[str, object]]) -> None:
        with self._transactions.writing() as connection:
            _upsert(connection, rows)

    def _forget(self, before_s: float, limit: int) -> int:
        row = conversations.c
        keys = (row.tenant, row.prefix_sha256)
        # Several workers delete: rows that another one has at hand are left to it.
        old = (
            select(*keys)
            .where(row.created_at_s < before_s)
            .order_by(row.created_at_s)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self._transactions.writing() as connection:
            found = [tuple(one) for one in connection.execute(old)]
            if not found:
                return 0
            these = tuple_(*keys).in_(found)
            return connection.execute(delete(conversations).where(these)).rowcount


def _upsert(connection: Connection, rows: list[dict[str, object]]) -> None:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(conversations)
    changes = {name: statement.excluded[name] for name in ("episode_id", "created_at_s")}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["tenant", "prefix_sha256"], set_=changes),
        rows,
    )
