"""Answers of an endpoint that are failures, as errors of the tree: the one door they pass."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tutelage.runtime.errors import (
    BadResponse,
    ContextTooLong,
    ModelError,
    ModelTimeout,
    RateLimited,
    Refused,
    TutelageError,
    Unreachable,
)

# Wordings of OpenAI, Anthropic, Google, vLLM, SGLang, llama.cpp, Ollama and their proxies.
_TOO_LONG = re.compile(
    r"context[ _-]?(length|window|size)|(prompt|input|messages?)( is| are)? too (long|large)"
    r"|(max(imum)?|model)[ _]model[ _]len|longer than the (maximum )?model|too many (input )?tokens"
    r"|reduce the length|exceeds? the (maximum )?(number of )?(input |prompt )?tokens?",
    re.IGNORECASE,
)
_QUOTED_CHARACTERS = 300
_ADDRESS = re.compile(r"https?://[^\s,;()'\"<>]*[^\s,;()'\"<>:.]")


def error_for(
    endpoint: str,
    status: int,
    body: object,
    *,
    retry_after_s: float | None = None,
) -> ModelError:
    """The error for an answer whose status is not 2xx.

    Args:
        endpoint: What to call the endpoint in the line, usually its base URL.
        status: HTTP status.
        body: The decoded JSON body, or ``None`` if it was none; kept as ``ModelError.body``.
        retry_after_s: What the endpoint asked for, where it did.
    """
    error = error_object(body)
    reason = _reason(error)
    line = f"{endpoint} answered {status}" + (f": {reason}" if reason else "")
    if status == 429:
        return RateLimited(line, status=status, body=error, retry_after_s=retry_after_s)
    if status in (400, 413, 422) and _is_too_long(error, reason):
        return ContextTooLong(line, status=status, body=error)
    if status in (401, 403):
        return Refused(f"{line} (check the API key of this endpoint)", status=status, body=error)
    if status == 404:
        return Refused(
            f"{line} (check base_url and the name of the model)", status=status, body=error
        )
    if 400 <= status < 500:
        return Refused(line, status=status, body=error)
    if 300 <= status < 400:
        return BadResponse(
            f"{line}, a redirect, which is not followed: write the final address into base_url",
            status=status,
            body=error,
        )
    if retry_after_s is not None:
        return _Unavailable(line, status, error, retry_after_s)
    return BadResponse(line, status=status, body=error)


class _Unavailable(BadResponse):
    """A 5xx that says when to come back."""

    def __init__(
        self, message: str, status: int, body: dict[str, Any] | None, retry_after_s: float
    ) -> None:
        super().__init__(message, status=status, body=body)
        self.retry_after_s = retry_after_s


def error_object(body: object) -> dict[str, Any] | None:
    """The error object of a body: the value of ``error`` where there is one, else all of it."""
    if not isinstance(body, Mapping):
        return None
    error = body.get("error", body)
    if isinstance(error, Mapping):
        return dict(error)
    return {"message": str(error)} if isinstance(error, str) else dict(body)


def told_of(error: ModelError, name: str) -> str:
    """What a client is told of a failure: who failed and how, without addresses or advice to us.

    Args:
        error: How the endpoint failed.
        name: What the configuration calls it.
    """
    shown, status = f"upstream {name}", error.status
    if isinstance(error, ModelTimeout | Unreachable):
        return _ADDRESS.sub(lambda _: shown, str(error))
    if status is None:
        broke = isinstance(error, BadResponse)
        what = "broke the connection before it answered" if broke else "cannot be reached"
        return f"{shown} {what}"
    if status in (401, 403):
        # Their words are about our key.
        return f"{shown} answered {status}: it refuses the key of this gateway"
    reason = _reason(error.body)
    return f"{shown} answered {status}" + (f": {reason}" if reason else "")


def without_addresses(text: str) -> str:
    """A line without the URLs in it, for those whom the addresses of endpoints do not concern."""
    return _ADDRESS.sub("the endpoint", text)


def is_transient(error: ModelError) -> bool:
    """Whether the same call may succeed later: 429, 5xx, timeouts, lost or refused connections."""
    if isinstance(error, Refused):
        return False
    if isinstance(error, RateLimited | ModelTimeout) or error.status is None:
        return True
    return error.status >= 500


def log_line(error: Exception) -> str:
    """An error for the log: without an endpoint's own words, which may quote a prompt."""
    name = type(error).__name__
    if isinstance(error, ModelError) and error.body is not None:
        return name if error.status is None else f"{name}, status {error.status}"
    return f"{name}: {error}" if isinstance(error, TutelageError) else name


def _reason(error: Mapping[str, Any] | None) -> str:
    """The endpoint's own words on one line, shortened."""
    message = (error or {}).get("message")
    if not isinstance(message, str):
        return ""
    line = " ".join(message.split())
    return line if len(line) <= _QUOTED_CHARACTERS else f"{line[:_QUOTED_CHARACTERS]}…"


def _is_too_long(error: Mapping[str, Any] | None, reason: str) -> bool:
    code = str((error or {}).get("code") or (error or {}).get("type") or "")
    return bool(_TOO_LONG.search(code.replace("_", " ")) or _TOO_LONG.search(reason))
