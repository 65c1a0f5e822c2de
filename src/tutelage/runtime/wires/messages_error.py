"""Errors as the Anthropic Messages API tells them."""

from __future__ import annotations

from typing import Any

from tutelage.runtime.models.failures import error_object
from tutelage.runtime.wires.failure import Failure, Kind

_TYPES: dict[Kind, str] = {
    "invalid_request": "invalid_request_error",
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "too_large": "request_too_large",
    "rate_limit": "rate_limit_error",
    "quota": "billing_error",
    "overloaded": "overloaded_error",
    "timeout": "timeout_error",
    "upstream": "api_error",
    "internal": "api_error",
}
_THEIRS = frozenset(_TYPES.values())


def messages_error(failure: Failure) -> dict[str, Any]:
    """``{"type": "error", "error": {type, message}}``, in the upstream's words if it sent any."""
    error: dict[str, Any] = {"type": _TYPES[failure.kind], "message": failure.message}
    theirs = error_object(failure.body) or {}
    if isinstance(theirs.get("message"), str):
        error["message"] = theirs["message"]
        if theirs.get("type") in _THEIRS:
            error = {**theirs, **error, "type": theirs["type"]}
    return {"type": "error", "error": error}
