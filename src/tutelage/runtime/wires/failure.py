"""Errors as a client of any wire is told of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tutelage.runtime.errors import (
    BadRequest,
    ContextTooLong,
    ModelError,
    ModelTimeout,
    PriceUnknown,
    RateLimited,
    TutelageError,
)
from tutelage.runtime.models.failures import without_addresses

Kind = Literal[
    "invalid_request",
    "authentication",
    "permission",
    "not_found",
    "too_large",
    "rate_limit",
    "quota",
    "overloaded",
    "timeout",
    "upstream",
    "internal",
]


@dataclass(frozen=True, slots=True)
class Failure:
    """One error, not yet in the words of a wire."""

    status: int
    """HTTP status for the client."""
    kind: Kind
    message: str
    code: str | None = None
    param: str | None = None
    """The field of the client's body that is wrong."""
    retry_after_s: float | None = None
    body: Mapping[str, Any] | None = None
    """An upstream's own error object."""


def failure_of(error: TutelageError) -> Failure:
    """What a client is told of an error that ended its request."""
    message = str(error)
    if isinstance(error, BadRequest):
        return Failure(400, "invalid_request", message, code=error.code, param=error.param)
    if isinstance(error, PriceUnknown):
        return Failure(400, "invalid_request", message, code="price_unknown", param="model")
    if isinstance(error, ModelError):
        return _of_model(error, error.told or without_addresses(message))
    return Failure(500, "internal", message)


def _of_model(error: ModelError, message: str) -> Failure:
    wait_s = getattr(error, "retry_after_s", None)
    if isinstance(error, RateLimited):
        return Failure(429, "rate_limit", message, retry_after_s=wait_s, body=error.body)
    if isinstance(error, ModelTimeout):
        return Failure(504, "timeout", message, code="upstream_timeout")
    if isinstance(error, ContextTooLong):
        code = "context_length_exceeded"
        return Failure(400, "invalid_request", message, code=code, body=error.body)
    if error.status in (401, 403):
        # Our own key is wrong, not the client's.
        return Failure(502, "upstream", message, code="upstream_refused_our_key")
    if error.status is not None and 400 <= error.status < 500:
        kind: Kind = "not_found" if error.status == 404 else "invalid_request"
        return Failure(error.status, kind, message, body=error.body)
    if error.status in (503, 529):
        return Failure(error.status, "overloaded", message, retry_after_s=wait_s, body=error.body)
    return Failure(502, "upstream", message, code="upstream_failed", body=error.body)
