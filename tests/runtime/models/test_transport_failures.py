from __future__ import annotations

import asyncio
import gc
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from tests.fault_upstream import FaultUpstream

from tutelage.runtime.errors import (
    BadResponse,
    ConfigError,
    ModelError,
    ModelTimeout,
    Refused,
    Unreachable,
)
from tutelage.runtime.models.breaker import Breaker
from tutelage.runtime.models.deadlines import Timeouts
from tutelage.runtime.models.retries import Retries
from tutelage.runtime.models.transport import Transport, _why, checked_url

CHAT = "/chat/completions"


NEVER = Retries(attempts=1)


Connect = Callable[..., Transport]


async def no_wait(seconds: float) -> None:
    """Takes the place of the waits between attempts."""


@pytest.fixture
async def faulty() -> AsyncIterator[FaultUpstream]:
    async with FaultUpstream() as opened:
        yield opened


@pytest.fixture
async def reach(faulty: FaultUpstream) -> AsyncIterator[Connect]:
    made: list[Transport] = []

    def make(**options: Any) -> Transport:
        made.append(Transport(faulty.base_url, **{"sleep": no_wait, **options}))
        return made[-1]

    yield make
    for each in made:
        await each.aclose()


def body(model: str = "m", **fields: Any) -> bytes:
    messages = [{"role": "user", "content": "hi"}]
    return json.dumps({"model": model, "messages": messages, **fields}).encode()


async def test_a_large_body_is_sent_whole_each_time(reach: Connect, faulty: FaultUpstream) -> None:
    large = body("fault:503;times=1", filler="x" * 3_000_000)

    await (await reach().open(CHAT, large)).read()

    assert [one.raw == large for one in faulty.requests] == [True, True]


async def test_the_retries_of_a_call_win_over_those_of_the_transport(
    reach: Connect, faulty: FaultUpstream
) -> None:
    with pytest.raises(BadResponse):
        await reach(retries=Retries(attempts=5)).open(CHAT, body("fault:500"), retries=NEVER)

    assert faulty.calls() == 1


@pytest.mark.parametrize("fault", ["400", "401", "404", "307"])
async def test_what_will_not_pass_is_not_asked_again(
    reach: Connect, faulty: FaultUpstream, fault: str
) -> None:
    with pytest.raises(ModelError):
        await reach().open(CHAT, body(f"fault:{fault}"))

    assert [one.path for one in faulty.requests] == [CHAT]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_breaks_off_is_told_and_not_asked_again(
    reach: Connect, faulty: FaultUpstream, stream: bool
) -> None:
    reply = await reach().open(CHAT, body("fault:cut", stream=stream))

    with pytest.raises(BadResponse, match="broke off in the middle"):
        await reply.read()

    assert faulty.calls() == 1


async def test_silence_passes_the_deadline_that_the_error_names(reach: Connect) -> None:
    transport = reach(timeouts=Timeouts(first_byte_s=0.2, idle_s=0.05), retries=NEVER)

    with pytest.raises(ModelTimeout, match="first_byte_s"):
        await transport.open(CHAT, body("fault:hang"))
    reply = await transport.open(CHAT, body("fault:hang-body"))
    with pytest.raises(ModelTimeout, match="idle_s"):
        await reply.read()


async def test_an_answer_may_take_longer_than_the_longest_silence(reach: Connect) -> None:
    transport = reach(timeouts=Timeouts(idle_s=0.3))
    slow = {"x-fault": "dribble;size=20;delay-ms=10"}
    started_s = time.monotonic()

    content = await (await transport.open(CHAT, body(stream=True), slow)).read()

    assert time.monotonic() - started_s > 0.3
    assert content.endswith(b"[DONE]\n\n")


async def test_a_reader_may_take_longer_than_the_longest_silence(reach: Connect) -> None:
    transport = reach(timeouts=Timeouts(idle_s=0.2))
    reply = await transport.open(
        CHAT, body(stream=True), {"x-fault": "dribble;size=200;delay-ms=9"}
    )
    pieces = [await reply.piece(), await reply.piece()]

    await asyncio.sleep(0.3)
    pieces += [piece async for piece in reply.pieces()]

    assert b"".join(pieces).endswith(b"[DONE]\n\n")


