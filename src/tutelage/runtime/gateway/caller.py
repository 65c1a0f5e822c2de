"""Who calls, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a virtual key."""

    tenant: str
    key_id: str
    """Names the key in logs and traces; opens nothing."""
    aliases: frozenset[str] | None = None
    """Models the key may ask for; ``None``: all."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel_requests: int | None = None
    budget_usd: float | None = None
    """What may be spent in one period."""
    budget_period_s: float | None = None
    """Length of a period, from the key's creation on; ``None``: the budget never renews."""

    writer: bool = True
    """Whether demonstrations may be made of what the key asks."""
    is_limited: bool = field(init=False)
    """Whether requests have to be counted before they are served."""

    def __post_init__(self) -> None:
        if not self.tenant or not self.key_id:
            raise ValueError("a caller without a tenant or a key")
        limits = (
            self.requests_per_minute,
            self.tokens_per_minute,
            self.parallel_requests,
            self.budget_usd,
        )
        limited = any(limit is not None for limit in limits)
        object.__setattr__(self, "is_limited", limited)
