"""The open episodes of all tenants, the least recent forgotten."""

from __future__ import annotations

from collections import OrderedDict

from tutelage.runtime.episode import Episode, EpisodeServer
from tutelage.runtime.ids import new_id


class Episodes:
    """Remembers, in this process, who served the steps of an episode and what is pinned for it.

    Args:
        server: Keeps the outcomes of episodes.
        capacity: Episodes remembered.
    """

    def __init__(self, server: EpisodeServer, capacity: int = 10_000) -> None:
        self._server = server
        self._capacity = capacity
        self._known: OrderedDict[tuple[str, str], Episode] = OrderedDict()

    def passing(self, tenant: str) -> Episode:
        """An episode that begins, of which nothing has to be remembered: the teacher serves it."""
        return Episode(self._server, id=new_id(), tenant=tenant)

    def episode(self, tenant: str, id: str) -> Episode:
        """The episode of a tenant, opened at its first mention."""
        key = (tenant, id)
        episode = self._known.get(key)
        if episode is None:
            episode = self._known[key] = Episode(self._server, id=id, tenant=tenant)
            if len(self._known) > self._capacity:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return episode
