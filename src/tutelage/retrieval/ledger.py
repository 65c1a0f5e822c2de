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

from tutelage.retrieval.bank_versions import (
    BankVersion,
    State,
    StateChange,
    current_states,
    hold_bank,
    latest_version,
    read_versions,
    record_version,
    states_at,
)
from tutelage.retrieval.origins import (
    Origin,
    ids_of_revoked,
    ids_of_writer,
    insert_origins,
    revoke_writer,
    update_reasons,
)
from tutelage.runtime.errors import RetrievalError, StoreError
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
        return self._rows(tenant, state="active")

    def active_ids(self, tenant: str) -> set[str]:
        """Ids of the active trajectories of a tenant."""
        columns = trajectories.c
        query = select(columns.id).where(columns.tenant == tenant, columns.state == "active")
        with self._transaction() as connection:
            return set(connection.scalars(query))

    def known(self, tenant: str, ids: Iterable[str]) -> dict[str, Trajectory]:
        """Those of the trajectories that are stored, whatever their state, by id."""
        return {t.id: t for t in self._rows(tenant, ids=list(ids))}

    def everything(self, tenant: str) -> list[Trajectory]:
        """All trajectories of a tenant, whatever their state, oldest first."""
        return self._rows(tenant)

    def add(
        self,
        rows: Sequence[Trajectory],
        embedder: str,
        vectors: Mapping[str, Vector],
        created_at_s: float,
        *,
        origins: Mapping[str, Origin] | None = None,
        cause: str = "added",
    ) -> None:
        """Stores trajectories of one tenant and the vectors of their texts in one transaction.

        Args:
            rows: The trajectories.
            embedder: Name of what made the vectors.
            vectors: By text.
            created_at_s: Unix time.
            origins: Where they come from and in which state they are stored, by id; absent: active.
            cause: Why, for the list of versions.
        """
        origins = origins or {}
        with self._transaction(write=True) as connection:
            _insert_vectors(connection, embedder, vectors)
            if not rows:
                return
            tenant = rows[0].tenant
            hold_bank(connection, tenant)
            # Another process may have stored the same trajectory in the meantime.
            stored = current_states(connection, tenant, [row.id for row in rows])
            new = [row for row in rows if row.id not in stored]
            if not new:
                return
            states = {
                row.id: origins[row.id].state if row.id in origins else "active" for row in new
            }
            values = [
                row.model_dump(mode="json", exclude={"success"})
                | {"state": states[row.id], "created_at_s": created_at_s}
                for row in new
            ]
            connection.execute(_insert(connection, trajectories), values)
            insert_origins(connection, new, origins, created_at_s)
            changes = [StateChange(id, None, state) for id, state in states.items()]
            record_version(connection, tenant, changes, cause=cause, at_s=created_at_s)

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

    def retire(self, tenant: str, trajectory_id: str, at_s: float = 0.0) -> bool:
        """Marks a trajectory as retired; ``False`` if it was not active."""
        with self._transaction(write=True) as connection:
            hold_bank(connection, tenant)
            if current_states(connection, tenant, [trajectory_id]) != {trajectory_id: "active"}:
                return False
            states: dict[str, State] = {trajectory_id: "retired"}
            reasons = {trajectory_id: "retired by hand"}
            cause = f"retired {trajectory_id}"
            return bool(_change(connection, tenant, states, reasons, cause=cause, at_s=at_s))

    def change(
        self,
        tenant: str,
        states: Mapping[str, State],
        reason: str | Mapping[str, str],
        *,
        cause: str,
        at_s: float,
    ) -> int:
        """Puts trajectories into other states, and returns how many of them changed.

        Args:
            tenant: Whose.
            states: The new state by id; unknown ids are left out.
            reason: Why, kept with each of them, or by id.
            cause: Why, for the list of versions.
            at_s: Unix time.
        """
        with self._transaction(write=True) as connection:
            hold_bank(connection, tenant)
            reasons = dict.fromkeys(states, reason) if isinstance(reason, str) else reason
            return _change(connection, tenant, states, reasons, cause=cause, at_s=at_s)

    def revoke(self, tenant: str, key_id: str, at_s: float) -> int:
        """Retires for good all that a key wrote, and refuses it from now on; returns how many."""
        with self._transaction(write=True) as connection:
            hold_bank(connection, tenant)
            revoke_writer(connection, tenant, key_id, at_s)
            written = ids_of_writer(connection, tenant, key_id)
            states: dict[str, State] = dict.fromkeys(written, "retired")
            reasons = dict.fromkeys(written, f"its writer {key_id} was revoked")
            cause = f"revoked {key_id}"
            return _change(connection, tenant, states, reasons, cause=cause, at_s=at_s)

    def latest_version(self, tenant: str) -> int:
        """Number of the newest version of the active set; 0 if none was recorded."""
        with self._transaction() as connection:
            return latest_version(connection, tenant)

    def versions(self, tenant: str) -> list[BankVersion]:
        """The versions of the active set, newest first."""
        with self._transaction() as connection:
            return read_versions(connection, tenant)

    def rollback(self, tenant: str, number: int, at_s: float) -> int:
        """Gives each trajectory the state it had at a version; returns how many changed.

        What was not there yet is retired; what a revoked key wrote stays retired. This is a new
        version, so that it can be rolled back, too.

        Raises:
            RetrievalError: There is no such version.
        """
        with self._transaction(write=True) as connection:
            hold_bank(connection, tenant)
            if not 0 <= number <= latest_version(connection, tenant):
                raise RetrievalError(
                    f"the bank of tenant {tenant!r} has no version {number}:"
                    " `tutelage demos versions` lists them"
                )
            revoked = ids_of_revoked(connection, tenant)
            states: dict[str, State] = {
                trajectory_id: state or "retired"
                for trajectory_id, state in states_at(connection, tenant, number).items()
                if trajectory_id not in revoked
            }
            reasons = {
                id: "" if state == "active" else f"rolled back to version {number}"
                for id, state in states.items()
            }
            cause = f"rolled back to version {number}"
            return _change(connection, tenant, states, reasons, cause=cause, at_s=at_s)

    def _rows(
        self, tenant: str, *, ids: list[str] | None = None, state: State | None = None
    ) -> list[Trajectory]:
        table = trajectories
        query = select(table).where(table.c.tenant == tenant)
        if state is not None:
            query = query.where(table.c.state == state)
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


def _change(
    connection: Connection,
    tenant: str,
    states: Mapping[str, State],
    reasons: Mapping[str, str],
    *,
    cause: str,
    at_s: float,
) -> int:
    """Changes states where they differ, in a transaction that holds the bank."""
    before = current_states(connection, tenant, states)
    changes = [
        StateChange(id, before[id], after)
        for id, after in states.items()
        if id in before and before[id] != after
    ]
    columns = trajectories.c
    for change in changes:
        connection.execute(
            update(trajectories)
            .where(columns.tenant == tenant, columns.id == change.trajectory_id)
            .values(state=change.after)
        )
    if changes:
        changed = {change.trajectory_id: reasons[change.trajectory_id] for change in changes}
        update_reasons(connection, tenant, changed, at_s)
        record_version(connection, tenant, changes, cause=cause, at_s=at_s)
    return len(changes)


def _trajectory(row: RowMapping) -> Trajectory:
    values = {name: row[name] for name in Trajectory.model_fields if name != "success"}
    try:
        return Trajectory.model_validate({**values, "success": True})
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
