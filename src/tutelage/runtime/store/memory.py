"""Traces and episodes in memory, for tests and for a runtime without a database."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from tutelage.runtime.store.writer import Counters
from tutelage.runtime.types import EpisodeRecord, Served, Trace

_OUTCOME_FIELDS = ("goal", "task_id", "success", "reward", "comment")


class MemoryTraceStore:
    """The newest traces and episodes of this process; reads as ``SqlTraceStore`` does.

    Args:
        capacity: Traces, and episodes, that are kept; the oldest are forgotten first.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._traces: OrderedDict[tuple[str, str], Trace] = OrderedDict()
        self._episodes: OrderedDict[tuple[str, str], EpisodeRecord] = OrderedDict()
        self._stored = 0

    @property
    def counters(self) -> Counters:
        """Records stored since the start; nothing is spooled, nothing fails."""
        return Counters(stored=self._stored, spooled=0, failed=0)

    async def append(self, trace: Trace) -> None:
        """Keeps a trace; a second append of the same id does nothing."""
        self._traces.setdefault((trace.tenant, trace.id), trace)
        self._stored += 1
        _forget_oldest(self._traces, self._capacity)

    async def record_episode(self, episode: EpisodeRecord) -> None:
        """Creates the episode, or updates the fields that are not ``None``."""
        key = (episode.tenant, episode.id)
        known = self._episodes.get(key)
        if known is not None:
            given = {name: getattr(episode, name) for name in _OUTCOME_FIELDS}
            changes = {name: value for name, value in given.items() if value is not None}
            episode = known.model_copy(update=changes)
        self._episodes[key] = episode
        self._stored += 1
        _forget_oldest(self._episodes, self._capacity)

    async def trace(self, tenant: str, id: str) -> Trace | None:
        """One trace of a tenant, or ``None``."""
        return self._traces.get((tenant, id))

    async def traces(
        self,
        tenant: str,
        *,
        episode_id: str | None = None,
        served: Served | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> list[Trace]:
        """Traces of a tenant by time, then step."""
        found = [
            trace
            for trace in self._traces.values()
            if trace.tenant == tenant
            and episode_id in (None, trace.episode_id)
            and served in (None, trace.decision.served)
        ]
        found.sort(key=lambda t: (t.created_at_s, t.step_index, t.id), reverse=newest_first)
        return found[:limit]

    async def episode(self, tenant: str, id: str) -> EpisodeRecord | None:
        """One episode of a tenant, or ``None``."""
        return self._episodes.get((tenant, id))

    async def episodes(
        self,
        tenant: str,
        *,
        success: bool | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> list[EpisodeRecord]:
        """Episodes of a tenant by time; ``success=None`` gives all, also those without outcome."""
        found = [
            episode
            for episode in self._episodes.values()
            if episode.tenant == tenant and success in (None, episode.success)
        ]
        found.sort(key=lambda e: (e.created_at_s, e.id), reverse=newest_first)
        return found[:limit]


def _forget_oldest(kept: OrderedDict[tuple[str, str], Any], capacity: int) -> None:
    while len(kept) > capacity:
        kept.popitem(last=False)
