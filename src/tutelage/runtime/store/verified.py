"""Traces whose episodes are known to have succeeded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, Select, and_, func, select

from tutelage.runtime.store.schema import episodes, traces
from tutelage.runtime.store.transactions import Transactions


class SqlVerified:
    """Counts and finds what may be learnt from.

    Blocking; any thread may use it.

    Args:
        engine: From ``open_engine``; the caller disposes of it.
    """

    def __init__(self, engine: Engine) -> None:
        self._transactions = Transactions(engine)

    def count(self, tenant: str, since_s: float) -> int:
        """Traces of successful episodes of a tenant after a Unix time.

        Raises:
            StoreError: The database cannot be read.
        """
        query = _joined(select(func.count()), tenant).where(traces.c.created_at_s > since_s)
        with self._transactions.reading() as connection:
            return int(connection.execute(query).scalar() or 0)

    def latest_s(self, tenant: str) -> float:
        """When the newest trace of a successful episode was written; 0 if there is none.

        Raises:
            StoreError: The database cannot be read.
        """
        query = _joined(select(func.max(traces.c.created_at_s)), tenant)
        with self._transactions.reading() as connection:
            return float(connection.execute(query).scalar() or 0.0)

    def episodes(self, tenant: str, until_s: float) -> Sequence[str]:
        """Ids of successful episodes up to a Unix time, in the order of their first traces.

        Raises:
            StoreError: The database cannot be read.
        """
        query = (
            _joined(select(traces.c.episode_id), tenant)
            .group_by(traces.c.episode_id)
            .having(func.max(traces.c.created_at_s) <= until_s)
            .order_by(func.min(traces.c.created_at_s), traces.c.episode_id)
        )
        with self._transactions.reading() as connection:
            return list(connection.execute(query).scalars())


def _joined(query: Select[Any], tenant: str) -> Select[Any]:
    same = and_(episodes.c.tenant == traces.c.tenant, episodes.c.id == traces.c.episode_id)
    return query.select_from(traces.join(episodes, same)).where(
        traces.c.tenant == tenant, episodes.c.success.is_(True)
    )
