"""Every answer of a teacher that traffic brought, until it is known what it was worth; blocking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Engine, func, insert, select, update

from tutelage.retrieval.origins import chunks, upsert
from tutelage.runtime.store import schema
from tutelage.runtime.store.transactions import Transactions
from tutelage.runtime.types import Trace

CandidateState = Literal["quarantined", "promoted", "rejected"]
WAITING = "its episode has no outcome yet"

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Candidate:
    """A teacher's answer that may become a demonstration."""

    trace_id: str
    episode_id: str
    step_index: int
    key_id: str | None
    state: CandidateState
    reason: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What a look at new traces found."""

    candidates: int
    """New candidates."""
    used_at_s: Mapping[str, float]
    """When trajectories were last shown to the student, by id."""


class Candidates:
    """Keeps the table ``demonstration_candidates``.

    Args:
        engine: From ``open_engine``; the caller disposes of it.
        overlap_s: Traces so much older than the newest one seen are looked at again, since a
            spooled trace is stored late.
    """

    def __init__(self, engine: Engine, *, overlap_s: float = 3600.0) -> None:
        self._transactions = Transactions(engine)
        self._overlap_s = overlap_s

    def scan(self, tenant: str) -> Scan:
        """Takes the teacher's answers among traces that are new since the last scan."""
        table = schema.traces
        since_s = self._mark(tenant) - self._overlap_s
        found, newest_s, position = 0, 0.0, (since_s, "")
        used_at_s: dict[str, float] = {}
        while True:
            at, trace_id = position
            query = select(table.c.body).where(
                table.c.tenant == tenant,
                (table.c.created_at_s > at)
                | ((table.c.created_at_s == at) & (table.c.id > trace_id)),
            )
            query = query.order_by(table.c.created_at_s, table.c.id).limit(_AT_ONCE)
            with self._transactions.reading() as connection:
                bodies: list[dict[str, Any]] = list(connection.scalars(query))
            for body in bodies:
                for id in body.get("demonstrations") or ():
                    trajectory_id = id.rpartition(":")[0]
                    used_at_s[trajectory_id] = max(
                        used_at_s.get(trajectory_id, 0.0), body["created_at_s"]
                    )
            found += self._insert([_row(body) for body in bodies if _is_candidate(body)])
            if bodies:
                newest_s = bodies[-1]["created_at_s"]
                position = (newest_s, bodies[-1]["id"])
            if len(bodies) < _AT_ONCE:
                break
        if newest_s:
            self._set_mark(tenant, newest_s)
        return Scan(found, used_at_s)

    def take(self, traces: Sequence[Trace]) -> int:
        """Takes the teacher's answers among these traces; how many are new."""
        bodies = [trace.model_dump(mode="json") for trace in traces]
        return self._insert([_row(body) for body in bodies if _is_candidate(body)])

    def waiting_episodes(self, tenant: str) -> list[str]:
        """Episodes with a quarantined candidate whose outcome is known."""
        candidate, episode = schema.demonstration_candidates.c, schema.episodes.c
        query = (
            select(candidate.episode_id)
            .distinct()
            .join(
                schema.episodes,
                (episode.tenant == candidate.tenant) & (episode.id == candidate.episode_id),
            )
            .where(
                candidate.tenant == tenant,
                candidate.state == "quarantined",
                episode.success.is_not(None),
            )
        )
        with self._transactions.reading() as connection:
            return sorted(connection.scalars(query))

    def overturned_episodes(self, tenant: str) -> list[str]:
        """Episodes with a promoted candidate that were judged a failure afterwards."""
        candidate, episode = schema.demonstration_candidates.c, schema.episodes.c
        query = (
            select(candidate.episode_id)
            .distinct()
            .join(
                schema.episodes,
                (episode.tenant == candidate.tenant) & (episode.id == candidate.episode_id),
            )
            .where(
                candidate.tenant == tenant,
                candidate.state == "promoted",
                episode.success.is_(False),
            )
        )
        with self._transactions.reading() as connection:
            return sorted(connection.scalars(query))

    def settle(
        self, tenant: str, verdicts: Mapping[str, tuple[CandidateState, str]], at_s: float
    ) -> None:
        """Gives candidates another state, with the reason, by the id of their trace."""
        columns = schema.demonstration_candidates.c
        with self._transactions.writing() as connection:
            for trace_id, (state, reason) in verdicts.items():
                connection.execute(
                    update(schema.demonstration_candidates)
                    .where(columns.tenant == tenant, columns.trace_id == trace_id)
                    .values(state=state, reason=reason, changed_at_s=at_s)
                )

    def reject_writer(self, tenant: str, key_id: str, at_s: float) -> int:
        """Rejects all candidates of a key; how many were not rejected before."""
        columns = schema.demonstration_candidates.c
        statement = update(schema.demonstration_candidates).where(
            columns.tenant == tenant, columns.key_id == key_id, columns.state != "rejected"
        )
        values = {"state": "rejected", "reason": f"its writer {key_id} was revoked"}
        with self._transactions.writing() as connection:
            return int(connection.execute(statement.values(**values, changed_at_s=at_s)).rowcount)

    def of_episode(self, tenant: str, episode_id: str) -> list[Candidate]:
        """The candidates of an episode by step."""
        columns = schema.demonstration_candidates.c
        query = select(*(columns[name] for name in Candidate.__dataclass_fields__)).where(
            columns.tenant == tenant, columns.episode_id == episode_id
        )
        with self._transactions.reading() as connection:
            rows = list(connection.execute(query.order_by(columns.step_index, columns.trace_id)))
        return [Candidate(*row) for row in rows]

    def counts(self, tenant: str) -> dict[tuple[str, str], int]:
        """Number of candidates by state and reason."""
        columns = schema.demonstration_candidates.c
        query = select(columns.state, columns.reason, func.count()).where(columns.tenant == tenant)
        with self._transactions.reading() as connection:
            rows = connection.execute(query.group_by(columns.state, columns.reason))
            return dict(sorted(Counter({(state, why): n for state, why, n in rows}).items()))

    def _insert(self, rows: list[dict[str, Any]]) -> int:
        new = 0
        table = schema.demonstration_candidates
        for chunk in chunks([row["trace_id"] for row in rows]):
            wanted = {row["trace_id"]: row for row in rows if row["trace_id"] in set(chunk)}
            tenant = rows[0]["tenant"]
            with self._transactions.writing() as connection:
                query = select(table.c.trace_id)
                here = table.c.tenant == tenant, table.c.trace_id.in_(chunk)
                stored = set(connection.scalars(query.where(*here)))
                missing = [row for id, row in wanted.items() if id not in stored]
                if missing:
                    connection.execute(upsert(connection, table), missing)
                    new += len(missing)
        return new

    def _mark(self, tenant: str) -> float:
        marks = schema.curation_marks
        query = select(marks.c.at_s).where(marks.c.tenant == tenant, marks.c.name == "traces")
        with self._transactions.reading() as connection:
            return float(connection.scalars(query).first() or 0.0)

    def _set_mark(self, tenant: str, at_s: float) -> None:
        marks = schema.curation_marks
        here = marks.c.tenant == tenant, marks.c.name == "traces"
        with self._transactions.writing() as connection:
            if not connection.execute(update(marks).where(*here).values(at_s=at_s)).rowcount:
                connection.execute(
                    insert(marks), {"tenant": tenant, "name": "traces", "at_s": at_s}
                )


def _is_candidate(body: Mapping[str, Any]) -> bool:
    """Whether a trace is a finished answer of a teacher that may be learnt from."""
    served = body["decision"]["served"]
    return served == "teacher" and body.get("finished", True) and not body.get("no_train")


def _row(body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tenant": body["tenant"],
        "trace_id": body["id"],
        "episode_id": body["episode_id"],
        "step_index": body["step_index"],
        "key_id": body.get("key_id"),
        "state": "quarantined",
        "reason": WAITING,
        "created_at_s": body["created_at_s"],
        "changed_at_s": body["created_at_s"],
    }
