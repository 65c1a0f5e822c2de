from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tutelage.runtime.errors import (
    BadResponse,
    ConfigError,
    ModelError,
    ModelTimeout,
    RateLimited,
)
from tutelage.runtime.models.openai import Retries, Timeouts
from tutelage.runtime.types import ChatRequest

KEY = "sk-a-key-that-nobody-may-see"
NEVER = Retries(attempts=1)


def request(**fields: Any) -> ChatRequest:
    body = {"model": "alias", "messages": [{"role": "user", "content": "you see a desk"}]}
    return ChatRequest.model_validate({**body, **fields})


async def collected(chunks: AsyncIterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return [chunk async for chunk in chunks]


class Waits:
    """Stands for ``asyncio.sleep``; remembers the seconds and moves the clock on by them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.now_s = 0.0

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.now_s += seconds


async def test_a_rate_limit_tells_how_long_to_wait(connect: Any, upstream: Any) -> None:
    upstream.will(status=429, body=upstream.error("slow down"), headers={"Retry-After": "7"})

    with pytest.raises(RateLimited) as caught:
        await connect(retries=NEVER).complete(request())

    assert caught.value.retry_after_s == 7
    assert caught.value.status == 429


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
async def test_a_failed_call_is_made_again(connect: Any, upstream: Any, status: int) -> None:
    upstream.will(status=status, body=b"<html>busy</html>", times=2)

    completion = await connect(retries=Retries(attempts=3)).complete(request())

    assert completion.text == "go to desk 1"
    assert [one.body for one in upstream.seen] == [upstream.last] * 3


async def test_no_more_calls_are_made_than_allowed(connect: Any, upstream: Any) -> None:
    waits = Waits()
    upstream.will(status=500, body=upstream.error("boom"), times=9)
    model = connect(
        retries=Retries(attempts=4, base_s=1, cap_s=3), sleep=waits, clock=lambda: waits.now_s
    )

    with pytest.raises(BadResponse, match="answered 500: boom"):
        await model.complete(request())

    assert len(upstream.seen) == 4
    bounds = [1, 2, 3]
    assert all(b / 2 <= s <= b for s, b in zip(waits.seconds, bounds, strict=True))


async def test_the_wait_the_endpoint_asks_for_is_kept(connect: Any, upstream: Any) -> None:
    waits = Waits()
    upstream.will(status=429, body=b"", headers={"Retry-After": "20"})
    date = {"Retry-After": "Tue, 03 Jan 2023 00:00:30 GMT", "Date": "Tue, 03 Jan 2023 00:00:00 GMT"}
    upstream.will(status=503, body=b"", headers=date)

    await connect(sleep=waits, clock=lambda: waits.now_s).complete(request())

    assert waits.seconds == [20, 30]
    assert len(upstream.seen) == 3


async def test_a_wait_beyond_the_total_deadline_is_not_begun(connect: Any, upstream: Any) -> None:
    waits = Waits()
    upstream.will(status=429, body=b"", headers={"Retry-After": "400"})
    model = connect(sleep=waits, clock=lambda: waits.now_s, timeouts=Timeouts(total_s=300))

    with pytest.raises(RateLimited) as caught:
        await model.complete(request())

    assert waits.seconds == []
    assert caught.value.retry_after_s == 400


async def test_a_slow_first_byte_is_tried_again_but_silence_later_is_not(
    connect: Any, upstream: Any
) -> None:
    model = connect(timeouts=Timeouts(first_byte_s=0.2, idle_s=0.05))
    upstream.will(hang="before")

    assert (await model.complete(request())).text == "go to desk 1"
    assert len(upstream.seen) == 2

    upstream.will(hang="middle")
    with pytest.raises(ModelTimeout, match="idle_s"):
        await model.complete(request())
    assert len(upstream.seen) == 3


@pytest.mark.parametrize(
    ("hang", "timeouts", "name"),
    [
        ("before", Timeouts(first_byte_s=0.05), "first_byte_s"),
        ("middle", Timeouts(idle_s=0.05), "idle_s"),
        ("before", Timeouts(total_s=0.2), "total_s"),
        ("middle", Timeouts(total_s=0.2), "total_s"),
    ],
)
async def test_a_silent_endpoint_passes_the_deadline_that_the_error_names(
    connect: Any, upstream: Any, hang: str, timeouts: Timeouts, name: str
) -> None:
    upstream.will(hang=hang, times=2)
    model = connect(timeouts=timeouts, retries=NEVER)

    with pytest.raises(ModelTimeout, match=f"passed the {name} deadline"):
        await model.complete(request())
    with pytest.raises(ModelTimeout, match=f"passed the {name} deadline"):
        await collected(model.stream(request()))

    assert await asyncio.to_thread(upstream.disconnected.wait, 5)


async def test_a_peer_that_never_accepts_passes_the_connect_deadline(connect: Any) -> None:
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        # Fills the queue of the listener, so that the next connection is left without an answer.
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        model = connect(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1",
            timeouts=Timeouts(connect_s=0.05),
            retries=NEVER,
        )

        with pytest.raises(ModelTimeout, match="passed the connect_s deadline"):
            await model.complete(request())


async def test_a_refused_connection_names_the_address_and_the_cure(connect: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        waits = Waits()

        with pytest.raises(ModelError) as caught:
            await connect(base_url=base_url, sleep=waits).complete(request())

    assert base_url in str(caught.value)
    assert "start the endpoint" in str(caught.value)
    assert len(waits.seconds) == 2


async def test_a_connection_lost_before_the_answer_is_tried_again(connect: Any) -> None:
    calls = 0

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BadResponse, match="broke the connection"):
            await connect(base_url=f"http://127.0.0.1:{port}/v1").complete(request())

    assert calls == 3


@pytest.mark.parametrize("name", ["connect_s", "first_byte_s", "idle_s", "total_s"])
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_a_deadline_is_a_positive_number(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"timeouts.{name}"):
        Timeouts(**{name: value})
