"""What was found for each step, and what of it chance left out."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import Engine, select, update

from tutelage.retrieval.origins import upsert
from tutelage.retrieval.tool_schema import tool_set_sha256
from tutelage.runtime.errors import StoreError
from tutelage.runtime.store import schema
from tutelage.runtime.store.transactions import Transactions
from tutelage.runtime.types import StepAudit, Trace

logger = logging.getLogger(__name__)

_MOST_WAITING = 10_000
_SEEN_AGAIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Exposure:
    """The trajectories that were found for a step."""

    tenant: str
    episode_id: str
    step_index: int
    layer: str
    """Which retriever found them: ``step`` or ``pinned``."""
    at_s: float
    """Unix time."""
    share: float
    """Probability with which each of them was left out."""
    shown: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    """Hash of each tool that the step offered, by its name."""


@dataclass(frozen=True, slots=True)
class ToolSet:
    """Tools that steps have offered together."""

    tools: Mapping[str, str]
    first_seen_at_s: float
    last_seen_at_s: float


class ExposureLog(Protocol):
    """Takes note of what was found for steps."""

    def post(self, exposure: Exposure) -> None:
        """Takes note soon, and never fails."""
        ...


class SqlExposureLog:
    """Keeps exposures in a database, from a thread of its own; what cannot be kept is counted.

    Args:
        engine: From ``open_engine``; the caller disposes of it.
    """

    def __init__(self, engine: Engine) -> None:
        self._transactions = Transactions(engine)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tutelage-exposures")
        self._waiting: list[Exposure] = []
        self._is_flushing = False
        self._seen: dict[tuple[str, str], float] = {}
        self.lost = 0

    def post(self, exposure: Exposure) -> None:
        """Leaves an exposure to be stored soon."""
        if len(self._waiting) >= _MOST_WAITING:
            self.lost += 1
            return
        self._waiting.append(exposure)
        if not self._is_flushing:
            self._is_flushing = True
            self._thread.submit(self._flush)

    async def flush(self) -> None:
        """Waits until what was posted is stored."""
        await asyncio.wrap_future(self._thread.submit(self._flush))

    async def aclose(self) -> None:
        """Stores what waits, and ends the thread."""
        await self.flush()
        await asyncio.to_thread(self._thread.shutdown)

    def _flush(self) -> None:
        self._is_flushing = False
        rows, self._waiting = self._waiting, []
        if not rows:
            return
        try:
            self._insert(rows)
        except StoreError as error:
            self.lost += len(rows)
            logger.warning("%d exposures are lost: %s", len(rows), error)

    def _insert(self, exposures: Sequence[Exposure]) -> None:
        rows = []
        sets: dict[tuple[str, str], Exposure] = {}
        for one in exposures:
            digest = tool_set_sha256(one.tools) if one.tools else None
            if digest is not None:
                sets[one.tenant, digest] = one
            if one.shown or one.left_out or digest is not None:
                rows.append(
                    {
                        "tenant": one.tenant,
                        "episode_id": one.episode_id,
                        "step_index": one.step_index,
                        "layer": one.layer,
                        "at_s": one.at_s,
                        "share": one.share,
                        "shown": list(one.shown),
                        "left_out": list(one.left_out),
                        "tools_sha256": digest,
                    }
                )
        new = {
            key: one
            for key, one in sets.items()
            if one.at_s - self._seen.get(key, -_SEEN_AGAIN_S) >= _SEEN_AGAIN_S
        }
        with self._transactions.writing() as connection:
            if rows:
                connection.execute(upsert(connection, schema.exposures), rows)
            table = schema.tool_sets
            for (tenant, digest), one in new.items():
                here = table.c.tenant == tenant, table.c.sha256 == digest
                changed = update(table).where(*here).values(last_seen_at_s=one.at_s)
                if not connection.execute(changed).rowcount:
                    row = {"tenant": tenant, "sha256": digest, "tools": dict(one.tools)}
                    times = {"first_seen_at_s": one.at_s, "last_seen_at_s": one.at_s}
                    connection.execute(upsert(connection, table), row | times)
        self._seen.update({key: one.at_s for key, one in new.items()})


class Exposures:
    """Reads what was found for steps; blocking.

    Args:
        engine: From ``open_engine``; the caller disposes of it.
    """

    def __init__(self, engine: Engine) -> None:
        self._transactions = Transactions(engine)

    def of_tenant(self, tenant: str, *, since_s: float = 0.0) -> list[Exposure]:
        """Exposures from a Unix time on, oldest first; without the tools of their steps."""
        columns = schema.exposures.c
        query = select(schema.exposures).where(columns.tenant == tenant, columns.at_s >= since_s)
        query = query.order_by(columns.at_s, columns.episode_id, columns.step_index, columns.layer)
        with self._transactions.reading() as connection:
            rows = list(connection.execute(query))
        return [
            Exposure(
                tenant=row.tenant,
                episode_id=row.episode_id,
                step_index=row.step_index,
                layer=row.layer,
                at_s=row.at_s,
                share=row.share,
                shown=tuple(row.shown),
                left_out=tuple(row.left_out),
            )
            for row in rows
        ]

    def tools_of_episode(self, tenant: str, episode_id: str) -> dict[str, str]:
        """Hash of each tool that the steps of an episode offered, the latest of each name."""
        columns, sets = schema.exposures.c, schema.tool_sets.c
        query = (
            select(sets.tools)
            .join(
                schema.exposures,
                (columns.tenant == sets.tenant) & (columns.tools_sha256 == sets.sha256),
            )
            .where(columns.tenant == tenant, columns.episode_id == episode_id)
            .order_by(columns.step_index)
        )
        tools: dict[str, str] = {}
        with self._transactions.reading() as connection:
            for found in connection.scalars(query):
                tools.update(found)
        return tools

    def outcomes(self, tenant: str, *, since_s: float = 0.0) -> dict[str, bool]:
        """Success of the judged episodes for which something was found, by episode."""
        columns, episode = schema.exposures.c, schema.episodes.c
        query = (
            select(episode.id, episode.success)
            .distinct()
            .join(
                schema.exposures,
                (columns.tenant == episode.tenant) & (columns.episode_id == episode.id),
            )
            .where(episode.tenant == tenant, episode.success.is_not(None), columns.at_s >= since_s)
        )
        with self._transactions.reading() as connection:
            return {id: bool(success) for id, success in connection.execute(query)}

    def heard(self, tenant: str, *, since_s: float = 0.0) -> dict[tuple[str, int], bool]:
        """Whether the student named the teacher's action, by episode and step, where it is known.

        That is where the teacher served and the student had answered, or where an audit asked.
        """
        trace, audit, columns = schema.traces.c, schema.step_audits.c, schema.exposures.c
        query = (
            select(trace.body, audit.body.label("audit"))
            .join(
                schema.exposures,
                (columns.tenant == trace.tenant)
                & (columns.episode_id == trace.episode_id)
                & (columns.step_index == trace.step_index),
            )
            .join(
                schema.step_audits,
                (audit.tenant == trace.tenant) & (audit.trace_id == trace.id),
                isouter=True,
            )
            .where(trace.tenant == tenant, columns.at_s >= since_s)
            .order_by(trace.created_at_s, trace.id)
        )
        right: dict[tuple[str, int], bool] = {}
        with self._transactions.reading() as connection:
            for body, asked in connection.execute(query):
                known = student_was_right(
                    Trace.model_validate(body),
                    StepAudit.model_validate(asked) if asked is not None else None,
                )
                if known is not None:
                    right[body["episode_id"], body["step_index"]] = known
        return right

    def tool_sets(self, tenant: str) -> list[ToolSet]:
        """All sets of tools that steps have offered."""
        columns = schema.tool_sets.c
        query = select(columns.tools, columns.first_seen_at_s, columns.last_seen_at_s)
        with self._transactions.reading() as connection:
            rows = list(connection.execute(query.where(columns.tenant == tenant)))
        return [ToolSet(dict(tools), first, last) for tools, first, last in rows]


def student_was_right(trace: Trace, audit: StepAudit | None) -> bool | None:
    """Whether the student named the teacher's action; ``None`` if that is not known."""
    if trace.decision.served == "student":
        return audit.agrees if audit is not None else None
    named = [sample.action for sample in trace.samples]
    if not named or trace.action is None:
        return None
    return Counter(named).most_common(1)[0][0] == trace.action


def stale_tools(sets: Sequence[ToolSet], grace_s: float) -> Callable[[str, str], bool]:
    """Tells whether a tool, by name and hash of its schema, has given way to another schema.

    It has if the tool was offered with another schema more than ``grace_s`` after it was last
    offered with this one: two versions that are offered side by side are both in use.
    """
    last: dict[tuple[str, str], float] = {}
    for one in sets:
        for name, digest in one.tools.items():
            key = (name, digest)
            last[key] = max(last.get(key, 0.0), one.last_seen_at_s)

    def is_stale(name: str, digest: str) -> bool:
        own = last.get((name, digest), 0.0)
        return any(
            other == name and at_s > own + grace_s
            for (other, found), at_s in last.items()
            if found != digest
        )

    return is_stale
