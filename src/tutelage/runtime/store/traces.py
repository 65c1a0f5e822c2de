"""Traces and episodes in a SQL database."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from math import isfinite
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from sqlalchemy import Column, Connection, Engine, Insert, Select, String, Table, select
from sqlalchemy import func as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError, StatementError

from tutelage.runtime.errors import SchemaTooNew, StoreError
from tutelage.runtime.store import schema
from tutelage.runtime.store.database import (
    Encoded,
    begin_write,
    file_identity,
    migrate,
    open_engine,
    reason,
    redact,
)
from tutelage.runtime.store.spool import Kind, Record, Spool
from tutelage.runtime.store.tool_definitions import (
    KeptTools,
    tools_queries,
    tools_row,
    with_tools,
)
from tutelage.runtime.store.writer import (
    BatchLimits,
    BatchWriter,
    Counters,
    Settle,
    Unreachable,
    Unstorable,
)
from tutelage.runtime.types import EpisodeRecord, Served, Trace

logger = logging.getLogger(__name__)

_START_DRAIN_S = 2.0


def _length(column: Column[Any]) -> int | None:
    return column.type.length if isinstance(column.type, String) else None


_TRACE_COLUMNS = tuple(schema.traces.columns.keys())
_TRACE_LENGTHS = tuple(
    (position, length)
    for position, column in enumerate(schema.traces.columns)
    if (length := _length(column)) is not None
)
# A few sizes, each of which the driver compiles once.
_ROWS_AT_ONCE = (64, 8, 1)
_PLACES = f"({', '.join('?' * len(_TRACE_COLUMNS))})"
_SQLITE_INSERT = {
    size: f"INSERT INTO traces ({', '.join(_TRACE_COLUMNS)})"
    f" VALUES {', '.join([_PLACES] * size)} ON CONFLICT DO NOTHING"
    for size in _ROWS_AT_ONCE
}


class SqlTraceStore:
    """Keeps traces and episodes durably; opened and closed by ``async with``.

    An append returns when its group is committed, or is on disk in the spool while the database
    is gone. All database work runs in one thread. Reads see what is in the database, not what
    still waits in the spool.

    Args:
        database: A database URL, or an engine of ``open_engine`` that the caller disposes of.
        spool: Where records go while the database is gone; drained at start and when it is back.
        clock: Seconds from any origin; paces the tries to reach a database that is gone.
        limits: Sizes and waits of the group commit.
    """

    def __init__(
        self,
        database: Engine | str,
        *,
        spool: Spool,
        clock: Callable[[], float] = time.monotonic,
        limits: BatchLimits | None = None,
    ) -> None:
        self._owns_engine = isinstance(database, str)
        self._engine = open_engine(database) if isinstance(database, str) else database
        self._writer = BatchWriter(self._commit, spool, clock=clock, limits=limits)
        self._identity: tuple[int, int] | None = None
        self._kept_tools = KeptTools()

    async def __aenter__(self) -> Self:
        try:
            await self._writer.call(self._try_to_prepare)
            await self._writer.drain(_START_DRAIN_S)
        except BaseException:
            await self._close()
            raise
        self._writer.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        try:
            await self._writer.close()
        finally:
            if self._owns_engine:
                self._engine.dispose()

    @property
    def counters(self) -> Counters:
        """Records stored, spooled and failed since the store was opened."""
        return self._writer.counters

    async def append(self, trace: Trace) -> None:
        """Stores a trace durably before it returns; a second append of the same id does nothing.

        Raises:
            StoreError: The trace could be neither stored nor spooled.
        """
        record = _trace_record(trace)
        tools = self._kept_tools.missing(trace)
        if tools is not None:
            try:
                await self._writer.put(tools)
                self._kept_tools.add(trace)
            except StoreError as error:
                logger.warning("the tools of trace %s are not stored: %s", trace.id, error)
        await self._writer.put(record)

    def post(self, trace: Trace, settle: Settle) -> bool:
        """Leaves a trace to be stored soon; ``False`` if too many wait, and nothing was done.

        Args:
            trace: As for ``append``.
            settle: Called with ``None`` when it is durable, else with what it is lost for.

        Raises:
            StoreError: It cannot be stored.
        """
        record = _trace_record(trace)
        tools = self._kept_tools.missing(trace)
        if tools is not None and not self._writer.post(tools, self._kept_tools.settle(trace)):
            return False
        return self._writer.post(record, settle)

    async def record_episode(self, episode: EpisodeRecord) -> None:
        """Creates the episode, or updates the fields that are not ``None``.

        Raises:
            StoreError: The episode could be neither stored nor spooled.
        """
        await self._writer.put(_episode_record(episode))

    async def trace(self, tenant: str, id: str) -> Trace | None:
        """One trace of a tenant, or ``None``.

        Raises:
            StoreError: The database cannot be read.
        """
        table = schema.traces
        query = select(table.c.body).where(table.c.tenant == tenant, table.c.id == id)
        return next(iter(await self._read_traces(query)), None)

    async def traces(
        self,
        tenant: str,
        *,
        episode_id: str | None = None,
        served: Served | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> list[Trace]:
        """Traces of a tenant by time, then step.

        Raises:
            StoreError: The database cannot be read.
        """
        table = schema.traces
        query = select(table.c.body).where(table.c.tenant == tenant).limit(limit)
        if episode_id is not None:
            query = query.where(table.c.episode_id == episode_id)
        if served is not None:
            query = query.where(table.c.served == served)
        keys = (table.c.created_at_s, table.c.step_index, table.c.id)
        query = query.order_by(*(key.desc() if newest_first else key.asc() for key in keys))
        return await self._read_traces(query)

    async def episode(self, tenant: str, id: str) -> EpisodeRecord | None:
        """One episode of a tenant, or ``None``.

        Raises:
            StoreError: The database cannot be read.
        """
        table = schema.episodes
        query = select(table).where(table.c.tenant == tenant, table.c.id == id)
        return next(iter(await self._read_episodes(query)), None)

    async def episodes(
        self,
        tenant: str,
        *,
        success: bool | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> list[EpisodeRecord]:
        """Episodes of a tenant by time; ``success=None`` gives all, also those without outcome.

        Raises:
            StoreError: The database cannot be read.
        """
        table = schema.episodes
        query = select(table).where(table.c.tenant == tenant).limit(limit)
        if success is not None:
            query = query.where(table.c.success == success)
        keys = (table.c.created_at_s, table.c.id)
        query = query.order_by(*(key.desc() if newest_first else key.asc() for key in keys))
        return await self._read_episodes(query)

    async def _read_traces(self, query: Select[Any]) -> list[Trace]:
        traces: list[Trace] = []

        def read() -> Mapping[tuple[str, str], Any]:
            traces.extend(_read_as(Trace, row["body"]) for row in self._read(query))
            return self._tools(traces)

        tools = await self._writer.call(read)
        return [with_tools(trace, tools) for trace in traces]

    async def _read_episodes(self, query: Select[Any]) -> list[EpisodeRecord]:
        rows = await self._writer.call(lambda: self._read(query))
        return [_read_as(EpisodeRecord, row) for row in rows]

    def _read(self, query: Select[Any]) -> list[Mapping[str, Any]]:
        self._prepare()
        try:
            with self._engine.connect() as connection:
                return [dict(row) for row in connection.execute(query).mappings()]
        except (SQLAlchemyError, ValueError) as error:
            raise StoreError(f"{self._name} cannot be read: {reason(error)}") from error

    def _tools(self, traces: Sequence[Trace]) -> Mapping[tuple[str, str], Any]:
        """Definitions by tenant and hash."""
        found: dict[tuple[str, str], Any] = {}
        for query in tools_queries(traces):
            for row in self._read(query):
                found[row["tenant"], row["sha256"]] = row["tools"]
        return found

    def _commit(self, records: Sequence[Record], lock_wait_s: float) -> None:
        try:
            self._prepare()
        except SchemaTooNew as error:
            raise self._unreachable(str(error)) from error
        try:
            with begin_write(self._engine, wait_s=lock_wait_s) as connection:
                _insert(connection, records)
        except (DataError, IntegrityError) as error:
            raise Unstorable(f"{self._name} refuses a record: {reason(error)}") from error
        except SQLAlchemyError as error:
            if type(error) is StatementError:
                raise Unstorable(f"a record cannot be encoded: {reason(error)}") from error
            raise self._unreachable(f"cannot be written: {reason(error)}") from error
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            # Also a spooled record whose fields another release named otherwise.
            raise Unstorable(f"a record cannot be encoded: {error!r}") from error
        if file_identity(self._engine) != self._identity:
            raise self._unreachable("was moved or deleted while it was written")

    def _try_to_prepare(self) -> None:
        try:
            self._prepare()
        except SchemaTooNew:
            raise
        except StoreError:
            # The first append finds the same, and spools.
            return

    def _prepare(self) -> None:
        """Brings the database to its schema, again when its file is not the one it was."""
        if self._identity is not None and file_identity(self._engine) == self._identity:
            return
        if self._identity is not None:
            self._engine.dispose()
        # What was kept may be in a file that is gone.
        self._kept_tools = KeptTools()
        try:
            migrate(self._engine)
        except SchemaTooNew:
            raise
        except StoreError as error:
            raise self._unreachable(str(error)) from error
        self._identity = file_identity(self._engine)

    def _unreachable(self, problem: str) -> Unreachable:
        self._identity = None
        self._engine.dispose()
        return Unreachable(f"{self._name} {problem}")

    @property
    def _name(self) -> str:
        return f"database {redact(str(self._engine.url))}"


def _trace_record(trace: Trace) -> Record:
    decision = trace.decision
    cost_usd = sum(trace.cost_usd.values())
    columns = (
        trace.tenant,
        trace.id,
        trace.episode_id,
        trace.step_index,
        trace.created_at_s,
        decision.served,
        decision.reason.value,
        # The JSON of what is no number is null.
        cost_usd if isfinite(cost_usd) else None,
    )
    for position, length in _TRACE_LENGTHS:
        value = columns[position]
        if isinstance(value, str) and len(value) > length:
            raise _too_long("trace", _TRACE_COLUMNS[position], value, length)
    return Record("trace", encoded=_encoded("trace", trace), columns=columns)


def _episode_record(episode: EpisodeRecord) -> Record:
    for column in schema.episodes.columns:
        value, length = getattr(episode, column.name), _length(column)
        if length is not None and isinstance(value, str) and len(value) > length:
            raise _too_long("episode", column.name, value, length)
    return Record("episode", encoded=_encoded("episode", episode))


def _too_long(kind: Kind, name: str, value: object, length: int) -> StoreError:
    text = str(value)
    return StoreError(
        f"{kind} {name} has {len(text)} characters, more than {length}: {text[:40]!r}…"
    )


def _encoded(kind: Kind, model: Trace | EpisodeRecord) -> str:
    try:
        return model.model_dump_json()
    except PydanticSerializationError as error:
        raise StoreError(f"{kind} {model.id!r} cannot be written as JSON: {error}") from error


def _read_as(model: Any, body: Mapping[str, Any]) -> Any:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise StoreError(
            f"a stored {model.__name__} cannot be read: {'.'.join(map(str, first['loc']))}:"
            f" {first['msg']}; it may be from a newer release: upgrade tutelage"
        ) from error


def _insert(connection: Connection, records: Sequence[Record]) -> None:
    is_server = connection.dialect.name == "postgresql"
    insert: Callable[[Table], Any] = postgresql.insert if is_server else sqlite.insert
    traces = [
        (*(record.columns or _trace_columns(record.body)), Encoded(record.encoded))
        for record in records
        if record.kind == "trace"
    ]
    episodes = [_episode_row(record.body) for record in records if record.kind == "episode"]
    if traces and is_server:
        rows = [dict(zip(_TRACE_COLUMNS, row, strict=True)) for row in traces]
        connection.execute(insert(schema.traces).on_conflict_do_nothing(), rows)
    elif traces:
        _insert_at_once(connection, traces)
    tools = [tools_row(record) for record in records if record.kind == "tools"]
    if tools:
        connection.execute(insert(schema.tool_definitions).on_conflict_do_nothing(), tools)
    if episodes:
        connection.execute(_upsert_episode(insert(schema.episodes)), episodes)


def _insert_at_once(connection: Connection, traces: Sequence[tuple[Any, ...]]) -> None:
    """Many rows in one statement.

    The driver lets other threads run once a statement, and has to wait for them after each.
    """
    start = 0
    for size in _ROWS_AT_ONCE:
        while len(traces) - start >= size:
            values = tuple(chain.from_iterable(traces[start : start + size]))
            connection.exec_driver_sql(_SQLITE_INSERT[size], values)
            start += size


def _upsert_episode(statement: Any) -> Insert:
    table = schema.episodes
    changes = {
        name: sql.coalesce(statement.excluded[name], table.c[name])
        for name in ("goal", "task_id", "success", "reward", "comment")
    }
    upsert: Insert = statement.on_conflict_do_update(index_elements=["tenant", "id"], set_=changes)
    return upsert


def _trace_columns(body: Mapping[str, Any]) -> tuple[Any, ...]:
    decision = body["decision"]
    return (
        *(body[name] for name in ("tenant", "id", "episode_id", "step_index", "created_at_s")),
        decision["served"],
        decision["reason"],
        sum(body["cost_usd"].values()),
    )


def _episode_row(body: Mapping[str, Any]) -> dict[str, Any]:
    # A record that was spooled by an earlier release lacks what came later.
    row = {column.name: body.get(column.name) for column in schema.episodes.columns}
    for name in ("goal", "comment"):
        text = row[name]
        if text is not None:
            # PostgreSQL has no NUL in text.
            row[name] = str(text).replace("\0", "\ufffd")
    return row
