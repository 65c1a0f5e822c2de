"""Bytes over a socket, for what no proper client would send."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit


async def send_raw(base_url: str, request: bytes, *, within_s: float = 10.0) -> bytes:
    """What a server answers until it closes the connection; ask it to, or send no proper HTTP."""
    parts = urlsplit(base_url)
    assert parts.hostname is not None
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(request)
        async with asyncio.timeout(within_s):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def request(
    method: bytes,
    target: bytes,
    headers: list[bytes],
    body: Any = None,
    *,
    host: bytes = b"localhost",
) -> bytes:
    """A request as bytes, after which the server closes."""
    raw = b"" if body is None else json.dumps(body).encode()
    lines = [
        method + b" " + target + b" HTTP/1.1",
        b"host: " + host,
        b"connection: close",
        *headers,
    ]
    if raw:
        lines += [b"content-type: application/json", b"content-length: %d" % len(raw)]
    return b"\r\n".join([*lines, b"", b""]) + raw


def statuses(answer: bytes) -> list[int]:
    """The statuses of all answers in what came over a connection."""
    found = answer.split(b"HTTP/1.1 ")[1:]
    return [int(one[:3]) for one in found]
