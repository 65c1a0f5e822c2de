"""Numbered versions of the active demonstrations, kept as what each of them changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, func, insert, select, text

from tutelage.runtime.store.schema import bank_changes, bank_versions, trajectories

State = Literal["quarantined", "active", "retired"]

_LOCK = 0x62616E6B


@dataclass(frozen=True, slots=True)
class BankVersion:
    """The active set as it was after one change."""

    number: int
    """1 for the first change that was recorded; 0 is what was there before it."""
    created_at_s: float
    """Unix time."""
    cause: str
    trajectories: int
    """Active trajectories."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """A trajectory that went from one state to another; ``before`` is ``None`` for a new one."""

    trajectory_id: str
    before: State | None
    after: State


def hold_bank(connection: Connection, tenant: str) -> None:
    """Makes other writers of the tenant's bank wait until this transaction has ended."""
    # SQLite has one writer anyway.
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("SELECT pg_advisory_xact_lock(:key, hashtext(:tenant))"),
            {"key": _LOCK, "tenant": tenant},
        )


def record_version(
    connection: Connection,
    tenant: str,
    changes: Sequence[StateChange],
    *,
    cause: str,
    at_s: float,
) -> int:
    """Notes changes that this transaction makes, and returns the number of the version.

    Args:
        connection: Holds the bank (``hold_bank``), with the changes already made.
        tenant: Whose bank.
        changes: At least one.
        cause: Why, for people.
        at_s: Unix time.
    """
    number, active = _latest(connection, tenant)
    if number == 0:
        query = select(func.count()).select_from(trajectories)
        here = trajectories.c.tenant == tenant, trajectories.c.state == "active"
        active = int(connection.execute(query.where(*here)).scalar_one())
    else:
        active += sum((c.after == "active") - (c.before == "active") for c in changes)
    version = {"tenant": tenant, "number": number + 1, "created_at_s": at_s}
    connection.execute(insert(bank_versions), version | {"cause": cause, "trajectories": active})
    rows = [
        {
            "tenant": tenant,
            "number": number + 1,
            "trajectory_id": change.trajectory_id,
            "state_before": change.before,
            "state_after": change.after,
        }
        for change in changes
    ]
    connection.execute(insert(bank_changes), rows)
    return number + 1


def latest_version(connection: Connection, tenant: str) -> int:
    """Number of the tenant's newest version; 0 if nothing was ever recorded."""
    return _latest(connection, tenant)[0]


def read_versions(connection: Connection, tenant: str) -> list[BankVersion]:
    """All versions of a tenant, newest first."""
    columns = bank_versions.c
    query = select(columns.number, columns.created_at_s, columns.cause, columns.trajectories)
    query = query.where(columns.tenant == tenant).order_by(columns.number.desc())
    return [BankVersion(*row) for row in connection.execute(query)]


def states_at(connection: Connection, tenant: str, number: int) -> dict[str, State | None]:
    """The states at a version of the trajectories that changed after it, by id.

    ``None``: the trajectory was not there yet.
    """
    columns = bank_changes.c
    query = select(columns.trajectory_id, columns.state_before)
    query = query.where(columns.tenant == tenant, columns.number > number)
    states: dict[str, State | None] = {}
    for trajectory_id, before in connection.execute(query.order_by(columns.number)):
        states.setdefault(trajectory_id, before)
    return states


def current_states(connection: Connection, tenant: str, ids: Iterable[str]) -> dict[str, State]:
    """The states of the stored ones of these trajectories, by id."""
    columns = trajectories.c
    wanted = list(ids)
    states: dict[str, State] = {}
    for start in range(0, len(wanted), 500):
        chunk = wanted[start : start + 500]
        query = select(columns.id, columns.state)
        query = query.where(columns.tenant == tenant, columns.id.in_(chunk))
        states.update({row.id: row.state for row in connection.execute(query)})
    return states


def _latest(connection: Connection, tenant: str) -> tuple[int, int]:
    columns = bank_versions.c
    query = select(columns.number, columns.trajectories).where(columns.tenant == tenant)
    row = connection.execute(query.order_by(columns.number.desc()).limit(1)).first()
    return (int(row.number), int(row.trajectories)) if row is not None else (0, 0)
