"""The table in PostgreSQL by whose index demonstrations are found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from tutelage.retrieval.keys import StateKey
from tutelage.retrieval.pgvector_extension import require_extension, require_table
from tutelage.retrieval.pgvector_rows import literal, packed
from tutelage.retrieval.shard import Indexed
from tutelage.runtime.errors import StoreError
from tutelage.runtime.store.database import reason, redact

EXACT_ROWS = 2_000
"""A tenant with no more rows is scanned: as fast, and nothing is missed."""
_FORMAT = 1
_LOCK = 0x76656374
_ROWS_A_STATEMENT = 200
_BULK_ROWS = 2_000
_MOST_SEARCHED = 1_000
# Walks on along the index until enough rows have passed the filter; a sort would mean a scan.
_SEARCH_SETTINGS = text(
    "SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true),"
    " set_config('hnsw.ef_search', :searched, true),"
    " set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true),"
    " set_config('plan_cache_mode', 'force_custom_plan', true)"
)


class PgVectorTable:
    """One row a trajectory, with its goal in half precision under an HNSW index.

    Every embedder, length of vectors and way of putting states into words has a table of its own,
    named after them. What is active, and of which task, is read from ``trajectories`` in the same
    statement, so that a search never shows what was taken out. Blocking, for a worker thread.

    Args:
        engine: A migrated database on a PostgreSQL server.
        embedder: Name of what makes the vectors.
        dimension: Length of a vector.
        state_key: How the state of a step is put into words.
        exact_rows: Most rows of a tenant that are scanned.
    """

    def __init__(
        self,
        engine: Engine,
        embedder: str,
        dimension: int,
        state_key: StateKey,
        *,
        exact_rows: int = EXACT_ROWS,
    ) -> None:
        made_of = f"{_FORMAT}|{embedder}|{dimension}|{state_key!r}"
        self.name = f"demonstration_vectors_{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
        self._engine = engine
        self._dimension = dimension
        self._exact_rows = exact_rows
        self._about = f"embedder {embedder}, {dimension} dimensions".replace("'", "''")
        self._large: set[str] = set()

    def create(self) -> None:
        """Makes the extension, the table and its index, each if it is missing.

        Raises:
            StoreError: The extension is missing or too old, or this user may not make what is
                missing; says which SQL is to be run.
        """
        require_extension(self._engine)
        statements = [
            f"CREATE TABLE IF NOT EXISTS {self.name} (tenant varchar(128) NOT NULL,"
            f" trajectory_id varchar(128) NOT NULL, goal halfvec({self._dimension}) NOT NULL,"
            " vectors bytea STORAGE EXTERNAL NOT NULL, steps bytea NOT NULL,"
            " mentions bytea NOT NULL, content_sha256 varchar(64) NOT NULL,"
            " PRIMARY KEY (tenant, trajectory_id))",
            f"COMMENT ON TABLE {self.name} IS 'tutelage: {self._about}'",
            self._index(),
        ]
        require_table(self._engine, self.name, statements, _LOCK)

    def missing(self, tenant: str) -> list[str]:
        """Ids of the active trajectories that have no row, in their order."""
        query = text(
            "SELECT t.id FROM trajectories t WHERE t.tenant = :tenant AND t.state = 'active'"
            f" AND NOT EXISTS (SELECT 1 FROM {self.name} v"
            " WHERE v.tenant = t.tenant AND v.trajectory_id = t.id) ORDER BY t.id"
        )
        with self._transaction() as connection:
            return list(connection.scalars(query, {"tenant": tenant}))

    def insert(self, tenant: str, rows: Mapping[str, Indexed]) -> None:
        """Adds rows by the ids of their trajectories; one that is there already stays.

        Other processes find them as soon as this returns.
        """
        # One statement for many rows: a statement a row takes ten times as long.
        query = text(
            f"INSERT INTO {self.name} (tenant, trajectory_id, goal, vectors, steps, mentions,"
            f" content_sha256) SELECT :tenant, n.id, CAST(n.goal AS halfvec({self._dimension})),"
            " n.vectors, n.steps, n.mentions, n.content_sha256 FROM unnest(CAST(:id AS text[]),"
            " CAST(:goal AS text[]), CAST(:vectors AS bytea[]), CAST(:steps AS bytea[]),"
            " CAST(:mentions AS bytea[]), CAST(:content_sha256 AS text[]))"
            " AS n (id, goal, vectors, steps, mentions, content_sha256) ON CONFLICT DO NOTHING"
        )
        values = [{"id": id} | packed(row) for id, row in rows.items()]
        with self._transaction() as connection:
            for start in range(0, len(values), _ROWS_A_STATEMENT):
                piece = values[start : start + _ROWS_A_STATEMENT]
                columns = {name: [one[name] for one in piece] for name in piece[0]}
                connection.execute(query, {"tenant": tenant, **columns})

    def begin_filling(self, rows: int) -> bool:
        """Before many rows are added: drops the index of a table that has fewer; whether it did.

        To build it at the end takes a fraction of the time of growing it row by row.
        """
        few = text(f"SELECT count(*) FROM (SELECT 1 FROM {self.name} LIMIT :rows) AS few")
        with self._transaction() as connection:
            held = int(connection.scalar(few, {"rows": rows}) or 0)
            is_bulk = rows >= _BULK_ROWS and held < rows
            if is_bulk:
                connection.execute(text(f"DROP INDEX IF EXISTS {self.name}_goal"))
        return is_bulk

    def end_filling(self) -> None:
        """Builds the index, if it is missing; searches are scans until then."""
        with self._transaction() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            connection.execute(text(self._index()))
            connection.execute(text(f"ANALYZE {self.name}"))

    def nearest(
        self, tenant: str, goal: Any, count: int, *, task_id: str | None = None
    ) -> list[str]:
        """Ids of the active trajectories with the nearest goals, best first.

        There are ``count`` of them, unless the tenant has fewer.

        A tenant of at most ``exact_rows`` is scanned; of a larger one the index is walked along
        until enough of its rows were met, and if the walk ends before, it is scanned, too.

        Args:
            tenant: Whose.
            goal: Shape (dimension,).
            count: How many.
            task_id: Those of this task are left out.
        """
        wanted = {"tenant": tenant, "goal": literal(goal), "count": count, "task": task_id}
        with self._transaction() as connection:
            if tenant in self._large:
                searched = min(_MOST_SEARCHED, max(100, 2 * count))
                connection.execute(_SEARCH_SETTINGS, {"searched": str(searched)})
                query = self._query("v.goal <#> CAST(:goal AS halfvec({}))", "0", "distance")
                found = connection.execute(query, wanted).all()
                if len(found) == count:
                    found = sorted(found, key=lambda row: (row.distance, row.created_at_s, row.id))
                    return [row.id for row in found]
            # The sum has no index, which makes it a scan.
            distance = "(v.goal <#> CAST(:goal AS halfvec({}))) + 0"
            query = self._query(distance, "count(*) OVER ()", "distance, t.created_at_s, t.id")
            found = connection.execute(query, wanted).all()
        if found and found[0].rows > self._exact_rows:
            self._large.add(tenant)
        return [row.id for row in found]

    def load(self, tenant: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of active trajectories with what they say; turns are JSON."""
        query = text(
            "SELECT t.id, t.tenant, t.goal, t.category, t.plan, t.task_id, t.source,"
            " CAST(t.turns AS text) AS turns, v.vectors, v.steps, v.mentions, v.content_sha256"
            f" FROM {self.name} v JOIN trajectories t"
            " ON t.tenant = v.tenant AND t.id = v.trajectory_id"
            " WHERE v.tenant = :tenant AND v.trajectory_id = ANY(:ids) AND t.state = 'active'"
        )
        with self._transaction() as connection:
            found = connection.execute(query, {"tenant": tenant, "ids": list(ids)})
            return [dict(row) for row in found.mappings()]

    def demonstrations(self, tenant: str) -> int:
        """Steps to imitate in the active trajectories of a tenant."""
        query = self._active("coalesce(sum(length(v.steps) / 4), 0)")
        with self._transaction() as connection:
            return int(connection.scalar(query, {"tenant": tenant}) or 0)

    def digests(self, tenant: str) -> list[str]:
        """The content digests of the active trajectories of a tenant."""
        with self._transaction() as connection:
            return list(connection.scalars(self._active("v.content_sha256"), {"tenant": tenant}))

    def _index(self) -> str:
        return (
            f"CREATE INDEX IF NOT EXISTS {self.name}_goal ON {self.name}"
            " USING hnsw (goal halfvec_ip_ops)"
        )

    def _active(self, columns: str) -> Any:
        return text(
            f"SELECT {columns} FROM {self.name} v JOIN trajectories t"
            " ON t.tenant = v.tenant AND t.id = v.trajectory_id"
            " WHERE v.tenant = :tenant AND t.state = 'active'"
        )

    def _query(self, distance: str, rows: str, order: str) -> Any:
        distance = distance.format(self._dimension)
        return text(
            f"SELECT t.id, {distance} AS distance, {rows} AS rows, t.created_at_s"
            f" FROM {self.name} v JOIN trajectories t"
            " ON t.tenant = v.tenant AND t.id = v.trajectory_id"
            " WHERE v.tenant = :tenant AND t.state = 'active' AND"
            " (CAST(:task AS text) IS NULL OR t.task_id IS DISTINCT FROM CAST(:task AS text))"
            f" ORDER BY {order} LIMIT :count"
        )

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(
                f"the vectors of demonstrations in database {redact(str(self._engine.url))} cannot"
                f" be used: {reason(error)}"
            ) from error
