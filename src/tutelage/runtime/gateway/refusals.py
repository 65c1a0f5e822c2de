"""Answers to connections on which no request was read, as bytes."""

from __future__ import annotations

from typing import Final


def _refusal(status: bytes, kind: bytes, message: bytes, code: bytes) -> bytes:
    """An answer in the shapes of both APIs: nothing was read that would say which one is spoken."""
    body = b'{"type":"error","error":{"type":"%b","message":"%b","param":null,"code":"%b"}}'
    told = body % (kind, message, code)
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    return head % (status, len(told)) + b"connection: close\r\n\r\n" + told


FULL: Final = _refusal(
    b"503 Service Unavailable\r\nretry-after: 1",
    b"overloaded_error",
    b"too many connections are open: try again soon",
    b"too_many_connections",
)
HEAD_TOO_LARGE: Final = _refusal(
    b"431 Request Header Fields Too Large",
    b"invalid_request_error",
    b"the headers are too large",
    b"request_too_large",
)
