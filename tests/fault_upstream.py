"""A model endpoint on the loopback interface that goes wrong on request.

It is steered by the header ``x-fault`` or by a ``model`` that begins with ``fault:``, which passes
through a gateway that builds its headers anew. Both take ``<kind>[;<option>=<value>]...``:

=============== ==================================================================================
``text``        a text (what anything else gets); ``say=...``
``tools``       a call of the first tool offered; ``count=2`` calls
``echo``        the text of the last message
``slow``        a text after ``delay-ms=...``
``<status>``    an error, e.g. ``429;retry-after=7``; 502 is an HTML page, 307 a redirect
``truncated``   200 and half of the JSON
``empty``       200 without choices, output or content
``list``        200 and a JSON list
``wrong-type``  200 and an HTML page
``cut``         breaks the connection in mid-answer
``malformed``   a stream event, or an answer, that is no JSON
``error-event`` the wire's error event in mid-stream
``no-end``      a stream without its last event
``unmetered``   an answer that does not tell its usage
``hang``        never answers
``hang-body``   falls silent in mid-answer
``dribble``     an answer in pieces of ``size=8`` bytes, ``delay-ms=2`` apart
``reset``       resets the connection before it answers
=============== ==================================================================================

``times=2``: to the first two such requests only; ``at=0``: before the event of that number.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

if __name__ == "__main__":
    sys.path.insert(0, str(__import__("pathlib").Path(__file__).resolve().parents[1]))

from tests.upstream_answers import (
    ERROR_TYPES,
    HTML,
    Answer,
    Said,
    answer_on,
    embeddings,
    error_event,
    first_tool,
    last_text,
    model_list,
    unmetered,
)


@dataclass
class Received:
    """One request, and what became of it."""

    method: str
    path: str
    """Below ``/v1``, without the query."""
    query: str
    headers: dict[str, str]
    """Names in lower case."""
    raw: bytes
    connection: int
    """Requests with the same number came over one connection."""
    arrived_s: float
    ended: bool = False
    """Whether we ended the answer, whole or not."""
    disconnected_s: float | None = None
    """When the client hung up before that, on the clock of ``arrived_s``."""
    body: Any = None

    @property
    def model(self) -> str:
        return str(self.body.get("model", "")) if isinstance(self.body, dict) else ""

    @property
    def stream(self) -> bool:
        return isinstance(self.body, dict) and bool(self.body.get("stream"))


@dataclass(frozen=True)
class Fault:
    """What is asked for."""

    kind: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Fault:
        kind, *options = text.split(";")
        return cls(kind, dict(option.split("=", 1) for option in options))

    def number(self, name: str, default: float) -> float:
        return float(self.options.get(name, default))


class FaultUpstream:
    """Serves ``/v1`` while its context is open; made for one event loop.

    Args:
        say: The text of an ordinary answer, or how it is made from the body.
        port: 0: any free one.
    """

    def __init__(
        self, say: str | Callable[[Mapping[str, Any]], str] = "go to desk 1", port: int = 0
    ) -> None:
        self.say = say
        self.requests: list[Received] = []
        self.connections = 0
        self._port = port
        self._seen: Counter[str] = Counter()
        self._open: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Condition()

    @property
    def base_url(self) -> str:
        assert self._server is not None, "the upstream is not open"
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    @property
    def last(self) -> Received:
        return self.requests[-1]

    def calls(self, model: str | None = None) -> int:
        """How many requests came, of one model or in all."""
        return sum(model is None or one.model == model for one in self.requests)

    async def arrived(self, count: int = 1, within_s: float = 5.0) -> None:
        """Returns when ``count`` requests have come; raises ``TimeoutError``."""
        await self._until(lambda: len(self.requests) >= count, within_s)

    async def disconnected(self, count: int = 1, within_s: float = 1.0) -> None:
        """Returns when ``count`` clients have left unanswered; raises ``TimeoutError``."""

        def enough() -> bool:
            return sum(one.disconnected_s is not None for one in self.requests) >= count

        await self._until(enough, within_s)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self._port, backlog=1024
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [connection.end() for connection in list(self._open)]
        await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)
        await self._server.wait_closed()

    def fault_for(self, request: Received) -> Fault:
        """What the request asks for, counted against its ``times``."""
        text = request.headers.get("x-fault")
        if text is None and request.model.startswith("fault:"):
            text = request.model.removeprefix("fault:")
        if text is None:
            return Fault("text")
        fault = Fault.read(text)
        self._seen[text] += 1
        if self._seen[text] > fault.number("times", float("inf")):
            return Fault("text")
        return fault

    def said(self, request: Received, fault: Fault) -> Said:
        body = request.body
        if fault.kind == "tools":
            count = int(fault.number("count", 1))
            arguments = json.dumps({"where": "desk 1", "how": "quietly"})
            name = first_tool(body)
            return Said(calls=tuple((f"call_{i}", name, arguments) for i in range(count)))
        if fault.kind == "echo":
            return Said(last_text(body))
        told = fault.options.get("say") or (self.say(body) if callable(self.say) else self.say)
        return Said(told)

    async def half_way(self) -> None:
        """Awaited before the second half of every answer."""

    async def note(self) -> None:
        """Wakes whoever waits for a request or for a client's leaving."""
        async with self._changed:
            self._changed.notify_all()

    async def _until(self, condition: Callable[[], bool], within_s: float) -> None:
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(condition)


