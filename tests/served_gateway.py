"""A gateway on a real socket, the upstreams behind it, and a client that adds nothing."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import aiohttp
import uvicorn
from tests.fault_upstream import Fault, FaultUpstream, Received
from tests.upstream_answers import Said

from tutelage.runtime.config import Config
from tutelage.runtime.gateway.app import Gateway
from tutelage.runtime.gateway.key_store import Operator
from tutelage.runtime.gateway.keyring import Keyring
from tutelage.runtime.gateway.meters import Standing
from tutelage.runtime.gateway.orders import KeyOrder
from tutelage.runtime.gateway.server import listen, uvicorn_config
from tutelage.runtime.types import Trace
from tutelage.serving import open_gateway

WIRES = ("chat", "responses", "messages")
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
ENDS = {"chat": "[DONE]", "responses": "response.completed", "messages": "message_stop"}
"""By what a client of each wire knows that a stream is complete."""
TENANT = "default"


class Steered(FaultUpstream):
    """An upstream of which a test says how it fails, whatever it is asked.

    Attributes:
        fault: As in ``x-fault``; ``None``: what the request asks for.
        others: Texts of the choices after the first; empty: all are alike.
        gate: What the second half of every answer waits for.
    """

    def __init__(self, say: str | Callable[[Mapping[str, Any]], str] = "go to desk 1") -> None:
        super().__init__(say)
        self.fault: str | None = None
        self.others: tuple[str, ...] = ()
        self.gate: asyncio.Event | None = None

    def fault_for(self, request: Received) -> Fault:
        if self.fault is None:
            return super().fault_for(request)
        steered = {**request.headers, "x-fault": self.fault}
        return super().fault_for(replace(request, headers=steered))

    def said(self, request: Received, fault: Fault) -> Said:
        return replace(super().said(request, fault), others=self.others)

    async def half_way(self) -> None:
        if self.gate is not None:
            await self.gate.wait()

    def disagree(self) -> None:
        """From now on no two choices are alike."""
        self.others = tuple(f"go to desk {index}" for index in range(2, 9))

    @property
    def left(self) -> int:
        """Requests whose client hung up before the answer was complete."""
        return sum(one.disconnected_s is not None for one in self.requests)


@dataclass(frozen=True)
class Got:
    """An answer as it came over the socket."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def events(self) -> list[tuple[str | None, str]]:
        """Name and data of every event; comments and what follows the last blank line are none."""
        return read_events(self.raw)

    @property
    def data(self) -> list[Any]:
        """The events that are JSON."""
        return [json.loads(data) for _, data in self.events if data.startswith("{")]

    @property
    def pings(self) -> int:
        return self.raw.count(b": ping\n\n") + self.raw.count(b"event: ping\n")

    def told(self, name: str) -> str | None:
        """A header of ours."""
        return self.headers.get(f"x-tutelage-{name}")


def read_events(raw: bytes) -> list[tuple[str | None, str]]:
    """Events as a plain reader of the standard sees them, LF line ends only."""
    found: list[tuple[str | None, str]] = []
    for block in raw.decode().split("\n\n")[:-1]:
        name, data = None, []
        for line in block.split("\n"):
            key, _, value = line.partition(":")
            if key == "event":
                name = value.removeprefix(" ")
            elif key == "data":
                data.append(value.removeprefix(" "))
        if data:
            found.append((name, "\n".join(data)))
    return found


def call(wire: str, model: str, text: str = "where to?", **fields: Any) -> dict[str, Any]:
    """The body of a call of a wire."""
    if wire == "responses":
        return {"model": model, "input": text, **fields}
    messages = [{"role": "user", "content": text}]
    limit = {"max_tokens": 100} if wire == "messages" else {}
    return {"model": model, "messages": messages, **limit, **fields}


def tool(wire: str, name: str = "walk", **properties: Any) -> dict[str, Any]:
    """A tool with two texts as its arguments, as each wire offers it."""
    schema = {
        "type": "object",
        "properties": properties or {"where": {"type": "string"}, "how": {"type": "string"}},
    }
    if wire == "messages":
        return {"name": name, "description": "Walks.", "input_schema": schema}
    function = {"name": name, "description": "Walks.", "parameters": schema}
    if wire == "responses":
        return {"type": "function", **function}
    return {"type": "function", "function": function}


