"""What is asked for when a key is made or rotated, as it comes in from outside."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from tutelage.runtime.gateway.keys import KeyKind, KeyRights

_ONE_LINE = r"^[^\x00-\x1f\x7f]+$"
_LARGEST = 1_000_000_000
_LONGEST_S = 10 * 366 * 86_400.0

Value = TypeVar("Value")

Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_ONE_LINE)]
Limit = Annotated[int, Field(ge=1, le=_LARGEST)]


class Order(BaseModel):
    """Unknown fields and infinite numbers are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class KeyOrder(Order):
    """A key to make; a right that is left out is the maker's own."""

    name: Name
    """What it is for, to be recognised by."""
    kind: KeyKind = "client"
    """``admin``: it opens the administration, and its rights bound those of the keys it makes."""
    tenant: Name | None = None
    """Absent: the maker's own; a key of the administration then serves every tenant."""
    expires_in_s: float | None = Field(None, gt=0, le=_LONGEST_S)
    """Absent: it does not expire."""
    aliases: frozenset[Name] | None = Field(None, min_length=1, max_length=1000)
    """Models it may ask for."""
    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    parallel_requests: Limit | None = None
    budget_usd: float | None = Field(None, ge=0, le=_LARGEST)
    budget_period_s: float | None = Field(None, ge=1, le=_LONGEST_S)
    """Absent: the budget never renews."""
    writer: bool = True
    """Whether demonstrations may be made of what it asks."""

    def rights(self, ceiling: KeyRights) -> KeyRights:
        """The rights asked for; where nothing is said, those of ``ceiling``."""
        period_s = self.budget_period_s
        if self.budget_usd is None and period_s is None:
            period_s = ceiling.budget_period_s
        return KeyRights(
            aliases=_first(self.aliases, ceiling.aliases),
            requests_per_minute=_first(self.requests_per_minute, ceiling.requests_per_minute),
            tokens_per_minute=_first(self.tokens_per_minute, ceiling.tokens_per_minute),
            parallel_requests=_first(self.parallel_requests, ceiling.parallel_requests),
            budget_usd=_first(self.budget_usd, ceiling.budget_usd),
            budget_period_s=period_s,
            writer=self.writer and (ceiling.writer or "writer" in self.model_fields_set),
        )


class RotationOrder(Order):
    """A new text for a key."""

    overlap_s: float = Field(3600.0, ge=0, le=30 * 86_400.0)
    """How long the old text still opens it."""


def _first(own: Value | None, inherited: Value | None) -> Value | None:
    return inherited if own is None else own
