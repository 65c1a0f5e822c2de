"""A bank that several processes share: PostgreSQL finds, and nothing has to be loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import orjson
from pydantic import ValidationError
from sqlalchemy import Engine

from tutelage.retrieval.bank import Bank
from tutelage.retrieval.embedding import Embedder, Vectors
from tutelage.retrieval.faiss_index import FaissIndex
from tutelage.retrieval.index import ExactIndex
from tutelage.retrieval.keys import StateKey
from tutelage.retrieval.pgvector_rows import Found, KeptRows, unpacked
from tutelage.retrieval.pgvector_table import EXACT_ROWS, PgVectorTable
from tutelage.retrieval.shard import Shard, indexed, shard_texts, version_of
from tutelage.runtime.errors import ConfigError, StoreError
from tutelage.runtime.types import Trajectory

KEPT_ROWS = 10_000
_FILLED_AT_ONCE = 500


class PgVectorBank(Bank):
    """The bank with pgvector in place of matrices in memory and an index on disk.

    A search asks the database for the trajectories nearest by goal and gets a shard of just those.
    What one process adds, retires or rolls back holds for all at once; they need no catching up.
    Vectors are kept in half precision. Rows that are missing, since a process without pgvector
    added them, are made when the bank is opened, caught up with or changed.

    Args:
        engine: A migrated database on a PostgreSQL server.
        embedder: Makes the vectors; changing it needs ``reindex``.
        cache_dir: Not used; there for the likeness.
        clock: Unix time in seconds.
        state_key: How the state of a step is put into words.
        kept_rows: Trajectories kept in memory, those found last.
        exact_rows: Most trajectories of a tenant that are scanned.

    Raises:
        ConfigError: The database is not on a PostgreSQL server.
    """

    def __init__(
        self,
        engine: Engine,
        embedder: Embedder,
        cache_dir: Path,
        clock: Callable[[], float],
        *,
        state_key: StateKey | None = None,
        kept_rows: int = KEPT_ROWS,
        exact_rows: int = EXACT_ROWS,
    ) -> None:
        if engine.dialect.name != "postgresql":
            raise ConfigError(
                'retrieval.index = "pgvector" needs PostgreSQL: set store.url to'
                " postgresql+psycopg://user@host/name, or retrieval.index to faiss"
            )
        super().__init__(engine, embedder, cache_dir, clock, state_key=state_key)
        self._table = PgVectorTable(
            engine, embedder.name, embedder.dimension, self.state_key, exact_rows=exact_rows
        )
        self._kept = KeptRows(kept_rows)
        self._is_made = False
        self._checked: set[str] = set()
        self._filled: set[str] = set()

    async def reindex(self) -> int:
        """Computes and stores what this embedder's table does not have yet.

        Returns:
            Number of trajectories that are searchable.
        """
        count = 0
        for tenant in await asyncio.to_thread(self._ledger.tenants):
            async with self._locks[tenant]:
                await self._make_table()
                await self._fill(tenant)
                self._checked.add(tenant)
                count += len(await asyncio.to_thread(self._table.digests, tenant))
        return count

    async def refresh(self, tenant: str) -> None:
        """Looks for missing rows at the next use; nothing else is remembered."""
        self._checked.discard(tenant)

    async def catch_up(self, tenant: str) -> bool:
        """Makes rows that are missing; whether there were any. What has them is found anyway.

        Raises:
            StoreError: The database cannot be read.
            RetrievalError: The embedder fails.
        """
        latest = await asyncio.to_thread(self._ledger.latest_version, tenant)
        if tenant not in self._checked or latest == self._seen_versions.get(tenant):
            return False
        async with self._locks[tenant]:
            filled = await self._fill(tenant)
        self._seen_versions[tenant] = latest
        return filled > 0

    async def trajectories(self, tenant: str) -> Sequence[Trajectory]:
        """The active trajectories of a tenant, oldest first; read from the database each time."""
        await self._ready(tenant)
        return await asyncio.to_thread(self._ledger.active, tenant)

    async def size(self, tenant: str) -> int:
        """Number of demonstrations: the teacher's steps in active trajectories."""
        await self._ready(tenant)
        return await asyncio.to_thread(self._table.demonstrations, tenant)

    async def version(self, tenant: str) -> str:
        """Hash of the active contents; that of a bank of any kind with the same trajectories."""
        await self._ready(tenant)
        return version_of(await asyncio.to_thread(self._table.digests, tenant))

    async def shard(self, tenant: str) -> Shard:
        """The matrices of a tenant, all of them, loaded by every call.

        Raises:
            EmbedderMismatch: Its vectors were made by another embedder.
            StoreError: The database cannot be read.
        """
        rows = await self.trajectories(tenant)
        return await self._build(tenant, rows, FaissIndex(self.embedder.dimension))

    async def is_empty(self, tenant: str) -> bool:
        """Whether a tenant has no active trajectory; once it had one, a search tells."""
        if tenant in self._filled:
            return False
        if await self.size(tenant) == 0:
            return True
        self._filled.add(tenant)
        return False

    async def near(
        self, tenant: str, goal: Vectors, count: int, *, task_id: str | None = None
    ) -> Shard:
        """A shard of the active trajectories of a tenant that are nearest by goal.

        Args:
            tenant: Whose.
            goal: The vector that they must be near, shape (dimension,).
            count: How many.
            task_id: Those of this task are left out.

        Raises:
            EmbedderMismatch: The bank was built with another embedder.
            StoreError: The database cannot be read.
        """
        await self._ready(tenant)
        return await asyncio.to_thread(self._near, tenant, goal, count, task_id)

    def _near(self, tenant: str, goal: Vectors, count: int, task_id: str | None) -> Shard:
        ids = self._table.nearest(tenant, goal, count, task_id=task_id)
        found = self._kept.get(tenant, ids)
        unknown = [id for id in ids if id not in found]
        if unknown:
            new = {one["id"]: self._found(one) for one in self._table.load(tenant, unknown)}
            self._kept.put(tenant, new)
            found.update(new)
        dimension = self.embedder.dimension
        shard = Shard(tenant, dimension, self.state_key, ExactIndex(dimension))
        rows = [found[id] for id in ids if id in found]
        shard.append([one.trajectory for one in rows], [one.row for one in rows])
        return shard

    def _found(self, columns: Mapping[str, object]) -> Found:
        names = ("id", "tenant", "goal", "category", "plan", "task_id", "source")
        values = {name: columns[name] for name in names}
        turns = orjson.loads(str(columns["turns"]))
        try:
            trajectory = Trajectory.model_validate({**values, "turns": turns, "success": True})
        except ValidationError as error:
            raise StoreError(
                f"trajectory {columns['id']!r} of tenant {columns['tenant']!r} is damaged in the"
                f" database ({str(error).splitlines()[0]}): delete its row"
            ) from error
        return Found(trajectory, unpacked(columns, self.embedder.dimension))

    async def _active(self, tenant: str, trajectory_id: str) -> Trajectory | None:
        await self._ready(tenant)
        found = await asyncio.to_thread(self._table.load, tenant, [trajectory_id])
        return self._found(found[0]).trajectory if found else None

    async def _ready(self, tenant: str) -> None:
        if tenant not in self._checked:
            async with self._locks[tenant]:
                await self._prepare(tenant)

    async def _loaded(self, tenant: str) -> Shard:
        await self._prepare(tenant)
        return await self._build(tenant, [], FaissIndex(self.embedder.dimension))

    async def _prepare(self, tenant: str) -> None:
        if tenant in self._checked:
            return
        await self._make_table()
        missing = await asyncio.to_thread(self._table.missing, tenant)
        rows = (await asyncio.to_thread(self._ledger.known, tenant, missing)).values()
        await self._check_embedder(tenant, [row.goal for row in rows])
        await self._fill(tenant)
        self._checked.add(tenant)

    async def _take_in(
        self, tenant: str, shown: Sequence[Trajectory], vectors: Mapping[str, Vectors]
    ) -> None:
        rows = {one.id: indexed(one, vectors, self.state_key) for one in shown}
        if rows:
            await asyncio.to_thread(self._table.insert, tenant, rows)

    async def _changed(self, tenant: str, change: Callable[[float], int]) -> int:
        count = await super()._changed(tenant, change)
        if count:
            await self._ready(tenant)
            async with self._locks[tenant]:
                await self._fill(tenant)
        return count

    async def _make_table(self) -> None:
        if not self._is_made:
            await asyncio.to_thread(self._table.create)
            self._is_made = True

    async def _fill(self, tenant: str) -> int:
        """Makes the rows that active trajectories lack, and returns how many."""
        missing = await asyncio.to_thread(self._table.missing, tenant)
        if not missing:
            return 0
        is_bulk = await asyncio.to_thread(self._table.begin_filling, len(missing))
        try:
            for start in range(0, len(missing), _FILLED_AT_ONCE):
                piece = missing[start : start + _FILLED_AT_ONCE]
                rows = list((await asyncio.to_thread(self._ledger.known, tenant, piece)).values())
                vectors, new = await self._vectors(shard_texts(rows, self.state_key))
                if new:
                    await asyncio.to_thread(self._ledger.add_vectors, self.embedder.name, new)
                await self._take_in(tenant, rows, vectors)
        finally:
            if is_bulk:
                await asyncio.to_thread(self._table.end_filling)
        return len(missing)
