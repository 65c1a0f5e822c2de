"""One client's connection, and how long it may keep the server waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from tests.served_gateway import until
from uvicorn.server import ServerState

from tutelage.runtime.config import GatewayConfig, LimitConfig
from tutelage.runtime.gateway.connection import Connection
from tutelage.runtime.gateway.server import uvicorn_config

HEAD = b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that only notes what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unread = 0
        self.ended: str | None = None

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = self.ended or "aborted"

    def is_closing(self) -> bool:
        return self.ended is not None

    def get_write_buffer_size(self) -> int:
        return self.unread

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        """Nothing arrives by itself."""

    def resume_reading(self) -> None:
        """Nothing arrives by itself."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers before it has read anything."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


def connected(**limits: float) -> tuple[Connection, Wire]:
    settings = GatewayConfig(limits=LimitConfig.model_validate(limits))
    config: uvicorn.Config = uvicorn_config(app, settings)
    config.load()
    made: Any = config.http_protocol_class
    connection = made(config=config, server_state=ServerState(), app_state={})
    assert isinstance(connection, Connection)
    wire = Wire()
    connection.connection_made(wire)
    return connection, wire


@pytest.mark.parametrize("sent", [[], [b"P"], [b"POST /x HTTP/1.1\r\n", b"host: x\r\n"]])
async def test_headers_that_do_not_come_end_the_connection(sent: list[bytes]) -> None:
    connection, wire = connected(read_s=0.05)
    for piece in sent:
        connection.data_received(piece)

    await until(lambda: wire.ended == "closed")


async def test_headers_of_a_later_request_are_waited_for_no_longer() -> None:
    connection, wire = connected(read_s=0.05)
    connection.data_received(HEAD + b"body")
    await until(lambda: b"done" in wire.written)
    connection.data_received(b"POST /x HTT")

    await until(lambda: wire.ended == "closed")


async def test_a_body_that_nobody_reads_any_more_is_bounded() -> None:
    connection, wire = connected(read_s=0.05)
    connection.data_received(HEAD)
    await until(lambda: b"done" in wire.written)
    connection.data_received(b"b")

    await until(lambda: wire.ended == "closed")


async def test_an_idle_connection_and_a_whole_request_are_left_alone() -> None:
    connection, wire = connected(read_s=0.02)
    connection.data_received(HEAD[:10])
    connection.data_received(HEAD[10:])
    connection.data_received(b"body")
    await until(lambda: b"done" in wire.written)
    await asyncio.sleep(0.06)

    assert wire.ended is None


async def test_what_a_client_does_not_read_is_dropped() -> None:
    connection, wire = connected(write_s=0.02)
    connection.pause_writing()

    await until(lambda: wire.ended == "aborted")


async def test_a_client_that_reads_on_is_kept() -> None:
    connection, wire = connected(write_s=0.02)
    connection.pause_writing()
    connection.resume_writing()
    await asyncio.sleep(0.06)

    assert wire.ended is None


@pytest.mark.parametrize(("unread", "end"), [(0, "closed"), (9, "aborted")])
async def test_an_idle_connection_ends_whether_or_not_it_was_read(unread: int, end: str) -> None:
    connection, wire = connected()
    wire.unread = unread

    connection.timeout_keep_alive_handler()

    assert wire.ended == end


async def test_a_lost_connection_leaves_no_timer() -> None:
    connection, wire = connected(read_s=0.02, write_s=0.02)
    connection.pause_writing()
    connection.connection_lost(None)
    ended = wire.ended
    await asyncio.sleep(0.06)

    assert wire.ended == ended == "closed"
