"""An upstream that repeats, wherever it can, all that it was told: keys, headers and prompts."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self

from tests.upstream_answers import Said, answer_on, sse

KINDS = (
    "text", "300", "400", "401", "403", "404", "413", "422", "429", "500", "503", "html",
    "error-in-200", "error-event", "split-event", "malformed", "odd-event", "cut", "empty", "list",
)  # fmt: skip


class Parrot:
    """Serves ``/v1`` while its context is open.

    Attributes:
        kind: One of ``KINDS``: how it answers.
        heard: What came, as bytes, one a request.
    """

    def __init__(self, kind: str = "text") -> None:
        self.kind = kind
        self.heard: list[bytes] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *raised: Any) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            raw = await reader.readexactly(int(headers.get("content-length", 0)))
            self.heard.append(head + raw)
            path = lines[0].split(" ")[1].partition("?")[0].removeprefix("/v1")
            content = self._answer(path, lines, raw)
            cut = content.rfind(b"sk-") + 12
            if self.kind == "split-event":
                # In the middle of a key, so that it is whole only when the event is.
                writer.write(content[:cut])
                await writer.drain()
                await asyncio.sleep(0.02)
                content = content[cut:]
            writer.write(content)
            await writer.drain()
            if self.kind == "cut":
                # What was written is sent, then the rest never comes.
                await asyncio.sleep(0.01)
                writer.transport.abort()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, path: str, lines: list[str], raw: bytes) -> bytes:
        body = json.loads(raw)
        keys = [line for line in lines if line.lower().startswith(("authorization", "x-api-key"))]
        said = " | ".join([*lines[1:-2], raw.decode()])
        error = {"message": said, "type": said[:80], "param": said, "code": said}
        content, kind, status = b"", "application/json", 200
        if self.kind.isdigit():
            status = int(self.kind)
            content = json.dumps({"type": "error", "error": error, "heard": said}).encode()
        elif self.kind == "html":
            status, kind = 502, "text/html"
            content = f"<html>{said}</html>".encode()
        elif self.kind == "error-in-200":
            content = json.dumps({"type": "error", "error": error}).encode()
        elif self.kind == "list":
            content = json.dumps([said]).encode()
        elif body.get("stream"):
            content, kind = self._events(path, body, said), "text/event-stream"
        else:
            answer = answer_on(path, body, Said(said)).body
            for name in ("choices", "output", "content") if self.kind == "empty" else ():
                if name in answer:
                    answer[name] = []
            content = json.dumps(answer).encode()
            if self.kind in ("malformed", "odd-event"):
                content = said.encode() + content
        cut = len(content) // 2 if self.kind == "cut" else len(content)
        head = [
            f"HTTP/1.1 {status} {said[:20]}",
            f"content-type: {kind}",
            f"content-length: {len(content)}",
            "retry-after: 1",
            "connection: close",
            *(f"x-request-id: {key}" for key in keys),
            *(f"x-ratelimit-{index}: {line}" for index, line in enumerate(lines[1:-2])),
            *(f"set-cookie: {key}" for key in keys),
            *(f"x-tutelage-served: {key}" for key in keys),
        ]
        return "\r\n".join([*head, "", ""]).encode() + content[:cut]

    def _events(self, path: str, body: dict[str, Any], said: str) -> bytes:
        # A key that a model says in deltas of its own is text like any other.
        said_aloud = " | ".join(part for part in said.split(" | ") if "sk-" not in part)
        events = answer_on(path, body, Said(said_aloud)).events
        comment = f": {said}\n\n".encode()
        events.insert(1, comment)
        half = len(events) // 2
        if self.kind in ("error-event", "split-event"):
            error = {"type": "overloaded_error", "message": said, "code": said}
            named = {"type": "error", **({"error": error} if path == "/messages" else error)}
            odd = sse({"error": error}) if path == "/chat/completions" else sse(named, "error")
            events = [*events[:half], odd]
        elif self.kind == "malformed":
            events.insert(half, f'data: {{"{said}\n\n'.encode())
        elif self.kind == "odd-event":
            events.insert(half, sse([said], None))  # type: ignore[arg-type]
        elif self.kind == "empty":
            events = []
        return b"".join(events)
