"""How one request to the gateway ended, for metrics, spans and the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tutelage.runtime.types import Mode, Trace

End = Literal["ok", "client_error", "upstream_error", "cancelled", "refused", "internal_error"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known when a request has ended; times are Unix or wall seconds."""

    route: str
    """The name of the route, such as ``chat`` or ``embeddings``; never a client's text."""
    end: End
    """``refused``: no key, a limit or a budget."""
    status: int
    """HTTP status; that of the first byte for a stream that broke off."""
    started_at_s: float
    duration_s: float
    mode: Mode | None = None
    alias: str | None = None
    """The model that the client asked for, as configured; ``*`` for any other name."""
    streamed: bool = False
    first_chunk_s: float | None = None
    """From the start until the first event that is no ping."""
    upstream_s: float = 0.0
    """Time spent waiting for a student or teacher."""
    tenant: str | None = None
    key_id: str | None = None
    trace: Trace | None = None

    @property
    def overhead_s(self) -> float:
        """What we added: the whole duration without the waits for upstreams."""
        return max(0.0, self.duration_s - self.upstream_s)
