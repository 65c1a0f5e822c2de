"""All connections of one worker: how many there may be, and which one goes for another."""

from __future__ import annotations

import logging
from typing import Protocol

logger = logging.getLogger(__name__)

_TOLD_EVERY_S = 60.0
_MOST_REFUSED = 100


class Member(Protocol):
    """A connection."""

    def drop(self) -> None:
        """Ends it; nothing is being answered on it."""
        ...


class Crowd:
    """Counts connections, and knows for how long which of them have been silent.

    Args:
        most: Connections at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._members: set[Member] = set()
        # In the order in which they fell silent.
        self._strangers: dict[Member, None] = {}
        self._idle: dict[Member, None] = {}
        self._refused: set[Member] = set()
        self._told_s = float("-inf")

    def __len__(self) -> int:
        return len(self._members)

    def enter(self, member: Member, now_s: float) -> bool:
        """Lets a connection in, in place of a silent one if need be; whether there is room.

        Those that have asked nothing yet go before those that wait between two requests: a client
        that is served keeps its connections while somebody else only opens some.

        Args:
            member: The connection.
            now_s: On a clock that never goes back.
        """
        if len(self._members) >= self._most:
            oldest = next(iter(self._strangers), None) or next(iter(self._idle), None)
            self._tell(now_s)
            if oldest is None:
                return False
            self.leave(oldest)
            oldest.drop()
        self._members.add(member)
        self._strangers[member] = None
        return True

    def refuse(self, member: Member) -> bool:
        """Whether one that there was no room for may stay until it has read so; ``leave`` it."""
        if len(self._refused) >= _MOST_REFUSED:
            return False
        self._refused.add(member)
        return True

    def asks(self, member: Member) -> None:
        """A request has come: the connection is not silent."""
        self._strangers.pop(member, None)
        self._idle.pop(member, None)

    def rests(self, member: Member) -> None:
        """Its request is answered: it is silent from now on."""
        if member in self._members:
            self._idle[member] = None

    def leave(self, member: Member) -> None:
        """It has ended."""
        self._members.discard(member)
        self._refused.discard(member)
        self.asks(member)

    def _tell(self, now_s: float) -> None:
        if now_s - self._told_s >= _TOLD_EVERY_S:
            self._told_s = now_s
            logger.warning(
                "%d connections are open: for each further one a silent one is closed, or it is "
                "refused; see gateway.limits.connections",
                self._most,
            )
