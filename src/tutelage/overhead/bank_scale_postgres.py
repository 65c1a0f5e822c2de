"""pgvector as the measurement of large banks sees it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, text

from tutelage.overhead.bank_scale import K
from tutelage.retrieval.embedding import Vectors
from tutelage.retrieval.keys import StateKey
from tutelage.retrieval.pgvector_table import PgVectorTable
from tutelage.retrieval.shard import Indexed

TENANT = "tutelage-bench-scale"
_EMBEDDER = "bench-scale"
_CHUNK = 5_000


class PostgresSearched:
    """The table that all processes share, with a tenant of its own; ``drop`` takes it away.

    Each row is a trajectory of one step, searched as a bank does: the filter by tenant, state and
    task is part of the statement.

    Args:
        engine: A migrated database on a PostgreSQL server.
        dimension: Length of a vector.
    """

    def __init__(self, engine: Engine, dimension: int) -> None:
        self._engine = engine
        self._size = 0
        self._processes: list[int] = []
        self._table = PgVectorTable(engine, _EMBEDDER, dimension, StateKey())

    def fill(self, rows: Vectors) -> None:
        """Stores rows, then builds the index, as a bank does that is opened for the first time."""
        self.drop()
        self._table.create()
        is_bulk = self._table.begin_filling(len(rows))
        for start in range(0, len(rows), _CHUNK):
            self.add(rows[start : start + _CHUNK])
        if is_bulk:
            self._table.end_filling()
        # The first search of a tenant tells how many rows it has.
        self.nearest(np.asarray(rows[0]))
        ours = text("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
        with self._engine.begin() as connection:
            self._processes = list(connection.scalars(ours))

    def add(self, rows: Vectors) -> None:
        """Stores rows."""
        first, last = self._size, self._size + len(rows) - 1
        trajectories = text(
            "INSERT INTO trajectories (tenant, id, goal, source, state, created_at_s, turns)"
            " SELECT :tenant, CAST(n AS text), 'g', 'bench', 'active', n, '[]'"
            " FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS n"
        )
        with self._engine.begin() as connection:
            connection.execute(trajectories, {"tenant": TENANT, "first": first, "last": last})
        named = {str(first + offset): _indexed(row) for offset, row in enumerate(rows)}
        self._table.insert(TENANT, named)
        self._size += len(rows)

    def nearest(self, query: Vectors) -> Sequence[int]:
        """Numbers of the best rows."""
        return [int(id) for id in self._table.nearest(TENANT, query, K)]

    def bytes(self) -> int:
        """Of the index over goals, on disk; it should fit into the server's memory."""
        size = text("SELECT pg_relation_size(CAST(:name AS regclass))")
        with self._engine.begin() as connection:
            return int(connection.scalar(size, {"name": f"{self._table.name}_goal"}) or 0)

    def computed_s(self) -> float:
        """Seconds of this thread and, where it runs on this machine, of the server's processes."""
        total_ns = 0
        for process in self._processes:
            try:
                total_ns += int(Path(f"/proc/{process}/schedstat").read_text().split()[0])
            except (OSError, ValueError, IndexError):
                continue
        return time.thread_time() + total_ns / 1e9

    def drop(self) -> None:
        """Takes away all that was stored."""
        with self._engine.begin() as connection:
            connection.execute(text(f"DROP TABLE IF EXISTS {self._table.name}"))
            connection.execute(
                text("DELETE FROM trajectories WHERE tenant = :tenant"), {"tenant": TENANT}
            )
        self._size = 0


def _indexed(goal: Vectors) -> Indexed:
    none = np.zeros_like(goal)
    return Indexed(
        goal=goal,
        category=none,
        plan=none,
        states=goal[None, :],
        steps=np.zeros(1, dtype=np.int32),
        mentions=np.zeros((1, 2), dtype=np.float32),
        content_sha256="",
    )