def text_of(wire: str, body: Mapping[str, Any]) -> str:
    """The text of a whole answer."""
    if wire == "chat":
        return str(body["choices"][0]["message"]["content"])
    if wire == "messages":
        return "".join(block.get("text", "") for block in body["content"])
    parts = [part for item in body["output"] for part in item.get("content") or ()]
    return "".join(part.get("text", "") for part in parts)


def streamed_text(wire: str, got: Got) -> str:
    """The text that the deltas of a stream add up to."""
    pieces: list[str] = []
    for event in got.data:
        if wire == "chat":
            pieces += [choice["delta"].get("content") or "" for choice in event.get("choices", ())]
        elif wire == "messages" and event["type"] == "content_block_delta":
            pieces.append(event["delta"].get("text", ""))
        elif wire == "responses" and event["type"] == "response.output_text.delta":
            pieces.append(event["delta"])
    return "".join(pieces)


def is_complete(wire: str, got: Got) -> bool:
    """Whether a stream says that it is complete."""
    if wire == "chat":
        return any(data == ENDS[wire] for _, data in got.events)
    return any(event.get("type") == ENDS[wire] for event in got.data)


def error_of(wire: str, got: Got) -> dict[str, Any]:
    """The error object of a failed call, which must be in the shape of its wire."""
    body = got.json
    if wire == "messages":
        assert body["type"] == "error", body
        assert set(body["error"]) >= {"type", "message"}, body
    else:
        assert set(body["error"]) >= {"type", "message", "param", "code"}, body
    assert got.headers["content-type"].startswith("application/json")
    error: dict[str, Any] = body["error"]
    return error


def error_event_of(wire: str, got: Got) -> dict[str, Any]:
    """The error of a stream that broke off: its last event, in the shape of its wire."""
    name, data = got.events[-1]
    event = json.loads(data)
    if wire == "chat":
        error: dict[str, Any] = event["error"]
        return error
    if wire == "messages":
        assert (name, event["type"]) == ("error", "error")
        error = event["error"]
        return error
    assert name == event["type"]
    if event["type"] == "response.failed":
        error = event["response"]["error"]
        return error
    assert event["type"] == "error"
    return dict(event)


async def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    """Returns when something holds that nobody tells us of; raises ``TimeoutError``."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - it is the state of a server
            await asyncio.sleep(0.005)


@dataclass
class Served:
    """A gateway that listens, and who stands behind it."""

    gateway: Gateway
    base_url: str
    client: aiohttp.ClientSession
    server: uvicorn.Server
    key: str | None = None
    """Of the client, if it has one."""

    async def ask(
        self, wire: str, body: Any, headers: Mapping[str, str] | None = None, query: str = ""
    ) -> Got:
        """A call of a chat wire."""
        return await self.send("POST", PATHS[wire] + query, body, headers)

    async def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Got:
        async with self.open(method, path, body, headers) as response:
            return await received(response)

    def open(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The answer while it arrives, as an aiohttp context manager."""
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        # In parts, as aiohttp wants it of large bodies.
        data = None if raw is None else io.BytesIO(raw)
        sent = {"content-type": "application/json", **(headers or {})}
        if self.key is not None:
            sent.setdefault("authorization", f"Bearer {self.key}")
        return self.client.request(method, self.base_url + path, data=data, headers=sent)

    async def traces(self, count: int = 1, tenant: str = TENANT) -> list[Trace]:
        """All traces, once there are ``count`` of them, oldest first."""
        async with asyncio.timeout(10):
            while True:
                found = await self.gateway.parts.traces.traces(tenant, newest_first=False)
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.01)

    async def issue(self, **order: Any) -> str:
        """The text of a new key; for a gateway that asks for keys."""
        keyring = self.gateway.parts.doorkeeper
        assert isinstance(keyring, Keyring)
        wanted = KeyOrder.model_validate({"name": "tests", "tenant": "acme", **order})
        return (await keyring.create(wanted, Operator("tests"))).text.reveal()

    async def settled(self, key: str) -> Standing:
        """Where a key stands once nothing is held back any more."""
        caller = await self.gateway.parts.doorkeeper.identify(key)
        async with asyncio.timeout(20):
            while True:
                standing = await self.gateway.parts.admission.explain(caller)
                if not standing.reserved_usd:
                    return standing
                await asyncio.sleep(0.01)

    async def idle(self) -> None:
        """Returns when nothing is served any more."""
        await until(lambda: not self.gateway.in_flight)

    async def counted(self, text: str) -> None:
        """Returns when the metrics say something."""
        await until(lambda: text in self.gateway.metrics.render()[0].decode())

    async def decision(self, id: str | None) -> Any:
        return (await self.send("GET", f"/v1/decisions/{id}")).json

    async def metrics(self) -> str:
        return (await self.send("GET", "/metrics")).raw.decode()


