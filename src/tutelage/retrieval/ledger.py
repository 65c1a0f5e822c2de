"""Trajectories and their vectors in SQL; blocking, for a worker thread."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from sqlalchemy import Connection, Engine, RowMapping, Table, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from tutelage.runtime.errors import StoreError
from tutelage.runtime.store.database import begin_write, reason
from tutelage.runtime.store.schema import embeddings, trajectories
from tutelage.runtime.types import Trajectory

Vector = NDArray[np.float32]
# Below the limit of bound variables of every supported database.
_CHUNK = 500


class Ledger:
    """Reads and writes the tables ``trajectories`` and ``embeddings``.

    Args:
        engine: A migrated database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def tenants(self) -> list[str]:
        """Tenants with at least one active trajectory."""
        query = select(trajectories.c.tenant).distinct().where(trajectories.c.state == "active")
        with self._transaction() as connection:
            return sorted(connection.scalars(query.order_by(trajectories.c.tenant)))

    def active(self, tenant: str) -> list[Trajectory]:
        """Active trajectories of a tenant, oldest first.

        Raises:
            StoreError: The database cannot be read, or a row of it is damaged.
        """
        return [t for t, state in self._rows(tenant) if state == "active"]

    def known(self, tenant: str, ids: Iterable[str]) -> dict[str, Trajectory]:
        """Those of the trajectories that are stored, whatever their state, by id."""
        return {t.id: t for t, _ in self._rows(tenant, ids=list(ids))}

    def add(
        self,
        rows: Sequence[Trajectory],
        embedder: str,
        vectors: Mapping[str, Vector],
        created_at_s: float,
    ) -> None:
        """Stores trajectories and the vectors of their texts in one transaction."""
        with self._transaction(write=True) as connection:
            _insert_vectors(connection, embedder, vectors)
            # Another process may have stored the same trajectory in the meantime.
            statement = _insert(connection, trajectories).on_conflict_do_nothing()
            more = {"state": "active", "created_at_s": created_at_s}
            values = [row.model_dump(mode="json", exclude={"success"}) | more for row in rows]
            connection.execute(statement, values)

    def add_vectors(self, embedder: str, vectors: Mapping[str, Vector]) -> None:
        """Stores vectors by text."""
        with self._transaction(write=True) as connection:
            _insert_vectors(connection, embedder, vectors)

    def vectors(self, embedder: str, texts: Iterable[str], dimension: int) -> dict[str, Vector]:
        """The stored vectors of an embedder by text; damaged ones count as missing."""
        by_digest = {text_sha256(text): text for text in texts}
        found: dict[str, Vector] = {}
        with self._transaction() as connection:
            for chunk in _chunks(list(by_digest)):
                query = select(embeddings.c.text_sha256, embeddings.c.vector).where(
                    embeddings.c.embedder == embedder, embeddings.c.text_sha256.in_(chunk)
                )
                for digest, content in connection.execute(query):
                    if len(content) == 4 * dimension:
                        vector = np.frombuffer(content, dtype="<f4").astype(np.float32)
                        found[by_digest[digest]] = vector
        return found

    def other_embedder(self, embedder: str, texts: Iterable[str]) -> str | None:
        """An embedder, not this one, that has made a vector of one of the texts."""
        with self._transaction() as connection:
            for chunk in _chunks([text_sha256(text) for text in texts]):
                query = select(embeddings.c.embedder).where(
                    embeddings.c.embedder != embedder, embeddings.c.text_sha256.in_(chunk)
                )
                name = connection.scalars(query.limit(1)).first()
                if name is not None:
                    return str(name)
        return None

    def retire(self, tenant: str, trajectory_id: str) -> bool:
        """Marks a trajectory as retired; ``False`` if it was not active."""
        statement = (
            update(trajectories)
            .where(
                trajectories.c.tenant == tenant,
                trajectories.c.id == trajectory_id,
                trajectories.c.state == "active",
            )
            .values(state="retired")
        )
        with self._transaction(write=True) as connection:
            return bool(connection.execute(statement).rowcount)

    def _rows(self, tenant: str, ids: list[str] | None = None) -> list[tuple[Trajectory, str]]:
        table = trajectories
        query = select(table).where(table.c.tenant == tenant)
        rows: list[RowMapping] = []
        with self._transaction() as connection:
            for chunk in [None] if ids is None else _chunks(ids):
                part = query if chunk is None else query.where(table.c.id.in_(chunk))
                rows.extend(connection.execute(part).mappings())
        # Sorted here: databases do not agree on the order of texts.
        rows.sort(key=lambda row: (row["created_at_s"], row["id"]))
        return [_trajectory(row) for row in rows]

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[Connection]:
        try:
            with begin_write(self._engine) if write else self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(
                f"the demonstration bank cannot use its database: {reason(error)}"
            ) from error


def text_sha256(text: str) -> str:
    """The key of a text in the table of vectors."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _trajectory(row: RowMapping) -> tuple[Trajectory, str]:
    values = {name: row[name] for name in Trajectory.model_fields if name != "success"}
    try:
        return Trajectory.model_validate({**values, "success": True}), str(row["state"])
    except ValidationError as error:
        raise StoreError(
            f"trajectory {row['id']!r} of tenant {row['tenant']!r} is damaged in the database"
            f" ({str(error).splitlines()[0]}): delete its row"
        ) from error


def _insert_vectors(connection: Connection, embedder: str, vectors: Mapping[str, Vector]) -> None:
    rows = [
        {
            "embedder": embedder,
            "text_sha256": text_sha256(text),
            "vector": vector.astype("<f4").tobytes(),
        }
        for text, vector in vectors.items()
    ]
    if rows:
        statement = _insert(connection, embeddings)
        # Replaced, since a row that is there but was not usable is damaged.
        statement = statement.on_conflict_do_update(
            index_elements=["embedder", "text_sha256"],
            set_={"vector": statement.excluded.vector},
        )
        connection.execute(statement, rows)


def _insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def _chunks(items: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
