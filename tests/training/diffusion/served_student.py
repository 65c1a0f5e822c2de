"""A diffusion student's server in this loop."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import uvicorn

from tutelage.training.diffusion.decoding import DecodingSettings
from tutelage.training.diffusion.server import DiffusionServer
from tutelage.training.diffusion.student import DiffusionStudent

NAME = "student"


@dataclass
class ServedStudent:
    """A server that listens."""

    server: DiffusionServer
    base_url: str
    client: aiohttp.ClientSession

    async def ask(self, **fields: Any) -> tuple[int, Any]:
        """Status and body of a chat call."""
        return await self.post(chat(**fields))

    async def post(self, body: Any) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.client.post(f"{self.base_url}/chat/completions", data=raw) as answer:
            return answer.status, await answer.json()

    async def events(self, **fields: Any) -> list[Any]:
        """The events of a stream; the last is ``[DONE]``."""
        body = json.dumps(chat(stream=True, **fields)).encode()
        async with self.client.post(f"{self.base_url}/chat/completions", data=body) as answer:
            text = await answer.text()
        found = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
        return [line if line == "[DONE]" else json.loads(line) for line in found]

    async def page(self, path: str) -> tuple[int, str]:
        async with self.client.get(self.base_url.removesuffix("/v1") + path) as answer:
            return answer.status, await answer.text()


def chat(**fields: Any) -> dict[str, Any]:
    said = fields.pop("said", "go to desk 1")
    return {"model": NAME, "messages": [{"role": "user", "content": said}], **fields}


@asynccontextmanager
async def serving(
    student: DiffusionStudent, settings: DecodingSettings | None = None, **more: Any
) -> AsyncIterator[ServedStudent]:
    server = DiffusionServer(student, settings or DecodingSettings(), name=NAME, seed=1, **more)
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    door.listen()
    running = uvicorn.Server(
        uvicorn.Config(server.app, lifespan="off", log_config=None, access_log=False)
    )
    running.config.load()
    running.lifespan = running.config.lifespan_class(running.config)
    await running.startup(sockets=[door])
    address = f"http://127.0.0.1:{door.getsockname()[1]}/v1"
    try:
        async with aiohttp.ClientSession() as client:
            yield ServedStudent(server, address, client)
    finally:
        running.servers[0].close()
        for connection in list(running.server_state.connections):
            connection.transport.abort()
        await server.aclose()
        door.close()
