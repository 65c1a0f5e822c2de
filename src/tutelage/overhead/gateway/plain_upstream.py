"""The scripted upstream without a compiler: an asyncio protocol, run as a program.

Takes the arguments of ``upstream.c`` and answers the same bytes.
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any, cast

import httptools

from tutelage.overhead.gateway.answers import MOST_CHOICES

_N = re.compile(rb'"n":\s*(\d+)')
_STREAM = re.compile(rb'"stream": ?true')
_STATUS = {200: b"200 OK", 404: b"404 Not Found", 500: b"500 Internal Server Error"}


class Script:
    """The answers of a folder, and which call fails.

    Args:
        folder: As ``write_answers`` leaves it.
        fail_every: Every so many calls one fails; 0 for none.
    """

    def __init__(self, folder: Path, fail_every: int) -> None:
        self._fail_every = fail_every
        self._calls = 0
        self._chat = [_whole(folder / f"chat-{n}.json") for n in range(1, MOST_CHOICES + 1)]
        self._message = _whole(folder / "message.json")
        self._models = _whole(folder / "models.json")
        self._failure = _whole(folder / "failure.json", 500)
        self._missing = _whole(folder / "missing.json", 404)
        self._chat_stream = _streamed(folder / "chat.sse")
        self._message_stream = _streamed(folder / "message.sse")

    def answer(self, method: bytes, path: bytes, body: bytes) -> list[bytes]:
        """The writes that answer one call."""
        if method == b"GET":
            return self._models if b"/models" in path else self._missing
        is_chat = b"/chat/completions" in path
        if not is_chat and b"/messages" not in path:
            return self._missing
        self._calls += 1
        if self._fail_every and self._calls % self._fail_every == 0:
            return self._failure
        if _STREAM.search(body):
            return self._chat_stream if is_chat else self._message_stream
        found = _N.search(body)
        n = int(found[1]) if found else 1
        return self._chat[n - 1 if 1 <= n <= MOST_CHOICES else 0] if is_chat else self._message


class Connection(asyncio.Protocol):
    """One client's connection.

    Args:
        script: What is answered.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._parser: Any = httptools.HttpRequestParser(self)
        self._path, self._body = b"", b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._path, self._body = b"", b""

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self._path += url

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body += body

    def on_message_complete(self) -> None:
        """Called by the parser."""
        for piece in self._script.answer(self._parser.get_method(), self._path, self._body):
            self._transport.write(piece)


def _whole(path: Path, status: int = 200) -> list[bytes]:
    body = path.read_bytes()
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return [head % (_STATUS[status], len(body)) + body]


def _streamed(path: Path) -> list[bytes]:
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    chunks = [b"%x\r\n%s\r\n" % (len(one), one) for one in path.read_bytes().split(b"\0")]
    return [head, *chunks[:-1], chunks[-1] + b"0\r\n\r\n"]


async def serve(folder: Path, fail_every: int) -> None:
    """Serves until it is killed."""
    script = Script(folder, fail_every)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(script), "127.0.0.1", 0, backlog=4096)
    print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
