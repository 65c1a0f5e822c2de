from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from tutelage.runtime.errors import (
    BadResponse,
)
from tutelage.runtime.models.openai import Retries
from tutelage.runtime.types import ChatRequest

KEY = "sk-a-key-that-nobody-may-see"
NEVER = Retries(attempts=1)


def request(**fields: Any) -> ChatRequest:
    body = {"model": "alias", "messages": [{"role": "user", "content": "you see a desk"}]}
    return ChatRequest.model_validate({**body, **fields})


async def collected(chunks: AsyncIterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return [chunk async for chunk in chunks]


async def test_a_cancelled_call_hangs_up_within_a_second(connect: Any, upstream: Any) -> None:
    upstream.will(hang="before")
    call = asyncio.create_task(connect().complete(request()))
    assert await asyncio.to_thread(upstream.arrived.wait, 5)

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.to_thread(upstream.disconnected.wait, 1)


async def test_a_call_cancelled_in_the_middle_of_its_answer_hangs_up(
    connect: Any, upstream: Any
) -> None:
    upstream.will(stream=upstream.sse(upstream.chunk("go"), done=False), hang="middle")
    chunks = connect().stream(request())
    assert (await anext(chunks))["choices"][0]["delta"] == {"content": "go"}
    call = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.to_thread(upstream.disconnected.wait, 1)


async def test_a_cancelled_call_never_leaves_its_answer_to_another(connect: Any) -> None:
    model = connect()
    draw = random.Random(7)

    async def ask(index: int) -> None:
        assert (await model.complete(request(nonce=f"nonce {index}"))).text == f"nonce {index}"

    async def ask_and_cancel(index: int) -> None:
        call = asyncio.create_task(ask(index))
        for _ in range(draw.randrange(40)):
            await asyncio.sleep(0)
        if draw.random() < 0.7:
            call.cancel()
        with suppress(asyncio.CancelledError):
            await call

    for start in range(0, 400, 20):
        await asyncio.gather(*(ask_and_cancel(start + index) for index in range(20)))
        await ask(start)


async def test_a_stream_that_is_closed_early_hangs_up(connect: Any, upstream: Any) -> None:
    upstream.will(stream=upstream.sse(upstream.chunk("go"), done=False), hang="middle")
    chunks = connect().stream(request())
    await anext(chunks)

    await chunks.aclose()

    assert await asyncio.to_thread(upstream.disconnected.wait, 1)


async def test_a_stream_yields_its_chunks_and_asks_for_the_usage(
    connect: Any, upstream: Any
) -> None:
    chunks = await collected(connect().stream(request(n=2)))

    contents = [c["choices"][0]["delta"].get("content") for c in chunks if c["choices"]]
    assert contents == ["go to ", "desk 1", None]
    assert chunks[-1]["usage"]["prompt_tokens"] == 7
    assert upstream.last["stream"] is True
    assert upstream.last["stream_options"] == {"include_usage": True}
    assert upstream.last["model"] == "student-7"
    assert upstream.last["n"] == 2


async def test_a_client_that_refuses_the_usage_is_heard(connect: Any, upstream: Any) -> None:
    options = {"include_usage": False, "include_obfuscation": False}

    await collected(connect().stream(request(stream_options=options)))

    assert upstream.last["stream_options"] == options


async def test_a_connection_is_used_again_after_a_stream(connect: Any, upstream: Any) -> None:
    model = connect()

    await collected(model.stream(request()))
    await collected(model.stream(request()))

    assert len(upstream.ports) == 1


async def test_a_stream_is_tried_again_before_its_first_byte(connect: Any, upstream: Any) -> None:
    upstream.will(status=503, body=b"")

    chunks = await collected(connect().stream(request()))

    assert len(chunks) == 4
    assert len(upstream.seen) == 2


@pytest.mark.parametrize(
    ("pieces", "cut", "message"),
    [
        ([b'data: {"choices": []}\n\n'], False, r"without \[DONE\]"),
        ([b'data: {"choices": []}\n\n'], True, "broke off in the middle"),
        ([b'data: {"choices": [\n\n'], False, "not JSON"),
        ([b"data: 7\n\n"], False, "not a JSON object"),
        ([b"data: \xff\xfe\n\n"], False, "not JSON"),
        ([b'data: {"error": {"message": "out of memory"}}\n\n'], False, "out of memory"),
        ([b'event: error\ndata: {"error": "gone"}\n\n'], False, "in mid-stream: gone"),
        ([b"hello\n"], False, r"without \[DONE\]"),
    ],
)
async def test_a_stream_that_goes_wrong_is_a_bad_response(
    connect: Any, upstream: Any, pieces: list[bytes], cut: bool, message: str
) -> None:
    good = upstream.sse(upstream.chunk("go"), done=False)
    upstream.will(stream=[*good, *pieces], cut=cut)
    chunks = connect().stream(request())
    first = await anext(chunks)

    with pytest.raises(BadResponse, match=message):
        await collected(chunks)

    assert first["choices"][0]["delta"] == {"content": "go"}
    assert len(upstream.seen) == 1
