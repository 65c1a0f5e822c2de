"""Responses that clients come back for: to read them, or to go on from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, and_, delete, or_, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from tutelage.runtime.errors import BadRequest, StoreError
from tutelage.runtime.store.database import begin_write, reason, redact
from tutelage.runtime.store.schema import responses
from tutelage.runtime.wires.responses_ids import PREFIX, is_ours

__all__ = ["LIFETIME_S", "PREFIX", "InThread", "StoredResponses", "is_ours"]

LIFETIME_S = 30 * 86_400.0
"""How long the API keeps a response."""
MOST_LINKS = 1000
"""Responses in one conversation, at most."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_MOST_ITEMS = 100
_PRUNED_ROWS = 20

Result = TypeVar("Result")


class InThread(Protocol):
    """Runs a blocking function in a thread."""

    async def __call__(self, function: Callable[[], Result], /) -> Result:
        """What the function returns."""
        ...


class StoredResponses:
    """Responses in a SQL database, each seen by its tenant only.

    Args:
        engine: From ``open_engine``, at the schema of this release; the caller disposes of it.
        in_thread: Where the database work runs, such as ``BatchWriter.call``.
        clock: Unix time in seconds.
        lifetime_s: How long a response is kept; ``None``: until it is deleted.
    """

    def __init__(
        self,
        engine: Engine,
        in_thread: InThread,
        *,
        clock: Callable[[], float],
        lifetime_s: float | None = LIFETIME_S,
    ) -> None:
        self._engine = engine
        self._in_thread = in_thread
        self._clock = clock
        self._lifetime_s = lifetime_s

    async def put(
        self,
        tenant: str,
        response: Mapping[str, Any],
        input_items: Sequence[Mapping[str, Any]],
        *,
        previous_id: str | None = None,
    ) -> None:
        """Stores a response, in place of one with the same id.

        Args:
            tenant: Whose it is.
            response: The response object as the client got it.
            input_items: Its own input, as ``listed_items`` makes it, oldest first.
            previous_id: The response that it goes on from.

        Raises:
            StoreError: The database cannot be written.
        """
        now_s = self._clock()
        row = {
            "tenant": tenant,
            "id": str(response["id"]),
            "created_at_s": now_s,
            "expires_at_s": None if self._lifetime_s is None else now_s + self._lifetime_s,
            "previous_id": previous_id,
            "body": dict(response),
            "input_items": [dict(item) for item in input_items],
        }

        def write(connection: Connection) -> None:
            _prune(connection, now_s, _PRUNED_ROWS)
            insert: Any = (
                postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            )(responses).values(row)
            fields = {name: insert.excluded[name] for name in row if name not in ("tenant", "id")}
            connection.execute(
                insert.on_conflict_do_update(index_elements=["tenant", "id"], set_=fields)
            )

        await self._write(write)

    async def get(self, tenant: str, id: str) -> dict[str, Any] | None:
        """A response object; ``None`` if the tenant has none with this id.

        Raises:
            StoreError: The database cannot be read.
        """
        row = await self._read(lambda connection: self._row(connection, tenant, id))
        return None if row is None else dict(row["body"])

    async def delete(self, tenant: str, id: str) -> bool:
        """Removes a response; whether there was one.

        Raises:
            StoreError: The database cannot be written.
        """
        if not _ID.fullmatch(id):
            return False
        statement = delete(responses).where(_of(tenant, id), _alive(self._clock()))
        return await self._write(lambda connection: connection.execute(statement).rowcount > 0)

    async def input_items(
        self,
        tenant: str,
        id: str,
        *,
        after: str | None = None,
        limit: int = 20,
        order: str = "desc",
    ) -> dict[str, Any] | None:
        """A page of the input of a response; ``None`` if the tenant has none with this id.

        Args:
            tenant: Whose response.
            id: Which response.
            after: The id of the item before the page.
            limit: Items of a page, 1 to 100.
            order: ``asc``, oldest first, or ``desc``.

        Raises:
            BadRequest: ``after``, ``limit`` or ``order`` is not usable.
            StoreError: The database cannot be read.
        """
        if not 1 <= limit <= _MOST_ITEMS:
            raise BadRequest(f"limit = {limit}: give 1 to {_MOST_ITEMS}", param="limit")
        if order not in ("asc", "desc"):
            raise BadRequest(f"order = {order[:40]!r}: give asc or desc", param="order")
        row = await self._read(lambda connection: self._row(connection, tenant, id))
        if row is None:
            return None
        items = list(row["input_items"])
        if order == "desc":
            items.reverse()
        if after is not None:
            positions = [at for at, item in enumerate(items) if item.get("id") == after]
            if not positions:
                raise BadRequest(
                    f"after = {after[:80]!r}: no such item of {id}", param="after", code="not_found"
                )
            items = items[positions[0] + 1 :]
        page = items[:limit]
        return {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(items) > limit,
        }

    async def conversation(self, tenant: str, id: str) -> list[dict[str, Any]]:
        """All items up to a response: inputs and outputs of the chain that ends with it.

        Instructions are no part of it, as in the API.

        Raises:
            BadRequest: The tenant has no such response, or one before it is gone.
            StoreError: The database cannot be read.
        """
        rows = await self._read(lambda connection: self._chain(connection, tenant, id))
        items: list[dict[str, Any]] = []
        for row in reversed(rows):
            items.extend(dict(item) for item in row["input_items"])
            items.extend(dict(item) for item in row["body"].get("output") or ())
        return items

    async def prune(self, limit: int = 500) -> int:
        """Removes responses of any tenant whose time is over, at most ``limit``; how many.

        Raises:
            StoreError: The database cannot be written.
        """
        now_s = self._clock()
        return await self._write(lambda connection: _prune(connection, now_s, limit))

    def _chain(self, connection: Connection, tenant: str, id: str) -> list[Mapping[str, Any]]:
        rows: list[Mapping[str, Any]] = []
        seen: set[str] = set()
        next_id: str | None = id
        while next_id is not None:
            row = None if next_id in seen else self._row(connection, tenant, next_id)
            if row is None:
                raise BadRequest(
                    f"previous_response_id = {id[:80]!r}: there is no response"
                    f" {next_id[:80]!r} any more; send the whole conversation as input",
                    param="previous_response_id",
                    code="previous_response_not_found",
                )
            if len(rows) == MOST_LINKS:
                raise BadRequest(
                    f"previous_response_id = {id[:80]!r}: the conversation has more than"
                    f" {MOST_LINKS} responses; begin a new one",
                    param="previous_response_id",
                )
            rows.append(row)
            seen.add(next_id)
            next_id = row["previous_id"]
        return rows

    def _row(self, connection: Connection, tenant: str, id: str) -> Mapping[str, Any] | None:
        if not _ID.fullmatch(id):
            # PostgreSQL refuses some characters, even in a comparison.
            return None
        table = responses.c
        query = select(table.body, table.input_items, table.previous_id).where(
            _of(tenant, id), _alive(self._clock())
        )
        row = connection.execute(query).mappings().first()
        return None if row is None else dict(row)

    async def _read(self, function: Callable[[Connection], Result]) -> Result:
        def read() -> Result:
            try:
                with self._engine.connect() as connection:
                    return function(connection)
            except (SQLAlchemyError, ValueError) as error:
                raise StoreError(f"{self._name} cannot be read: {reason(error)}") from error

        return await self._in_thread(read)

    async def _write(self, function: Callable[[Connection], Result]) -> Result:
        def write() -> Result:
            try:
                with begin_write(self._engine) as connection:
                    return function(connection)
            except (SQLAlchemyError, ValueError) as error:
                raise StoreError(f"{self._name} cannot be written: {reason(error)}") from error

        return await self._in_thread(write)

    @property
    def _name(self) -> str:
        return f"database {redact(str(self._engine.url))}"


def _of(tenant: str, id: str) -> Any:
    return and_(responses.c.tenant == tenant, responses.c.id == id)


def _alive(now_s: float) -> Any:
    expires_at_s = responses.c.expires_at_s
    return or_(expires_at_s.is_(None), expires_at_s > now_s)


def _prune(connection: Connection, now_s: float, limit: int) -> int:
    keys = (responses.c.tenant, responses.c.id)
    # Several workers delete: rows that another one has at hand are left to it.
    found = (
        select(*keys)
        .where(responses.c.expires_at_s <= now_s)
        .order_by(responses.c.expires_at_s)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(found).all()
    if not rows:
        return 0
    statement = delete(responses).where(tuple_(*keys).in_([tuple(row) for row in rows]))
    return connection.execute(statement).rowcount