class _Connection(asyncio.Protocol):
    """One client; requests follow one another."""

    def __init__(self, upstream: FaultUpstream) -> None:
        self._upstream = upstream
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None
        self._request: Received | None = None
        self._number = 0
        self._transport: Any = None
        self._notes: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._upstream.connections += 1
        self._number = self._upstream.connections
        self._upstream._open.add(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._serve_next()

    def connection_lost(self, error: Exception | None) -> None:
        self._upstream._open.discard(self)
        if self._request is not None and not self._request.ended:
            self._request.disconnected_s = time.monotonic()
            self._note()
        if self._task is not None:
            self._task.cancel()

    def end(self) -> asyncio.Task[None] | None:
        """Ends the connection and what is being answered over it."""
        self._transport.abort()
        if self._task is not None:
            self._task.cancel()
        return self._task

    def _serve_next(self) -> None:
        if self._task is not None and not self._task.done():
            return
        request, self._buffer = _read_request(self._buffer, self._number)
        if request is None:
            return
        self._request = request
        self._upstream.requests.append(request)
        self._note()
        self._task = asyncio.get_running_loop().create_task(self._serve(request))
        self._task.add_done_callback(self._after)

    def _after(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.result()
        self._serve_next()

    def _note(self) -> None:
        task = asyncio.get_running_loop().create_task(self._upstream.note())
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _serve(self, request: Received) -> None:
        fault = self._upstream.fault_for(request)
        if fault.kind == "reset":
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
            request.ended = True
            self._transport.abort()
        elif fault.kind == "hang":
            await asyncio.Event().wait()
        elif fault.kind.isdigit():
            self._refuse(request, int(fault.kind), fault)
        else:
            await self._answer(request, fault)

    def _refuse(self, request: Received, status: int, fault: Fault) -> None:
        told = fault.options.get("say", f"the upstream says {status}")
        headers = {"x-request-id": "req_up"}
        if "retry-after" in fault.options:
            headers["retry-after"] = fault.options["retry-after"]
        if status == 502:
            self._whole(request, status, HTML, "text/html", headers)
        elif status == 307:
            self._whole(request, status, b"", "text/plain", {"location": "/v1/elsewhere"})
        else:
            kind = ERROR_TYPES.get(
                status, "api_error" if status >= 500 else "invalid_request_error"
            )
            body: dict[str, Any] = {
                "message": told, "type": kind, "param": None, "code": fault.options.get("code"),
            }  # fmt: skip
            if request.path.startswith("/messages"):
                body = {"type": "error", "error": {"type": kind, "message": told}}
            else:
                body = {"error": body}
            self._whole(request, status, json.dumps(body).encode(), headers=headers)

    async def _answer(self, request: Received, fault: Fault) -> None:
        if fault.kind == "slow":
            await asyncio.sleep(fault.number("delay-ms", 50) / 1000)
        if fault.kind == "wrong-type":
            self._whole(request, 200, HTML, "text/html")
            return
        if fault.kind == "list":
            self._whole(request, 200, b"[]")
            return
        try:
            answer = self._proper_answer(request, fault)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            self._refuse(request, 400, Fault("400"))
            return
        if answer is None:
            self._refuse(request, 404, Fault("404"))
            return
        if fault.kind == "empty":
            for name in ("choices", "output", "content", "data"):
                if name in answer.body:
                    answer.body[name] = []
            answer.events[:] = []
        if fault.kind == "unmetered":
            answer = unmetered(answer)
        content = json.dumps(answer.body).encode()
        if request.stream:
            pieces, half = list(answer.events), len(answer.events) // 2
        else:
            pieces, half = [content[: len(content) // 2], content[len(content) // 2 :]], 1
        if fault.kind in ("truncated", "malformed") and not request.stream:
            self._whole(request, 200, pieces[0])
            return
        if request.stream:
            half = int(fault.number("at", half))
        if fault.kind == "malformed":
            pieces.insert(half, b'data: {"choices": [{"delta"\n\n')
        if fault.kind == "error-event":
            pieces.insert(half, error_event(request.path))
            del pieces[half + 1 :]
        if fault.kind in ("no-end", "truncated"):
            pieces.pop()
        self._head(request, content)
        if fault.kind == "dribble":
            pieces = _cut_up(b"".join(pieces), int(fault.number("size", 8)))
        for index, piece in enumerate(pieces):
            if index == half:
                await self._upstream.half_way()
            if index == half and fault.kind == "cut":
                request.ended = True
                self._transport.abort()
                return
            if index == half and fault.kind == "hang-body":
                await asyncio.Event().wait()
            self._piece(request, piece)
            if fault.kind == "dribble":
                await asyncio.sleep(fault.number("delay-ms", 2) / 1000)
        request.ended = True
        if request.stream:
            self._transport.write(b"0\r\n\r\n")

    def _proper_answer(self, request: Received, fault: Fault) -> Answer | None:
        if request.method == "GET" and request.path == "/models":
            return Answer(model_list(("small", "large")), [])
        if request.method != "POST" or not isinstance(request.body, dict):
            return None
        if request.path == "/embeddings":
            return Answer(embeddings(request.body), [])
        if request.path == "/messages/count_tokens":
            return Answer({"input_tokens": 12}, [])
        if request.path not in ("/chat/completions", "/completions", "/responses", "/messages"):
            return None
        return answer_on(request.path, request.body, self._upstream.said(request, fault))

    def _head(self, request: Received, content: bytes) -> None:
        if request.stream:
            length, kind = "transfer-encoding: chunked", "text/event-stream"
        else:
            length, kind = f"content-length: {len(content)}", "application/json"
        head = (
            f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{length}\r\nx-request-id: req_up\r\n\r\n"
        )
        self._transport.write(head.encode())

    def _piece(self, request: Received, piece: bytes) -> None:
        if not request.stream:
            self._transport.write(piece)
        elif piece:
            self._transport.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")

    def _whole(
        self,
        request: Received,
        status: int,
        content: bytes,
        kind: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        lines = [f"HTTP/1.1 {status} Told", f"content-type: {kind}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        lines += [f"content-length: {len(content)}", "", ""]
        request.ended = True
        self._transport.write("\r\n".join(lines).encode() + content)


def _read_request(buffer: bytes, connection: int) -> tuple[Received | None, bytes]:
    """The first complete request in a buffer, and what follows it."""
    head, separator, rest = buffer.partition(b"\r\n\r\n")
    if not separator:
        return None, buffer
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = int(headers.get("content-length", 0))
    if len(rest) < length:
        return None, buffer
    raw, parts = rest[:length], urlsplit(target)
    request = Received(
        method, parts.path.removeprefix("/v1"), parts.query, headers, raw, connection,
        time.monotonic(),
    )  # fmt: skip
    try:
        request.body = json.loads(raw) if raw else None
    except ValueError:
        request.body = None
    return request, rest[length:]


def _cut_up(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


class ThreadedUpstream:
    """The upstream as a thread of its own sees it: for tests without an event loop."""

    def __init__(self, upstream: FaultUpstream, loop: asyncio.AbstractEventLoop) -> None:
        self._upstream = upstream
        self._loop = loop
        self.base_url = upstream.base_url

    @property
    def requests(self) -> list[Received]:
        return list(self._upstream.requests)

    def calls(self, model: str | None = None) -> int:
        return self._upstream.calls(model)

    def arrived(self, count: int = 1, within_s: float = 5.0) -> None:
        self._run(self._upstream.arrived(count, within_s))

    def disconnected(self, count: int = 1, within_s: float = 1.0) -> None:
        self._run(self._upstream.disconnected(count, within_s))

    def _run(self, waiting: Any) -> None:
        asyncio.run_coroutine_threadsafe(waiting, self._loop).result()


@contextmanager
def threaded_upstream(say: str = "go to desk 1") -> Iterator[ThreadedUpstream]:
    """An upstream in a thread."""
    ready, stop = threading.Event(), asyncio.Event()
    opened: list[ThreadedUpstream] = []

    async def serve() -> None:
        async with FaultUpstream(say) as upstream:
            opened.append(ThreadedUpstream(upstream, asyncio.get_running_loop()))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    try:
        yield opened[0]
    finally:
        opened[0]._loop.call_soon_threadsafe(stop.set)
        thread.join()


async def _serve_forever(port: int) -> None:
    async with FaultUpstream(port=port) as upstream:
        print(upstream.base_url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serves a model endpoint with faults.")
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(_serve_forever(parser.parse_args().port))
