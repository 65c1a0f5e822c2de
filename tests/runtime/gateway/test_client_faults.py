"""What a client gets that asks for too much, too slowly, or reads nothing."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
from typing import Any

import pytest
from tests.served_gateway import PATHS, WIRES, Served, World, call, error_of, received, until

wires = pytest.mark.parametrize("wire", WIRES)


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
@wires
async def test_a_huge_body_is_refused_before_it_is_read(
    wire: str, chunked: bool, world: World
) -> None:
    body = json.dumps(call(wire, "cascade", "x" * 3_000_000)).encode()
    async with world.serve({"gateway.limits.body_bytes": 100_000}) as served:

        async def pieces() -> Any:
            for start in range(0, len(body), 65_536):
                yield body[start : start + 65_536]

        data = pieces() if chunked else io.BytesIO(body)
        async with served.client.post(served.base_url + PATHS[wire], data=data) as response:
            refused = await received(response)
        after = await served.ask(wire, call(wire, "cascade"))

    assert refused.status == 413
    assert b"gateway.limits.body_bytes" in error_of(wire, refused)["message"].encode()
    assert after.status == 200
    assert world.student.calls() == 1


@wires
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"model": "cascade"',
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"model": 7}',
        b'{"model": "cascade", "messages": 7, "input": 7}',
    ],
    ids=["deep-list", "deep-object", "cut", "empty", "null", "list", "binary", "number", "types"],
)
async def test_a_body_that_is_no_call_is_the_clients_mistake(
    wire: str, body: bytes, served: Served, world: World
) -> None:
    got = await served.ask(wire, body)

    assert got.status == 400
    error_of(wire, got)
    assert world.student.calls() == world.teacher.calls() == 0


@wires
async def test_a_hundred_thousand_messages_are_too_many(
    wire: str, served: Served, world: World
) -> None:
    many = [{"role": "user", "content": "x"}] * 100_000
    body = {"model": "cascade", "messages": many, "input": many, "max_tokens": 5}

    got = await served.ask(wire, body)

    assert got.status == 400
    assert "100000" in error_of(wire, got)["message"]
    assert world.student.calls() == world.teacher.calls() == 0


@wires
async def test_headers_that_are_too_large_are_refused(wire: str, world: World) -> None:
    async with world.serve({"gateway.limits.header_bytes": 2048}) as served:
        got = await served.ask(wire, call(wire, "cascade"), {"x-large": "x" * 3000})

    assert got.status == 431
    error_of(wire, got)


@wires
async def test_a_full_gateway_says_when_to_come_back(wire: str, world: World) -> None:
    world.teacher.fault = "hang"
    async with world.serve({"gateway.limits.in_flight": 2}) as served:
        held = [asyncio.create_task(served.ask(wire, call(wire, "teacher"))) for _ in range(2)]
        await world.teacher.arrived(2)
        got = await served.ask(wire, call(wire, "teacher"))
        healthy = await served.send("GET", "/healthz")
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)

    assert (got.status, got.headers["retry-after"]) == (429, "1")
    error_of(wire, got)
    assert healthy.status == 200
    assert world.teacher.calls() == 2


HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
)


async def dribble(port: int, first: bytes) -> bytes:
    """What a client gets that sends a byte now and then until the gateway has had enough."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    told = b""
    with contextlib.suppress(ConnectionError):
        writer.write(first)
        while not reader.at_eof():
            with contextlib.suppress(TimeoutError):
                told += await asyncio.wait_for(reader.read(4096), 0.05)
            writer.write(b"x")
            await writer.drain()
    writer.close()
    return told


@pytest.mark.slow
async def test_two_hundred_dribbling_sockets_keep_nobody_waiting(world: World) -> None:
    async with world.serve({"gateway.limits.read_s": 0.5}) as served:
        port = int(served.base_url.rsplit(":", 1)[1])
        body = HEAD + b"content-length: 5000\r\n\r\n"
        # A third of them dribble their headers, a third the body, a third after a refusal.
        starts = [HEAD, body, body.replace(b"/chat/completions", b"/nothing")]
        slow = [asyncio.create_task(dribble(port, starts[n % 3])) for n in range(200)]
        await until(lambda: len(served.server.server_state.connections) == 200)
        healthy = [await served.ask("chat", call("chat", "cascade")) for _ in range(10)]
        async with asyncio.timeout(30):
            ended = await asyncio.gather(*slow)

    assert {one.status for one in healthy} == {200}
    assert set(ended[0::3]) == {b""}
    assert all(raw.startswith(b"HTTP/1.1 408 ") for raw in ended[1::3])
    assert all(raw.startswith(b"HTTP/1.1 404 ") for raw in ended[2::3])


async def test_a_slow_reader_is_given_up_and_the_upstream_let_go(world: World) -> None:
    world.teacher.say, world.teacher.fault = "x" * 300_000, "hang-body"
    async with world.serve({"gateway.limits.write_s": 0.3}) as served:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            address = ("127.0.0.1", int(served.base_url.rsplit(":", 1)[1]))
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, address)
            body = json.dumps(call("chat", "passthrough", stream=True)).encode()
            length = f"content-length: {len(body)}\r\n\r\n".encode()
            await loop.sock_sendall(client, HEAD + length + body)
            (trace,) = await served.traces(1)
            await world.teacher.disconnected(within_s=5.0)
            # Closing alone would wait for the client to read.
            await until(lambda: not served.server.server_state.connections)

    assert trace.error is not None
    assert trace.error.startswith("cancelled")
    # No more than the buffers on the way hold was taken from the upstream.
    assert 0 < len(trace.answer) < 150_000


async def test_a_request_without_a_body_is_answered(served: Served) -> None:
    got = await served.send("POST", "/v1/chat/completions")

    assert got.status == 400
