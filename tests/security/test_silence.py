"""Connections that only stand there keep nobody out."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
from tests.served_gateway import Served, World, call, until


class Silent:
    """Connections that send nothing, or only part of a request."""

    def __init__(self, served: Served) -> None:
        self._port = int(served.base_url.rsplit(":", 1)[1])
        self._open: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def add(self, count: int, said: bytes = b"") -> None:
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(said)
            self._open.append((reader, writer))

    async def ended(self) -> list[bool]:
        """Of each whether the server has closed it."""

        async def one(reader: asyncio.StreamReader) -> bool:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    return await reader.read(1) == b""
            return False

        return list(await asyncio.gather(*(one(reader) for reader, _ in self._open)))

    def close(self) -> None:
        for _, writer in self._open:
            writer.close()


async def test_a_client_is_served_while_others_only_open_connections(world: World) -> None:
    async with world.serve({"gateway.limits.connections": 20}) as served:
        silent = Silent(served)
        try:
            assert (await served.ask("chat", call("chat", "passthrough"))).status == 200
            for said in (b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"):
                await silent.add(100, said)
                got = await served.ask("chat", call("chat", "passthrough"))
                assert got.status == 200
                await until(lambda: len(served.server.server_state.connections) <= 20)
            # Over the connection it has had from the beginning, and over a new one.
            async with aiohttp.ClientSession() as fresh:
                served.client, own = fresh, served.client
                assert (await served.ask("chat", call("chat", "passthrough"))).status == 200
                served.client = own
            await until(lambda: len(served.server.server_state.connections) <= 20)
            ended = await silent.ended()
        finally:
            silent.close()
    # The oldest went first: of those that are left none is older than one that ended.
    assert ended == sorted(ended, reverse=True)
    assert 180 <= sum(ended) < 200


async def test_a_gateway_whose_connections_are_all_in_use_says_when_to_come_back(
    world: World,
) -> None:
    gate = world.teacher.gate = asyncio.Event()
    async with world.serve({"gateway.limits.connections": 3}) as served:
        asking = [
            asyncio.create_task(served.ask("chat", call("chat", "passthrough", stream=stream)))
            for stream in (False, True, False)
        ]
        await world.teacher.arrived(3)
        async with aiohttp.ClientSession() as other:
            served.client, own = other, served.client
            refused = [await served.ask("messages", call("messages", "teacher")) for _ in range(5)]
            served.client = own
        gate.set()
        answered = [(await one).status for one in asking]
        later = await served.ask("chat", call("chat", "passthrough"))
    assert answered == [200, 200, 200]
    assert later.status == 200
    for got in refused:
        assert got.status == 503
        assert int(got.headers["retry-after"]) >= 1
        assert got.json["type"] == "error"
        assert got.json["error"]["code"] == "too_many_connections"
    assert world.teacher.calls() == 4


async def test_one_that_sends_its_body_slowly_after_its_answer_is_silent(world: World) -> None:
    """It is answered already, so that it holds a place for nothing."""
    async with world.serve({"gateway.limits.connections": 2}, is_open=False) as served:
        served.key = await served.issue()
        silent = Silent(served)
        try:
            # Refused for its missing key before its body is there.
            head = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"
            await silent.add(2, head)
            await until(lambda: served.gateway.in_flight == 0)
            assert (await served.ask("chat", call("chat", "passthrough"))).status == 200
        finally:
            silent.close()
