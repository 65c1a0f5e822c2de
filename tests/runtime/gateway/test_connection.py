"""One client's connection, and how long it may keep the server waiting."""

from __future__ import annotations

import asyncio
import json
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

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.written += b"<end>"

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
    return joined(config)


def joined(config: uvicorn.Config) -> tuple[Connection, Wire]:
    """One more connection of a server."""
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


def full(connections: int) -> uvicorn.Config:
    """A server that takes so many connections."""
    limits = LimitConfig(connections=connections)
    config: uvicorn.Config = uvicorn_config(app, GatewayConfig(limits=limits))
    config.load()
    return config


async def test_a_connection_that_asked_nothing_goes_for_a_new_one() -> None:
    config = full(2)
    served, first = joined(config)
    _, silent = joined(config)
    served.data_received(HEAD + b"body")
    await until(lambda: b"done" in first.written)
    _, third = joined(config)
    _, fourth = joined(config)
    assert (first.ended, silent.ended, third.ended) == (None, "closed", "closed")
    assert fourth.ended is None
    # None that asks nothing is left.
    fourth_connection, _ = joined(config)
    fourth_connection.data_received(HEAD)
    served.data_received(HEAD)
    _, refused = joined(config)
    assert refused.written.startswith(b"HTTP/1.1 503 ")


async def test_one_that_waits_between_two_requests_goes_if_no_other_does() -> None:
    config = full(1)
    served, wire = joined(config)
    served.data_received(HEAD + b"body")
    await until(lambda: b"done" in wire.written)
    _, new = joined(config)
    assert (wire.ended, new.ended) == ("closed", None)


async def test_one_that_is_being_served_stays_and_the_new_one_is_told_when_to_come() -> None:
    config = full(1)
    served, wire = joined(config)
    # Headers are there, and the application has not answered.
    served.data_received(HEAD)
    late, refused = joined(config)
    head, _, body = refused.written.removesuffix(b"<end>").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in head
    assert b"content-length: %d" % len(body) in head
    error = json.loads(body)
    assert (error["type"], error["error"]["type"]) == ("error", "overloaded_error")
    # What it sends meanwhile is not read as a request.
    late.data_received(HEAD + b"body")
    assert late.cycle is None
    assert (wire.ended, refused.ended) == (None, None)
    await until(lambda: refused.ended == "aborted")
    late.connection_lost(None)
    served.connection_lost(None)
    _, next_wire = joined(config)
    assert next_wire.written == b""


async def test_too_many_that_found_no_room_are_cut_off() -> None:
    config = full(1)
    served, _ = joined(config)
    served.data_received(HEAD)
    wires = [joined(config)[1] for _ in range(130)]
    assert sum(wire.ended == "aborted" for wire in wires) == 30
    assert sum(b"503" in wire.written for wire in wires) == 100


async def test_a_pipelined_request_keeps_its_connection_from_being_dropped() -> None:
    config = full(1)
    served, wire = joined(config)
    served.data_received((HEAD + b"body") * 2 + HEAD)
    _, refused = joined(config)
    assert b"503" in refused.written
    await until(lambda: wire.written.count(b"done") == 3)
    _, new = joined(config)
    assert (wire.ended, new.written) == ("closed", b"")


async def test_a_head_that_does_not_end_is_given_up_when_it_is_too_large() -> None:
    connection, wire = connected(header_bytes=1024)
    connection.data_received(HEAD[:20])
    for _ in range(66):
        connection.data_received(b"x" * 1024)
    assert wire.written.startswith(b"HTTP/1.1 431 ")
    assert wire.written.endswith(b"<end>")
    # It may still read that, but says nothing any more.
    connection.data_received(HEAD + b"body")
    assert connection.cycle is None
    assert wire.ended is None
    connection.data_received(b"x" * 2_000_000)
    assert wire.ended == "aborted"


async def test_a_client_that_does_not_hang_up_after_that_is_cut_off() -> None:
    connection, wire = connected(header_bytes=1024)
    connection.data_received(b"x: " * 30_000)
    await until(lambda: wire.ended is not None)
    connection.connection_lost(None)


async def test_no_refusal_gets_into_an_answer_that_has_begun() -> None:
    connection, wire = connected(header_bytes=1024)
    connection.data_received(HEAD + b"body")
    connection.data_received(b"GET /" + b"x" * 90_000)
    assert (wire.written, wire.ended) == (b"", "aborted")
