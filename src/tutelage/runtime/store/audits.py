"""Audits of the student's steps in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine, select
from sqlalchemy.dialects import postgresql, sqlite

from tutelage.runtime.store.schema import step_audits
from tutelage.runtime.store.transactions import Transactions
from tutelage.runtime.types import StepAudit


class SqlAuditStore:
    """Keeps audits in the table ``step_audits``, one transaction each: they are few.

    Args:
        engine: From ``open_engine``; the caller disposes of it.
    """

    def __init__(self, engine: Engine) -> None:
        self._transactions = Transactions(engine)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tutelage-audits")

    async def record_audit(self, audit: StepAudit) -> None:
        """Keeps an audit; a second one of the same trace does nothing.

        Raises:
            StoreError: The database cannot be written.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._insert, audit)

    async def audits(self, tenant: str, *, since_s: float = 0.0) -> Sequence[StepAudit]:
        """All audits of a tenant from a Unix time on, oldest first.

        Raises:
            StoreError: The database cannot be read.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._select, tenant, since_s)

    async def aclose(self) -> None:
        """Finishes what was begun, and ends the thread."""
        await asyncio.to_thread(self._thread.shutdown)

    def _insert(self, audit: StepAudit) -> None:
        row = {
            "tenant": audit.tenant,
            "trace_id": audit.trace_id,
            "episode_id": audit.episode_id,
            "created_at_s": audit.created_at_s,
            "body": audit.model_dump(mode="json"),
        }
        with self._transactions.writing() as connection:
            is_postgres = connection.dialect.name == "postgresql"
            insert = postgresql.insert if is_postgres else sqlite.insert
            connection.execute(insert(step_audits).on_conflict_do_nothing(), row)

    def _select(self, tenant: str, since_s: float) -> list[StepAudit]:
        columns = step_audits.c
        query = (
            select(columns.body)
            .where(columns.tenant == tenant, columns.created_at_s >= since_s)
            .order_by(columns.created_at_s, columns.trace_id)
        )
        with self._transactions.reading() as connection:
            return [StepAudit.model_validate(body) for body in connection.execute(query).scalars()]
