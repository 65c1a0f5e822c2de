"""What the gateway serves with at one time; a reload puts another one in its place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from tutelage.runtime.config import GatewayConfig
from tutelage.runtime.gateway.admission import Admission
from tutelage.runtime.gateway.alias import Aliases
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.gateway.conversations import Conversations
from tutelage.runtime.gateway.episodes import Episodes
from tutelage.runtime.gateway.scribe import Scribe
from tutelage.runtime.gateway.stored_responses import StoredResponses
from tutelage.runtime.gateway.visitors import LocalVisitors
from tutelage.runtime.prompt import CountTokens
from tutelage.runtime.protocols import DriftWatch
from tutelage.runtime.store.traces import SqlTraceStore


class Doorkeeper(Protocol):
    """Tells who calls."""

    async def identify(self, token: str | None) -> Caller:
        """The holder of a key.

        Raises:
            Unauthenticated: There is no such key.
            KeysUnavailable: It cannot be looked up now.
        """
        ...

    async def identify_admin(self, token: str | None) -> object:
        """The holder of an admin key.

        Raises:
            Unauthenticated: There is no such key.
            Forbidden: It is no admin key.
            KeysUnavailable: It cannot be looked up now.
        """
        ...


class StudentReleases(Protocol):
    """Releases of the student, as metrics tell of them."""

    @property
    def serving(self) -> frozenset[str]:
        """Names of those that serve."""
        ...

    @property
    def refused(self) -> frozenset[str]:
        """Names of those that serve by the safe policy, as their own does not hold for them."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that serves requests."""

    settings: GatewayConfig
    aliases: Aliases
    visitors: LocalVisitors | None
    """Who may come without a key; ``None``: a key decides."""
    doorkeeper: Doorkeeper
    admission: Admission
    conversations: Conversations
    episodes: Episodes
    responses: StoredResponses
    traces: SqlTraceStore
    samples: int
    """Student answers that a step may draw, for the estimate of its cost."""
    count_tokens: CountTokens
    clock: Callable[[], float]
    """Unix time, seconds."""
    timer: Callable[[], float]
    """A monotonic clock, seconds."""
    aclose: Callable[[], Awaitable[None]]
    watch: DriftWatch | None = None
    """Hears how episodes end in which the student served."""
    judged: Callable[[str, str], None] | None = None
    """Called with tenant and id of an episode whose outcome was stored; returns at once."""
    releases: StudentReleases | None = None
    """``None``: the student always acts as it is configured."""
    scribe: Scribe | None = None
    """Writes the traces of relayed calls; ``None``: they are written here."""
