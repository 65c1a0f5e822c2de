"""Leases in the database: one holder at a time, across processes and machines."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tutelage.runtime.store.schema import locks
from tutelage.runtime.store.transactions import Transactions


class SqlLocks:
    """Leases that fall to others when their holder stops renewing them.

    Blocking; any thread may use it. The clocks of the machines must agree to well within a lease.

    Args:
        engine: From ``open_engine``; the caller disposes of it.
        clock: Unix time in seconds.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._transactions = Transactions(engine)
        self._clock = clock

    def take(self, name: str, holder: str, lease_s: float) -> bool:
        """Takes or renews a lease; ``False`` while another holds it.

        Args:
            name: What is locked.
            holder: Who asks; unique to a process.
            lease_s: How long it holds unless it is renewed.

        Raises:
            StoreError: The database cannot be written.
        """
        table, now_s = locks, self._clock()
        mine = {"holder": holder, "expires_at_s": now_s + lease_s}
        with self._transactions.writing() as connection:
            is_postgres = connection.dialect.name == "postgresql"
            fresh = (postgresql.insert if is_postgres else sqlite.insert)(table)
            made = connection.execute(fresh.on_conflict_do_nothing(), {"name": name, **mine})
            if made.rowcount == 1:
                return True
            query = select(table).where(table.c.name == name).with_for_update()
            row = connection.execute(query).one_or_none()
            if row is None or (row.holder != holder and row.expires_at_s > now_s):
                return False
            connection.execute(update(table).where(table.c.name == name).values(**mine))
            return True

    def holder(self, name: str) -> str | None:
        """Who holds a lease now, if anybody does."""
        table = locks
        with self._transactions.reading() as connection:
            row = connection.execute(select(table).where(table.c.name == name)).one_or_none()
        return row.holder if row is not None and row.expires_at_s > self._clock() else None

    def free(self, name: str, holder: str) -> None:
        """Gives a lease back; one that another holds by now is left alone."""
        table = locks
        with self._transactions.writing() as connection:
            connection.execute(delete(table).where(table.c.name == name, table.c.holder == holder))