async def test_failures_in_a_row_open_the_breaker(reach: Connect, faulty: FaultUpstream) -> None:
    now_s = 0.0
    breaker = Breaker(after=3, pause_s=30, clock=lambda: now_s)
    transport = reach(breaker=breaker, retries=Retries(attempts=5))

    with pytest.raises(BadResponse, match="answered 500"):
        await transport.open(CHAT, body("fault:500"))
    with pytest.raises(Unreachable):
        await transport.open(CHAT, body())
    assert faulty.calls() == 3
    now_s = 31.0
    await (await transport.open(CHAT, body())).read()

    assert breaker.failures == 0
    assert faulty.calls() == 4


async def test_answers_that_break_off_open_the_breaker_and_a_read_one_starts_anew(
    reach: Connect,
) -> None:
    breaker = Breaker(after=3)
    transport = reach(breaker=breaker)

    async def read(model: str) -> None:
        await (await transport.open(CHAT, body(model))).read()

    for _ in range(2):
        with pytest.raises(BadResponse):
            await read("fault:cut")
    assert breaker.failures == 2
    await read("m")
    assert breaker.failures == 0
    for _ in range(3):
        with pytest.raises(BadResponse):
            await read("fault:cut")
    assert breaker.state == "open"


async def test_a_clients_mistakes_and_leavings_never_open_the_breaker(
    reach: Connect, faulty: FaultUpstream
) -> None:
    breaker = Breaker(after=1)
    transport = reach(breaker=breaker)
    for _ in range(3):
        with pytest.raises(Refused):
            await transport.open(CHAT, body("fault:400"))
    call = asyncio.create_task(transport.open(CHAT, body("fault:hang")))
    await faulty.arrived(4)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    (await transport.open(CHAT, body("fault:hang-body"))).close()

    assert breaker.state == "closed"
    assert breaker.failures == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_transport_serves_one_event_loop_after_another() -> None:
    transport = Transport("http://127.0.0.1:9/v1", retries=NEVER)

    async def ask() -> None:
        with pytest.raises(ModelError, match="cannot connect"):
            await transport.open("/models", method="GET")

    async def ask_and_close() -> None:
        async with transport:
            await ask()

    # The first loop ends without closing anything, which the interpreter rightly complains of.
    asyncio.run(ask())
    asyncio.run(ask_and_close())
    assert transport._sessions == {}
    gc.collect()


@pytest.mark.parametrize("tail", ["", "/", "/chat/completions", "/responses", "/messages/"])
def test_the_address_is_taken_with_or_without_its_tail(tail: str) -> None:
    assert checked_url(f"http://h:1/v1{tail}") == "http://h:1/v1"
    assert repr(Transport(f"http://h:1/v1{tail}")) == "Transport('http://h:1/v1')"


@pytest.mark.parametrize("base_url", ["h/v1", "ftp://h", "http://me:secret@h", "http://h?key=1"])
def test_a_wrong_address_is_told_at_once(base_url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Transport(base_url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("cause", "why"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('10.0.0.7', 8000)"), "refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ssl.SSLCertVerificationError(1, "10.0.0.7 is not the name"), "SSLCertVerificationError"),
        (OSError(), "OSError"),
    ],
)
def test_why_there_is_no_connection_is_said_once_without_the_address(
    cause: OSError, why: str
) -> None:
    key = ConnectionKey("10.0.0.7", 8000, False, True, None, None, None)
    said = _why(aiohttp.ClientConnectorError(key, cause))
    assert why in said
    assert "10.0.0.7" not in said


@pytest.mark.parametrize("name", ["teacher", None])
@pytest.mark.parametrize("fault", ["fault:500", "fault:reset", "fault:hang", "fault:cut"])
async def test_an_error_has_a_text_for_clients_where_the_endpoint_has_a_name(
    name: str | None, fault: str, faulty: FaultUpstream
) -> None:
    async with Transport(
        faulty.base_url, retries=NEVER, timeouts=Timeouts(first_byte_s=0.1), name=name
    ) as transport:
        with pytest.raises(ModelError) as caught:
            await (await transport.open(CHAT, body(fault))).read()
    assert faulty.base_url in str(caught.value)
    told = caught.value.told
    assert (told is None) is (name is None)
    assert told is None or (told.startswith("upstream teacher ") and "http" not in told)
