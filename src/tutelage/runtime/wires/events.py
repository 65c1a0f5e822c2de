"""Server-sent events with JSON in them, read and written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from tutelage.runtime.errors import BadResponse
from tutelage.runtime.models.failures import error_object
from tutelage.runtime.models.sse import Event


def read_event(event: Event) -> dict[str, Any]:
    """The JSON object of an upstream's event.

    Raises:
        BadResponse: It is none.
    """
    try:
        found = orjson.loads(event.data)
    except orjson.JSONDecodeError as error:
        raise BadResponse("the endpoint sent a stream event that is not JSON") from error
    if not isinstance(found, dict):
        raise BadResponse("the endpoint sent a stream event that is not a JSON object")
    return found


def mid_stream_failure(event: Mapping[str, Any]) -> BadResponse:
    """The error that an upstream's error event stands for."""
    error = error_object(event) or {}
    message = error.get("message") or error.get("type") or "no reason given"
    return BadResponse(f"the endpoint failed in mid-stream: {message}", body=error)


def write_event(value: Mapping[str, Any]) -> bytes:
    """An event without a name."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def write_named_event(value: Mapping[str, Any]) -> bytes:
    """An event whose name is the ``type`` of its value."""
    return b"event: " + str(value["type"]).encode() + b"\n" + write_event(value)
