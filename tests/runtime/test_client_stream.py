from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

MESSAGES: Any = [
    {"role": "system", "content": "Act."},
    {"role": "user", "content": "Task: tidy.\nA room."},
]
TOOLS: Any = [{"type": "function", "function": {"name": "go", "parameters": {"type": "object"}}}]
TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "go", "arguments": '{"to": 1}'}}


async def test_a_stream_is_one_of_chunk_objects(any_client: Any, upstream: Any) -> None:
    stream = await any_client.create(stream=True)
    chunks = await any_client.read(stream)
    await any_client.close()

    kind = openai.AsyncStream if any_client.is_async else openai.Stream
    assert isinstance(stream, kind)
    assert all(type(chunk) is ChatCompletionChunk for chunk in chunks)
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["go to ", "desk 1", None]
    assert {chunk.model for chunk in chunks} == {"gpt-x"}
    assert upstream.last["stream"] is True


async def test_the_usage_ends_a_stream_where_it_is_asked_for(any_client: Any) -> None:
    stream = await any_client.create(stream=True, stream_options={"include_usage": True})
    chunks = await any_client.read(stream)
    await any_client.close()

    assert chunks[-1].choices == []
    assert chunks[-1].usage.prompt_tokens == 7


async def test_an_error_in_mid_stream_is_the_clients_own(any_client: Any, upstream: Any) -> None:
    pieces = upstream.sse(upstream.chunk("go"), upstream.error("out of memory"))
    upstream.will(stream=pieces)
    stream = await any_client.create(stream=True)

    with pytest.raises(openai.APIError, match="out of memory"):
        await any_client.read(stream)
    await any_client.close()


@pytest.mark.parametrize("way", ["close", "with"])
def test_a_stream_that_is_left_early_hangs_up(client: Any, upstream: Any, way: str) -> None:
    pieces = [upstream.chunk("go")] * 50
    upstream.will(stream=upstream.sse(*pieces, done=False), hang="middle")
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    if way == "close":
        stream.close()
    else:
        with stream:
            next(stream)

    assert upstream.disconnected.wait(5)


async def test_an_async_stream_that_is_left_early_hangs_up(
    async_client: Any, upstream: Any
) -> None:
    upstream.will(stream=upstream.sse(upstream.chunk("go"), done=False), hang="middle")
    async with await async_client.chat.completions.create(
        model="m", messages=MESSAGES, stream=True
    ) as stream:
        await anext(stream)

    assert await asyncio.to_thread(upstream.disconnected.wait, 5)


async def test_cancelling_a_call_hangs_up(async_client: Any, upstream: Any) -> None:
    upstream.will(hang="before")
    create = async_client.chat.completions.create
    call = asyncio.create_task(create(model="m", messages=MESSAGES))
    assert await asyncio.to_thread(upstream.arrived.wait, 5)

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.to_thread(upstream.disconnected.wait, 1)


def test_the_streaming_helper_works_on_a_wrapped_client(client: Any) -> None:
    with client.chat.completions.stream(model="m", messages=MESSAGES) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()

    assert "content.delta" in kinds
    assert final.choices[0].message.content == "go to desk 1"


async def test_the_async_streaming_helper_works_on_a_wrapped_client(async_client: Any) -> None:
    async with async_client.chat.completions.stream(model="m", messages=MESSAGES) as stream:
        final = await stream.get_final_completion()

    assert final.choices[0].message.content == "go to desk 1"


def test_a_streaming_response_is_the_clients_own(client: Any, upstream: Any) -> None:
    with client.chat.completions.with_streaming_response.create(
        model="m", messages=MESSAGES
    ) as response:
        body = response.json()

    assert body == upstream.completion
    assert client.tutelage.runtime.kept.traces_in_order == []
