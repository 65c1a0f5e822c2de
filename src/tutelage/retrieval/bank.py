"""The demonstrations of all tenants: truth in SQL, matrices in memory, indexes as a cache."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine

from tutelage.retrieval.bank_versions import BankVersion, State
from tutelage.retrieval.embedding import Embedder, Vectors
from tutelage.retrieval.faiss_index import FaissIndex
from tutelage.retrieval.keys import StateKey
from tutelage.retrieval.ledger import Ledger
from tutelage.retrieval.manifest import load_index, read_manifest, save_index
from tutelage.retrieval.origins import Origin
from tutelage.retrieval.shard import Shard, content_digest, order_digest, shard_texts
from tutelage.retrieval.window import cut, imitable_steps
from tutelage.runtime.errors import EmbedderMismatch, IndexDamaged
from tutelage.runtime.types import Demonstration, Trajectory

logger = logging.getLogger(__name__)

# A cached index that lacks the newest rows is still of use, so it is not written for each of them.
_SAVED_GROWTH = 1.1


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of a trajectory that was offered to the bank."""

    tenant: str
    trajectory_id: str
    outcome: Literal["added", "quarantined", "duplicate", "rejected"]
    reason: str | None = None
    """Why it was rejected or quarantined."""


class Bank:
    """Successful trajectories by tenant, with the vectors they are searched by.

    Vectors are computed once a text and embedder and kept in SQL; the index of a tenant is a file
    under ``cache_dir`` that is built anew when it is missing, damaged or out of date.

    Args:
        engine: A migrated database.
        embedder: Makes the vectors; changing it needs ``reindex``.
        cache_dir: Folder of the index files; may be emptied at any time.
        clock: Unix time in seconds.
        state_key: How the state of a step is put into words.
    """

    def __init__(
        self,
        engine: Engine,
        embedder: Embedder,
        cache_dir: Path,
        clock: Callable[[], float],
        *,
        state_key: StateKey | None = None,
    ) -> None:
        self.embedder = embedder
        self.state_key = state_key or StateKey()
        self._ledger = Ledger(engine)
        self._cache_dir = cache_dir / "retrieval"
        self._clock = clock
        self._shards: dict[str, Shard] = {}
        self._saved_rows: dict[str, int] = {}
        self._seen_versions: dict[str, int] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def open(self) -> None:
        """Loads every tenant, so that what is wrong with the bank shows now and not in a request.

        Raises:
            EmbedderMismatch: A tenant's vectors were made by another embedder.
            StoreError: The database cannot be read.
        """
        for tenant in await asyncio.to_thread(self._ledger.tenants):
            await self.shard(tenant)

    async def reindex(self) -> int:
        """Computes what this embedder has not computed yet and builds all indexes anew.

        Returns:
            Number of trajectories that were indexed.
        """
        count = 0
        for tenant in await asyncio.to_thread(self._ledger.tenants):
            async with self._locks[tenant]:
                rows = await asyncio.to_thread(self._ledger.active, tenant)
                shard = await self._build(tenant, rows, FaissIndex(self.embedder.dimension))
                await asyncio.to_thread(self._save, shard)
                self._shards[tenant] = shard
                count += len(rows)
        return count

    async def refresh(self, tenant: str) -> None:
        """Forgets what is in memory for a tenant; its next use reads the database again."""
        async with self._locks[tenant]:
            self._shards.pop(tenant, None)

    async def catch_up(self, tenant: str) -> bool:
        """Takes over what other processes changed; whether they did. Cheap if nothing changed.

        Searches go on meanwhile with what was there before. What was added is appended; if anything
        was taken out, the tenant is loaded again.

        Raises:
            StoreError: The database cannot be read.
            RetrievalError: The embedder fails.
        """
        latest = await asyncio.to_thread(self._ledger.latest_version, tenant)
        if tenant not in self._shards or latest == self._seen_versions.get(tenant):
            return False
        async with self._locks[tenant]:
            shard = await self._loaded(tenant)
            active = await asyncio.to_thread(self._ledger.active_ids, tenant)
            gone, new = shard.rows.keys() - active, active - shard.rows.keys()
            if gone:
                rows = await asyncio.to_thread(self._ledger.active, tenant)
                index = FaissIndex(self.embedder.dimension)
                self._shards[tenant] = await self._build(tenant, rows, index)
            elif new:
                added = list((await asyncio.to_thread(self._ledger.known, tenant, new)).values())
                vectors, _ = await self._vectors(shard_texts(added, self.state_key))
                await asyncio.to_thread(shard.extend, added, vectors)
            self._seen_versions[tenant] = latest
        return bool(gone or new)

    async def add(
        self,
        trajectories: Sequence[Trajectory],
        *,
        origins: Mapping[str, Origin] | None = None,
        cause: str = "added",
    ) -> list[Admission]:
        """Stores trajectories of any tenants; offering one twice changes nothing.

        Args:
            trajectories: What is offered.
            origins: Where they come from and in which state they are stored, by id; absent: active.
            cause: Why, for the list of versions.

        Returns:
            One admission a trajectory, in their order. A retired one stays retired.

        Raises:
            StoreError: The database cannot be written; nothing of the failing tenant was stored.
        """
        admissions: dict[int, Admission] = {}
        by_tenant: dict[str, list[int]] = {}
        for position, trajectory in enumerate(trajectories):
            by_tenant.setdefault(trajectory.tenant, []).append(position)
        for tenant, positions in by_tenant.items():
            offered = [trajectories[position] for position in positions]
            async with self._locks[tenant]:
                await self._prepare(tenant)
                outcomes = await self._admit(tenant, offered, origins or {}, cause)
            admissions.update(zip(positions, outcomes, strict=True))
        return [admissions[position] for position in range(len(trajectories))]

    async def retire(self, tenant: str, trajectory_id: str) -> bool:
        """Takes a trajectory out of use, until a rollback; ``False`` if it was not active."""
        async with self._locks[tenant]:
            at_s = self._clock()
            retired = await asyncio.to_thread(self._ledger.retire, tenant, trajectory_id, at_s)
            if retired:
                self._shards.pop(tenant, None)
        return retired

    async def change(
        self,
        tenant: str,
        states: Mapping[str, State],
        reason: str | Mapping[str, str],
        *,
        cause: str,
    ) -> int:
        """Puts trajectories into other states; how many changed. All of it is one version."""
        if not states:
            return 0
        return await self._changed(
            tenant,
            lambda at_s: self._ledger.change(tenant, states, reason, cause=cause, at_s=at_s),
        )

    async def revoke(self, tenant: str, key_id: str) -> int:
        """Retires for good all that a key wrote, and refuses it from now on; how many."""
        return await self._changed(tenant, lambda at_s: self._ledger.revoke(tenant, key_id, at_s))

    async def rollback(self, tenant: str, number: int) -> int:
        """Gives each trajectory the state it had at a version; how many changed.

        Raises:
            RetrievalError: There is no such version.
        """
        return await self._changed(tenant, lambda at_s: self._ledger.rollback(tenant, number, at_s))

    async def versions(self, tenant: str) -> Sequence[BankVersion]:
        """The versions of the active set, newest first."""
        return await asyncio.to_thread(self._ledger.versions, tenant)

    async def known(self, tenant: str, ids: Sequence[str]) -> Mapping[str, Trajectory]:
        """Those of the trajectories that are stored, whatever their state, by id."""
        return await asyncio.to_thread(self._ledger.known, tenant, ids)

    async def everything(self, tenant: str) -> Sequence[Trajectory]:
        """All trajectories of a tenant, whatever their state, oldest first."""
        return await asyncio.to_thread(self._ledger.everything, tenant)

    async def vectors(self, texts: Sequence[str]) -> Mapping[str, Vectors]:
        """The vector of each text, computed once and kept."""
        vectors, new = await self._vectors(texts)
        if new:
            await asyncio.to_thread(self._ledger.add_vectors, self.embedder.name, new)
        return vectors

    async def trajectories(self, tenant: str) -> Sequence[Trajectory]:
        """The active trajectories of a tenant, oldest first."""
        return tuple((await self.shard(tenant)).trajectories)

    async def demonstrations(
        self,
        tenant: str,
        *,
        trajectory_id: str | None = None,
        category: str | None = None,
        before: int = 2,
        after: int = 0,
    ) -> Sequence[Demonstration]:
        """The demonstrations of a tenant, one a teacher's step.

        Args:
            tenant: Whose they are.
            trajectory_id: Only those of this trajectory.
            category: Only those of this category.
            before: Turns shown before the step to imitate.
            after: Turns shown after it.
        """
        return [
            cut(trajectory, index, before=before, after=after)
            for trajectory in await self.trajectories(tenant)
            if trajectory_id in (None, trajectory.id) and category in (None, trajectory.category)
            for index in imitable_steps(trajectory)
        ]

    async def demonstration(
        self, tenant: str, demonstration_id: str, *, before: int = 2, after: int = 0
    ) -> Demonstration | None:
        """One demonstration by its id, ``None`` if the tenant has no such active one."""
        trajectory_id, _, step = demonstration_id.rpartition(":")
        trajectory = await self._active(tenant, trajectory_id)
        if trajectory is None or not step.isdecimal():
            return None
        if int(step) not in imitable_steps(trajectory):
            return None
        return cut(trajectory, int(step), before=before, after=after)

    async def size(self, tenant: str) -> int:
        """Number of demonstrations: the teacher's steps in active trajectories."""
        return len((await self.shard(tenant)).steps)

    async def version(self, tenant: str) -> str:
        """Hash of the active contents; two banks with one version hold the same trajectories."""
        return (await self.shard(tenant)).version

    async def shard(self, tenant: str) -> Shard:
        """The matrices of a tenant, loaded by the first call.

        Raises:
            EmbedderMismatch: Its vectors were made by another embedder.
            StoreError: The database cannot be read.
        """
        shard = self._shards.get(tenant)
        if shard is not None:
            return shard
        async with self._locks[tenant]:
            return await self._loaded(tenant)

    async def is_empty(self, tenant: str) -> bool:
        """Whether a tenant has no active trajectory."""
        return not (await self.shard(tenant)).trajectories

    async def near(
        self, tenant: str, goal: Vectors, count: int, *, task_id: str | None = None
    ) -> Shard:
        """A shard with at least the active trajectories of a tenant that are nearest by goal.

        Args:
            tenant: Whose.
            goal: The vector that they must be near, shape (dimension,).
            count: How many are needed.
            task_id: Those of this task are not needed.

        Raises:
            EmbedderMismatch: The bank was built with another embedder.
            StoreError: The database cannot be read.
        """
        return await self.shard(tenant)

    async def _active(self, tenant: str, trajectory_id: str) -> Trajectory | None:
        shard = await self.shard(tenant)
        row = shard.rows.get(trajectory_id)
        return None if row is None else shard.trajectories[row]

    async def _loaded(self, tenant: str) -> Shard:
        """The shard of a tenant whose lock is held."""
        if tenant not in self._shards:
            rows = await asyncio.to_thread(self._ledger.active, tenant)
            await self._check_embedder(tenant, [row.goal for row in rows])
            index = await asyncio.to_thread(self._cached_index, tenant, rows)
            cached_rows = index.size
            shard = await self._build(tenant, rows, index)
            if cached_rows < len(rows):
                await asyncio.to_thread(self._save, shard)
            self._shards[tenant] = shard
        return self._shards[tenant]

    async def _build(self, tenant: str, rows: Sequence[Trajectory], index: FaissIndex) -> Shard:
        shard = Shard(tenant, self.embedder.dimension, self.state_key, index)
        vectors, new = await self._vectors(shard_texts(rows, self.state_key))
        if new:
            await asyncio.to_thread(self._ledger.add_vectors, self.embedder.name, new)
        await asyncio.to_thread(shard.extend, rows, vectors)
        return shard

    async def _changed(self, tenant: str, change: Callable[[float], int]) -> int:
        async with self._locks[tenant]:
            count = await asyncio.to_thread(change, self._clock())
            if count:
                self._shards.pop(tenant, None)
        return count

    async def _admit(
        self,
        tenant: str,
        offered: Sequence[Trajectory],
        origins: Mapping[str, Origin],
        cause: str,
    ) -> list[Admission]:
        known = await asyncio.to_thread(self._ledger.known, tenant, [t.id for t in offered])
        outcomes: list[Admission] = []
        added: list[Trajectory] = []
        for trajectory in offered:
            reason = _objection(trajectory)
            stored = known.get(trajectory.id)
            outcome: Literal["added", "quarantined", "duplicate", "rejected"] = "rejected"
            if reason is None and stored is None:
                known[trajectory.id] = trajectory
                added.append(trajectory)
                outcome = "added"
                origin = origins.get(trajectory.id)
                if origin is not None and origin.state != "active":
                    outcome, reason = "quarantined", origin.reason
            elif reason is None and stored == trajectory:
                outcome = "duplicate"
            elif reason is None:
                reason = "another trajectory has this id"
            outcomes.append(Admission(tenant, trajectory.id, outcome, reason))
        if added:
            vectors, new = await self._vectors(shard_texts(added, self.state_key))
            store = partial(self._ledger.add, origins=origins, cause=cause)
            await asyncio.to_thread(store, added, self.embedder.name, new, self._clock())
            shown = [t for t in added if t.id not in origins or origins[t.id].state == "active"]
            # In the order in which the database will give them back.
            shown.sort(key=lambda trajectory: trajectory.id)
            await self._take_in(tenant, shown, vectors)
        return outcomes

    async def _prepare(self, tenant: str) -> None:
        """What must be there before something is stored for a tenant whose lock is held."""
        await self._loaded(tenant)

    async def _take_in(
        self, tenant: str, shown: Sequence[Trajectory], vectors: Mapping[str, Vectors]
    ) -> None:
        """Makes searchable what was stored just now for a tenant whose lock is held."""
        shard = await self._loaded(tenant)
        # On another thread: searches go on, also while a large index is built anew.
        await asyncio.to_thread(shard.extend, shown, vectors)
        if shown and shard.index.size >= _SAVED_GROWTH * self._saved_rows.get(tenant, 0):
            await asyncio.to_thread(self._save, shard)

    async def _vectors(self, texts: Sequence[str]) -> tuple[dict[str, Vectors], dict[str, Vectors]]:
        """The vectors of all texts, and those of them that were computed just now."""
        name, dimension = self.embedder.name, self.embedder.dimension
        stored = await asyncio.to_thread(self._ledger.vectors, name, texts, dimension)
        missing = [text for text in texts if text not in stored]
        if not missing:
            return stored, {}
        new = dict(zip(missing, await self.embedder.embed(missing), strict=True))
        return {**stored, **new}, new

    async def _check_embedder(self, tenant: str, goals: Sequence[str]) -> None:
        name = self.embedder.name
        stored = await asyncio.to_thread(self._ledger.vectors, name, goals, self.embedder.dimension)
        missing = [goal for goal in goals if goal not in stored]
        other = await asyncio.to_thread(self._ledger.other_embedder, name, missing)
        if other is not None:
            raise _mismatch(tenant, other, name)

    def _cached_index(self, tenant: str, rows: Sequence[Trajectory]) -> FaissIndex:
        """An index of the first rows: the cached one where it still holds, else an empty one."""
        folder = self._folder(tenant)
        try:
            manifest = read_manifest(folder)
            if manifest is not None and manifest.embedder != self.embedder.name:
                raise _mismatch(tenant, manifest.embedder, self.embedder.name)
            if manifest is not None and manifest.dimension == self.embedder.dimension:
                indexed = rows[: manifest.rows]
                if manifest.content == order_digest([content_digest(row) for row in indexed]):
                    index = load_index(folder, manifest)
                    self._saved_rows[tenant] = index.size
                    return index
        except IndexDamaged as error:
            logger.warning("%s; the index of tenant %r is built anew", error, tenant)
        return FaissIndex(self.embedder.dimension)

    def _save(self, shard: Shard) -> None:
        assert isinstance(shard.index, FaissIndex)
        folder = self._folder(shard.tenant)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_index(
                folder,
                shard.index,
                embedder=self.embedder.name,
                dimension=self.embedder.dimension,
                content=shard.row_order,
            )
            self._saved_rows[shard.tenant] = shard.index.size
        except OSError as error:
            logger.warning("the index cache %s cannot be written: %s", folder, error)

    def _folder(self, tenant: str) -> Path:
        return self._cache_dir / hashlib.sha256(tenant.encode()).hexdigest()[:32]


def _objection(trajectory: Trajectory) -> str | None:
    if not trajectory.success:
        return "the episode did not succeed"
    if not trajectory.goal.strip():
        return "it has no goal"
    if not imitable_steps(trajectory):
        return "it has no step of a teacher"
    return None


def _mismatch(tenant: str, built: str, configured: str) -> EmbedderMismatch:
    return EmbedderMismatch(
        f"the bank of tenant {tenant!r} was built with embedder {built!r}, but {configured!r} is"
        f" configured: configure {built!r} again, or run `tutelage demos reindex`"
    )
