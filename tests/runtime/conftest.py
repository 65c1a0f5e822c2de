"""A scripted OpenAI-like endpoint on a free port of the loopback interface, in its own thread."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from tutelage.cascade.agreement import Unanimous
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.paper import Paper
from tutelage.runtime.client import ClientModel, wrap_client
from tutelage.runtime.ledger import Ledger
from tutelage.runtime.pipeline import Runtime
from tutelage.runtime.pricing import Price
from tutelage.runtime.store.memory import MemoryTraceStore
from tutelage.runtime.types import EpisodeRecord, Trace

MESSAGES: Any = [
    {"role": "system", "content": "Act."},
    {"role": "user", "content": "Task: tidy.\nA room."},
]
LEDGER = Ledger({"teacher": Price(input=10, output=20), "student": Price(1, 2)})

COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "upstream-model",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "go to desk 1"},
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 4},
    },
}


def error_body(message: str, code: str | None = None) -> dict[str, Any]:
    return {
        "error": {
            "message": message,
            "type": "invalid_request_error",
            "param": None,
            "code": code,
        }
    }


def chunk(content: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "upstream-model",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }


def sse(*chunks: dict[str, Any], done: bool = True) -> list[bytes]:
    lines = [b"data: " + json.dumps(one).encode() + b"\n\n" for one in chunks]
    return [*lines, b"data: [DONE]\n\n"] if done else lines


@dataclass(frozen=True)
class Reply:
    """What the endpoint does with one request."""

    status: int = 200
    body: bytes | dict[str, Any] = field(default_factory=lambda: COMPLETION)
    headers: dict[str, str] = field(default_factory=dict)
    stream: list[bytes] | None = None
    """Pieces of an event stream; takes the place of the body."""
    hang: str | None = None
    """``before`` the answer, or in the ``middle`` of it, until the client goes away."""
    cut: bool = False
    """Breaks the connection off where the answer would end."""


@dataclass(frozen=True)
class Seen:
    """One request that arrived."""

    headers: Mapping[str, str]
    body: dict[str, Any]
    path: str
    query: str


class Upstream:
    """Replies as scripted, one reply a request, and with a completion after the last of them."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.ports: set[int] = set()
        """Ports of the clients' ends of the connections."""
        self.arrived = threading.Event()
        self.disconnected = threading.Event()
        self.base_url = ""
        self.replies: deque[Reply] = deque()

    completion = COMPLETION
    error = staticmethod(error_body)
    chunk = staticmethod(chunk)
    sse = staticmethod(sse)

    def will(self, *, times: int = 1, **reply: Any) -> None:
        """Scripts the reply to the next request, or to the next few."""
        self.replies.extend([Reply(**reply)] * times)

    @property
    def last(self) -> dict[str, Any]:
        return self.seen[-1].body

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else {}
        if request.transport is not None:
            self.ports.add(request.transport.get_extra_info("peername")[1])
        self.seen.append(Seen(request.headers, body, request.path, request.query_string))
        reply = self.replies.popleft() if self.replies else self.default(body)
        self.arrived.set()
        try:
            return await self.reply(request, reply)
        except (asyncio.CancelledError, ConnectionError):
            self.disconnected.set()
            raise

    def default(self, body: dict[str, Any]) -> Reply:
        """The answer of a well-behaved endpoint: ``n`` choices, streamed if that is asked for."""
        if body.get("stream"):
            pieces = [chunk("go to "), chunk("desk 1"), chunk(finish="stop")]
            if (body.get("stream_options") or {}).get("include_usage"):
                pieces.append(chunk(choices=[], usage=COMPLETION["usage"]))
            return Reply(stream=sse(*pieces))
        choice = dict(COMPLETION["choices"][0])
        if "nonce" in body:
            choice["message"] = {"role": "assistant", "content": body["nonce"]}
        choices = [{**choice, "index": index} for index in range(body.get("n") or 1)]
        return Reply(body={**COMPLETION, "choices": choices})

    async def reply(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        if reply.hang == "before":
            await asyncio.Event().wait()
        raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        if reply.stream is None and not reply.cut and reply.hang is None:
            headers = {"Content-Type": "application/json", **reply.headers}
            return web.Response(status=reply.status, body=raw, headers=headers)
        kind = "application/json" if reply.stream is None else "text/event-stream"
        response = web.StreamResponse(status=reply.status, headers={"Content-Type": kind})
        await response.prepare(request)
        for piece in [raw[: len(raw) // 2]] if reply.stream is None else reply.stream:
            await response.write(piece)
        if reply.hang == "middle":
            await asyncio.Event().wait()
        if reply.cut and request.transport is not None:
            request.transport.close()
        return response


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    endpoint = Upstream()
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", endpoint.handle)
        app.router.add_route("*", "/v1/{rest:.*}", endpoint.handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        started.set()
        await stop.wait()
        await runner.cleanup()

    def run() -> None:
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(10)
    yield endpoint
    loop.call_soon_threadsafe(stop.set)
    thread.join()


@pytest.fixture
def plain(upstream: Any) -> Iterator[Any]:
    import openai

    # Without verification no certificates are loaded, which takes longer than all the rest.
    with openai.OpenAI(
        base_url=upstream.base_url,
        api_key="sk-a-key",
        max_retries=0,
        http_client=openai.DefaultHttpxClient(verify=False),
    ) as client:
        yield client


@pytest.fixture
async def plain_async(upstream: Any) -> AsyncIterator[Any]:
    import openai

    async with openai.AsyncOpenAI(
        base_url=upstream.base_url,
        api_key="sk-a-key",
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(verify=False),
    ) as client:
        yield client


class Kept(MemoryTraceStore):
    """Shows what was stored, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.traces_in_order: list[Trace] = []
        self.episodes_in_order: list[EpisodeRecord] = []

    async def append(self, trace: Trace) -> None:
        self.traces_in_order.append(trace)
        await super().append(trace)

    async def record_episode(self, episode: EpisodeRecord) -> None:
        self.episodes_in_order.append(episode)
        await super().record_episode(episode)


class ClosableRuntime(Runtime):
    """Remembers what it stored, and that it was closed."""

    closed = 0
    kept: Kept

    async def aclose(self) -> None:
        self.closed += 1


def runtime_of(teacher: Any, **parts: Any) -> ClosableRuntime:
    made: dict[str, Any] = {
        "teacher": teacher,
        "agreement": Unanimous(TextCanonicalizer()),
        "policy": Paper(),
        "traces": Kept(),
        "ledger": LEDGER,
        "count_tokens": lambda text: len(text.split()),
        **parts,
    }
    runtime = ClosableRuntime(**made)
    runtime.kept = made["traces"]
    return runtime


@pytest.fixture(name="runtime_of")
def runtime_maker() -> Callable[..., ClosableRuntime]:
    """Makes runtimes of a teacher, and of other parts where they are given."""
    return runtime_of


@pytest.fixture
def client(plain: Any) -> Iterator[Any]:
    with wrap_client(plain, runtime_of(ClientModel(plain))) as wrapped:
        yield wrapped


@pytest.fixture
async def async_client(plain_async: Any) -> AsyncIterator[Any]:
    async with wrap_client(plain_async, runtime_of(ClientModel(plain_async))) as wrapped:
        yield wrapped


@pytest.fixture(params=["sync", "async"])
def any_client(request: pytest.FixtureRequest, plain: Any, plain_async: Any) -> Any:
    """A wrapped client of either kind, whose calls are awaited in both cases."""
    chosen = plain if request.param == "sync" else plain_async
    return Awaitable(wrap_client(chosen, runtime_of(ClientModel(chosen))))


class Awaitable:
    """Lets one test drive both kinds of client."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.is_async = asyncio.iscoroutinefunction(client.close)

    async def create(self, **arguments: Any) -> Any:
        return await self.call(self.client.chat.completions.create, **arguments)

    async def call(self, function: Callable[..., Any], **arguments: Any) -> Any:
        arguments = {"model": "gpt-x", "messages": MESSAGES, **arguments}
        if self.is_async:
            return await function(**arguments)
        return await asyncio.to_thread(function, **arguments)

    async def read(self, stream: Any) -> list[Any]:
        if self.is_async:
            return [chunk async for chunk in stream]
        return await asyncio.to_thread(list, stream)

    async def close(self) -> None:
        if self.is_async:
            await self.client.close()
        else:
            await asyncio.to_thread(self.client.close)