async def received(response: aiohttp.ClientResponse) -> Got:
    """The rest of an answer, as far as it comes."""
    pieces: list[bytes] = []
    try:
        async for piece in response.content.iter_any():
            pieces.append(piece)
    except aiohttp.ClientPayloadError:
        pieces.append(b"")
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Got(response.status, headers, b"".join(pieces))


@asynccontextmanager
async def serving(config: Config, *, is_open: bool = True) -> AsyncIterator[Served]:
    """A gateway in this loop, until the block ends."""
    gateway = await open_gateway(config, is_open=is_open)
    door = listen("127.0.0.1", 0)
    # As ``GatewayServer`` does it, without the tenths of a second that its end takes.
    settings = uvicorn_config(gateway, config.gateway)
    settings.load()
    server = uvicorn.Server(settings)
    server.lifespan = settings.lifespan_class(settings)
    await server.startup(sockets=[door])
    address = f"http://127.0.0.1:{door.getsockname()[1]}"
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as client:
            yield Served(gateway, address, client, server)
    finally:
        server.servers[0].close()
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        async with asyncio.timeout(30):
            while server.server_state.tasks:
                await asyncio.wait(server.server_state.tasks)
            await gateway.aclose()


class World:
    """Makes gateways between a teacher, a second teacher, a student, and a client.

    Args:
        settings: What every configuration begins with, by dotted key.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.teacher = Steered("go to the teacher's desk")
        self.second = Steered("go to the second desk")
        self.student = Steered("go to desk 1")
        self._settings = dict(settings)

    async def __aenter__(self) -> Self:
        for upstream in (self.teacher, self.second, self.student):
            await upstream.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        for upstream in (self.teacher, self.second, self.student):
            await upstream.__aexit__(*raised)

    def config(self, settings: Mapping[str, Any] = {}, wires: Sequence[str] = WIRES) -> Config:
        """The configuration with the endpoints of this world; ``settings`` win over it.

        Its models are called as they are served: ``passthrough``, ``route`` (the student),
        ``cascade``, ``shadow``, and ``teacher`` and ``student``, who serve all in mode cascade.
        """
        endpoint = {"attempts": 1, "wires": list(wires)}
        prices = {"input": 10.0, "output": 20.0}
        values: dict[str, Any] = {
            "teacher": {
                **endpoint, "base_url": self.teacher.base_url, "model": "large", "price": prices,
            },
            "upstreams.second": {
                **endpoint, "base_url": self.second.base_url, "model": "large-2", "price": prices,
            },
            "student": {
                "base_url": self.student.base_url, "model": "small", "attempts": 1,
                "price": {"input": 1.0, "output": 2.0},
            },
            "aliases": {
                "passthrough": {"mode": "passthrough"},
                "route": {"mode": "route", "policy": "always-student"},
                "cascade": {"mode": "cascade"},
                "shadow": {"mode": "shadow"},
                "teacher": {"policy": "always-teacher"},
                "student": {"policy": "always-student"},
                "two": {"mode": "passthrough", "upstreams": ["teacher", "second"]},
                "two-cascade": {"mode": "cascade", "upstreams": ["teacher", "second"]},
            },
            "retrieval.embedder": "hash",
            "gateway.port": 0,
        }  # fmt: skip
        tree: dict[str, Any] = {}
        for dotted, value in {**values, **self._settings, **settings}.items():
            *above, last = dotted.split(".")
            table = tree
            for name in above:
                table = table.setdefault(name, {})
            table[last] = value
        return Config.model_validate(tree)

    @asynccontextmanager
    async def serve(
        self,
        settings: Mapping[str, Any] = {},
        wires: Sequence[str] = WIRES,
        *,
        is_open: bool = True,
    ) -> AsyncIterator[Served]:
        """A gateway of this world.

        Args:
            settings: By dotted key.
            wires: APIs that the teachers speak.
            is_open: Whether no keys are asked for.
        """
        async with serving(self.config(settings, wires), is_open=is_open) as served:
            yield served
