"""Episodes of clients that name none."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from tutelage.runtime.episode import Episode
from tutelage.runtime.steps import conversation_id
from tutelage.runtime.types import ChatRequest

REMEMBERED_EPISODES = 10_000
"""Up to this many are remembered, the least recent forgotten."""


class RememberedEpisodes:
    """Recognises the conversation of a request by its opening messages.

    Args:
        open_episode: Opens an episode with an id.
        tenant: Whose they are.
    """

    def __init__(self, open_episode: Callable[[str], Episode], tenant: str) -> None:
        self._open_episode = open_episode
        self._tenant = tenant
        self._episodes: OrderedDict[str, Episode] = OrderedDict()

    def of(self, request: ChatRequest) -> Episode:
        """The episode that a request belongs to; a new one for an opening not seen before."""
        key = conversation_id(request, tenant=self._tenant)
        episode = self._episodes.get(key)
        if episode is None:
            episode = self._episodes[key] = self._open_episode(key)
            if len(self._episodes) > REMEMBERED_EPISODES:
                self._episodes.popitem(last=False)
        self._episodes.move_to_end(key)
        return episode
