"""Where the trajectories of the bank come from, and why each is in its state; blocking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, Select, Table, delete, distinct, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tutelage.retrieval.bank_versions import State
from tutelage.retrieval.duplicates import actions_sha256, family_sha256
from tutelage.runtime.store.schema import (
    demonstration_origins,
    demonstration_writers,
    revoked_writers,
    trajectories,
)
from tutelage.runtime.store.transactions import Transactions
from tutelage.runtime.types import Trajectory

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a trajectory beside what it says."""

    state: State = "active"
    reason: str = ""
    """Why it is not active."""
    writers: frozenset[str] = frozenset()
    """Ids of the keys that its requests came with; empty for what no client wrote."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Hash of the schema of each tool that it calls, by the tool's name."""


@dataclass(frozen=True, slots=True)
class Held:
    """A trajectory that is not shown."""

    trajectory_id: str
    state: State
    reason: str
    goal: str
    writers: tuple[str, ...]
    changed_at_s: float


def insert_origins(
    connection: Connection,
    rows: Sequence[Trajectory],
    origins: Mapping[str, Origin],
    at_s: float,
) -> None:
    """Stores where new trajectories come from; absent: no client wrote it."""
    plain = Origin()
    values, writers = [], []
    for row in rows:
        origin = origins.get(row.id, plain)
        values.append(
            {
                "tenant": row.tenant,
                "trajectory_id": row.id,
                "family_sha256": family_sha256(row),
                "actions_sha256": actions_sha256(row),
                "tools": dict(origin.tools),
                "reason": origin.reason,
                "changed_at_s": at_s,
            }
        )
        writers.extend(_writer_rows(row.tenant, row.id, origin.writers, wrote=True))
    if values:
        connection.execute(upsert(connection, demonstration_origins), values)
    if writers:
        # A copy may have been confirmed in the same breath.
        statement = _insert(connection, demonstration_writers).on_conflict_do_update(
            index_elements=["tenant", "trajectory_id", "key_id"], set_={"wrote": True}
        )
        connection.execute(statement, writers)


def update_reasons(
    connection: Connection, tenant: str, reasons: Mapping[str, str], at_s: float
) -> None:
    """Notes why trajectories are now in the states that they are in."""
    columns = demonstration_origins.c
    for trajectory_id, reason in reasons.items():
        connection.execute(
            update(demonstration_origins)
            .where(columns.tenant == tenant, columns.trajectory_id == trajectory_id)
            .values(reason=reason, changed_at_s=at_s)
        )


def ids_of_writer(connection: Connection, tenant: str, key_id: str) -> list[str]:
    """Trajectories that a key wrote, whatever their state."""
    columns = demonstration_writers.c
    query = select(columns.trajectory_id).where(
        columns.tenant == tenant, columns.key_id == key_id, columns.wrote
    )
    return sorted(connection.scalars(query))


def ids_of_revoked(connection: Connection, tenant: str) -> set[str]:
    """Trajectories that a revoked key wrote."""
    query = (
        select(demonstration_writers.c.trajectory_id)
        .join(
            revoked_writers,
            (revoked_writers.c.tenant == demonstration_writers.c.tenant)
            & (revoked_writers.c.key_id == demonstration_writers.c.key_id),
        )
        .where(demonstration_writers.c.tenant == tenant, demonstration_writers.c.wrote)
    )
    return set(connection.scalars(query))


def revoke_writer(connection: Connection, tenant: str, key_id: str, at_s: float) -> None:
    """Notes that nothing of a key is used from now on, nor its word for what others wrote."""
    row = {"tenant": tenant, "key_id": key_id, "revoked_at_s": at_s}
    connection.execute(upsert(connection, revoked_writers), row)
    columns = demonstration_writers.c
    connection.execute(
        delete(demonstration_writers).where(
            columns.tenant == tenant, columns.key_id == key_id, columns.wrote.is_(False)
        )
    )


def upsert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An insert that leaves rows that are there as they are."""
    return _insert(connection, table).on_conflict_do_nothing()


def _insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


class Origins:
    """Reads and marks the tables ``demonstration_origins`` and ``demonstration_writers``.

    Args:
        engine: From ``open_engine``; the caller disposes of it.
    """

    def __init__(self, engine: Engine) -> None:
        self._transactions = Transactions(engine)

    def same(self, trajectory: Trajectory) -> str | None:
        """Another trajectory, not retired, with the same goal family, actions and teacher."""
        columns = demonstration_origins.c
        query = _states(trajectory.tenant, ("active", "quarantined")).where(
            columns.family_sha256 == family_sha256(trajectory),
            columns.actions_sha256 == actions_sha256(trajectory),
            columns.trajectory_id != trajectory.id,
        )
        with self._transactions.reading() as connection:
            found = connection.scalars(query.order_by(columns.trajectory_id).limit(1)).first()
        return str(found) if found is not None else None

    def family_size(self, trajectory: Trajectory) -> int:
        """Active trajectories of the family of its goal."""
        query = _states(trajectory.tenant, ("active",)).where(
            demonstration_origins.c.family_sha256 == family_sha256(trajectory)
        )
        with self._transactions.reading() as connection:
            counted = select(func.count()).select_from(query.subquery())
            return int(connection.execute(counted).scalar_one())

    def share_of(self, tenant: str, key_id: str) -> tuple[int, int, int]:
        """Active trajectories that a key wrote, all active ones, and the other keys among them."""
        writers, active = demonstration_writers.c, trajectories.c
        here = active.tenant == tenant, active.state == "active"
        joined = select(writers.key_id, writers.trajectory_id).join(
            trajectories,
            (active.tenant == writers.tenant) & (active.id == writers.trajectory_id),
        )
        joined = joined.where(*here, writers.wrote)
        own = joined.where(writers.key_id == key_id).subquery()
        others = joined.where(writers.key_id != key_id).subquery()
        with self._transactions.reading() as connection:

            def count(query: Select[Any]) -> int:
                return int(connection.execute(query).scalar_one())

            return (
                count(select(func.count()).select_from(own)),
                count(select(func.count()).select_from(trajectories).where(*here)),
                count(select(func.count(distinct(others.c.key_id))).select_from(others)),
            )

    def writers(
        self, tenant: str, ids: Iterable[str], *, wrote_only: bool = False
    ) -> dict[str, set[str]]:
        """The keys that wrote or confirmed each of the trajectories, by its id."""
        columns = demonstration_writers.c
        found: dict[str, set[str]] = {}
        with self._transactions.reading() as connection:
            for chunk in chunks(list(ids)):
                query = select(columns.trajectory_id, columns.key_id).where(
                    columns.tenant == tenant, columns.trajectory_id.in_(chunk)
                )
                if wrote_only:
                    query = query.where(columns.wrote)
                for trajectory_id, key_id in connection.execute(query):
                    found.setdefault(trajectory_id, set()).add(key_id)
        return found

    def confirm(self, tenant: str, trajectory_id: str, writers: Iterable[str]) -> None:
        """Notes that others wrote the same trajectory."""
        rows = _writer_rows(tenant, trajectory_id, writers, wrote=False)
        if rows:
            with self._transactions.writing() as connection:
                connection.execute(upsert(connection, demonstration_writers), rows)

    def revoked(self, tenant: str) -> set[str]:
        """Keys whose trajectories are not used."""
        query = select(revoked_writers.c.key_id).where(revoked_writers.c.tenant == tenant)
        with self._transactions.reading() as connection:
            return set(connection.scalars(query))

    def state(self, tenant: str, trajectory_id: str) -> tuple[State, str] | None:
        """The state of a trajectory and why it is in it; ``None`` if it is not stored."""
        origin, row = demonstration_origins.c, trajectories.c
        query = (
            select(row.state, origin.reason)
            .join(
                demonstration_origins,
                (origin.tenant == row.tenant) & (origin.trajectory_id == row.id),
                isouter=True,
            )
            .where(row.tenant == tenant, row.id == trajectory_id)
        )
        with self._transactions.reading() as connection:
            found = connection.execute(query).first()
        return (found.state, found.reason or "") if found is not None else None

    def held(self, tenant: str, state: State = "quarantined") -> list[Held]:
        """Trajectories in a state that keeps them from being shown, the latest change first."""
        origin, row = demonstration_origins.c, trajectories.c
        query = (
            select(row.id, row.state, origin.reason, row.goal, origin.changed_at_s)
            .join(
                demonstration_origins,
                (origin.tenant == row.tenant) & (origin.trajectory_id == row.id),
                isouter=True,
            )
            .where(row.tenant == tenant, row.state == state)
        )
        with self._transactions.reading() as connection:
            rows = list(connection.execute(query))
        writers = self.writers(tenant, [row.id for row in rows], wrote_only=True)
        found = [
            Held(
                trajectory_id=row.id,
                state=row.state,
                reason=row.reason or "",
                goal=row.goal,
                writers=tuple(sorted(writers.get(row.id, ()))),
                changed_at_s=row.changed_at_s or 0.0,
            )
            for row in rows
        ]
        return sorted(found, key=lambda one: (-one.changed_at_s, one.trajectory_id))

    def due(self, tenant: str, limit: int) -> list[str]:
        """Active trajectories of clients, those first that were never or longest not checked."""
        origin = demonstration_origins.c
        wrote = demonstration_writers.c
        query = _states(tenant, ("active",)).where(
            select(wrote.key_id)
            .where(
                wrote.tenant == origin.tenant,
                wrote.trajectory_id == origin.trajectory_id,
                wrote.wrote,
            )
            .exists()
        )
        # Databases do not agree on where null comes in an order.
        query = query.order_by(func.coalesce(origin.checked_at_s, 0.0), origin.trajectory_id)
        with self._transactions.reading() as connection:
            return [str(id) for id in connection.scalars(query.limit(limit))]

    def mark_checked(self, tenant: str, ids: Iterable[str], at_s: float) -> None:
        """Notes that trajectories were compared with their neighbours."""
        self._mark(tenant, dict.fromkeys(ids, at_s), "checked_at_s")

    def mark_used(self, tenant: str, used_at_s: Mapping[str, float]) -> None:
        """Notes when trajectories were last shown; an earlier time changes nothing."""
        self._mark(tenant, used_at_s, "last_used_at_s")

    def idle(self, tenant: str, before_s: float) -> list[str]:
        """Active trajectories neither stored nor shown since a time."""
        origin = demonstration_origins.c
        query = _states(tenant, ("active",)).where(
            trajectories.c.created_at_s < before_s,
            func.coalesce(origin.last_used_at_s, 0.0) < before_s,
            origin.changed_at_s < before_s,
        )
        with self._transactions.reading() as connection:
            return sorted(connection.scalars(query))

    def tools(self, tenant: str) -> dict[str, dict[str, str]]:
        """The tools of the active trajectories that call any: name to hash of its schema."""
        origin = demonstration_origins.c
        query = _states(tenant, ("active",)).add_columns(origin.tools)
        with self._transactions.reading() as connection:
            return {row[0]: dict(row.tools) for row in connection.execute(query) if row.tools}

    def is_complete(self, tenant: str) -> bool:
        """Whether something is known of as many trajectories as are stored."""
        counts = []
        with self._transactions.reading() as connection:
            for table in (trajectories, demonstration_origins):
                query = select(func.count()).select_from(table).where(table.c.tenant == tenant)
                counts.append(connection.execute(query).scalar_one())
        return counts[0] == counts[1]

    def complete(self, tenant: str, rows: Sequence[Trajectory], at_s: float) -> None:
        """Adds what is missing of trajectories that an earlier release stored."""
        with self._transactions.writing() as connection:
            known = demonstration_origins.c
            query = select(known.trajectory_id).where(known.tenant == tenant)
            stored = set(connection.scalars(query))
            insert_origins(connection, [row for row in rows if row.id not in stored], {}, at_s)

    def _mark(self, tenant: str, times: Mapping[str, float], column: str) -> None:
        if not times:
            return
        columns = demonstration_origins.c
        with self._transactions.writing() as connection:
            for trajectory_id, at_s in times.items():
                connection.execute(
                    update(demonstration_origins)
                    .where(
                        columns.tenant == tenant,
                        columns.trajectory_id == trajectory_id,
                        func.coalesce(columns[column], 0.0) < at_s,
                    )
                    .values({column: at_s})
                )


def chunks(items: list[str]) -> Iterator[list[str]]:
    """The items in parts that fit into one statement."""
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]


def _states(tenant: str, states: Sequence[State]) -> Select[Any]:
    origin, row = demonstration_origins.c, trajectories.c
    return (
        select(origin.trajectory_id)
        .join(trajectories, (row.tenant == origin.tenant) & (row.id == origin.trajectory_id))
        .where(origin.tenant == tenant, row.state.in_(states))
    )


def _writer_rows(
    tenant: str, trajectory_id: str, writers: Iterable[str], *, wrote: bool
) -> list[dict[str, object]]:
    return [
        {"tenant": tenant, "trajectory_id": trajectory_id, "key_id": key_id, "wrote": wrote}
        for key_id in sorted(set(writers))
    ]
