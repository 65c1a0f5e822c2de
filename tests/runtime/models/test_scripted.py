from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from tutelage.runtime.errors import BadResponse, ConfigError, RateLimited
from tutelage.runtime.models.scripted import Breakdown, ScriptedModel
from tutelage.runtime.protocols import Model
from tutelage.runtime.types import ChatRequest, Choice, Completion, Message, Usage


def request(text: str = "You see a desk.", **fields: Any) -> ChatRequest:
    messages = [{"role": "user", "content": text}]
    return ChatRequest.model_validate({"model": "fake", "messages": messages, **fields})


def texts(completion: Completion) -> list[str]:
    return [choice.message.text for choice in completion.choices]


async def streamed(model: Model, asked: ChatRequest) -> list[dict[str, Any]]:
    return [chunk async for chunk in model.stream(asked)]


def content(chunks: Sequence[dict[str, Any]], index: int = 0) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["index"] == index
    )


async def test_a_single_text_is_said_for_ever() -> None:
    model = ScriptedModel("look")
    assert texts(await model.complete(request(), 3)) == ["look"] * 3
    assert texts(await model.complete(request())) == ["look"]


async def test_a_list_gives_one_entry_a_call() -> None:
    model = ScriptedModel(["look", ["a", "b"], Message(role="assistant", content="c")])
    assert texts(await model.complete(request(), 2)) == ["look", "look"]
    assert texts(await model.complete(request(), 3)) == ["a", "b", "a"]
    assert texts(await model.complete(request())) == ["c"]
    with pytest.raises(BadResponse, match="no answer left for call 4"):
        await model.complete(request())


async def test_an_endless_iterator_is_a_script() -> None:
    model = ScriptedModel(itertools.cycle(["left", "right"]))
    assert [(await model.complete(request())).text for _ in range(3)] == ["left", "right", "left"]


async def test_a_function_is_asked_once_a_sample() -> None:
    numbers = itertools.count()
    model = ScriptedModel(lambda asked: f"{asked.messages[-1].text} {next(numbers)}")
    assert texts(await model.complete(request("go"), 3)) == ["go 0", "go 1", "go 2"]


async def test_choices_keep_their_fields_and_get_their_place() -> None:
    cut = Choice(
        index=9, message=Message(role="assistant", content="go to"), finish_reason="length"
    )
    completion = await ScriptedModel([[cut, "look"]]).complete(request(), 2)
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert [choice.finish_reason for choice in completion.choices] == ["length", "stop"]
    assert completion.model == "fake"


async def test_an_exception_in_the_script_is_raised() -> None:
    model = ScriptedModel([RateLimited("slow down"), "look"])
    with pytest.raises(RateLimited, match="slow down"):
        await model.complete(request())
    assert (await model.complete(request())).text == "look"


async def test_a_failing_call_uses_up_no_answer() -> None:
    model = ScriptedModel(
        ["look"], failures={0: BadResponse("down"), 1: Breakdown(OSError("gone"), 1)}
    )
    with pytest.raises(BadResponse, match="down"):
        await model.complete(request())
    with pytest.raises(OSError, match="gone"):
        await model.complete(request())
    assert (await model.complete(request())).text == "look"


async def test_calls_are_recorded() -> None:
    model = ScriptedModel("look", failures={1: BadResponse("down")})
    await model.complete(request("a"), 3)
    with pytest.raises(BadResponse):
        await model.complete(request("b"))
    await streamed(model, request("c"))
    assert [asked.messages[0].text for asked in model.requests] == ["a", "b", "c"]
    assert [(call.n, call.streamed) for call in model.calls] == [(3, False), (1, False), (1, True)]


async def test_usage_bills_the_prompt_once_and_every_sample() -> None:
    completion = await ScriptedModel("x" * 5).complete(request("y" * 8), 3)
    assert completion.usage == Usage(input_tokens=2, output_tokens=6)


async def test_usage_can_be_given() -> None:
    fixed = Usage(input_tokens=7, output_tokens=1)
    assert (await ScriptedModel("x", usage=fixed).complete(request())).usage == fixed
    counted = ScriptedModel("x", usage=lambda _, choices: Usage(output_tokens=len(choices)))
    assert (await counted.complete(request(), 4)).usage == Usage(output_tokens=4)


async def test_latency_is_waited_before_the_answer() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    model = ScriptedModel("look", latency_s=0.5, sleep=sleep)
    await model.complete(request())
    await streamed(model, request())
    assert waits == [0.5, 0.5]


async def test_a_slow_call_can_be_cancelled() -> None:
    call = asyncio.create_task(ScriptedModel("look", latency_s=60).complete(request()))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_stream_comes_in_several_chunks() -> None:
    chunks = await streamed(ScriptedModel("go to desk 1"), request())
    assert content(chunks) == "go to desk 1"
    assert sum(bool(chunk["choices"][0]["delta"].get("content")) for chunk in chunks) == 4
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == [None, "stop"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_a_stream_tells_its_usage_only_when_asked() -> None:
    asked = request("y" * 8, stream_options={"include_usage": True})
    chunks = await streamed(ScriptedModel("look"), asked)
    assert chunks[-1]["choices"] == []
    assert Usage.from_wire(chunks[-1]["usage"]) == Usage(input_tokens=2, output_tokens=1)
    assert all("usage" not in chunk for chunk in await streamed(ScriptedModel("look"), request()))


async def test_a_stream_gives_all_choices_and_tool_calls() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    calling = Message(role="assistant", content=None, tool_calls=[call])
    chunks = await streamed(ScriptedModel([["", calling]]), request(n=2))
    assert content(chunks, 0) == content(chunks, 1) == ""
    fragments = [
        fragment
        for chunk in chunks
        for fragment in chunk["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert fragments[0]["function"] == {"name": "f", "arguments": ""}
    assert "".join(piece["function"]["arguments"] for piece in fragments) == '{"a": 1}'
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert [reason for reason in finishes if reason] == ["stop", "tool_calls"]


@pytest.mark.parametrize(("after", "seen"), [(0, 0), (2, 2), (100, 6)])
async def test_a_stream_can_break_in_the_middle(after: int, seen: int) -> None:
    broken = Breakdown(BadResponse("cut"), after_chunks=after)
    model = ScriptedModel("go to desk 1", failures={0: broken})
    stream = model.stream(request())
    for _ in range(seen):
        await anext(stream)
    with pytest.raises(BadResponse, match="cut"):
        await anext(stream)


async def test_a_stream_can_fail_before_its_first_chunk() -> None:
    model = ScriptedModel("look", failures={0: RateLimited("slow down")})
    with pytest.raises(RateLimited):
        await anext(model.stream(request()))


async def test_impossible_calls_are_refused() -> None:
    with pytest.raises(ConfigError, match="n = 0"):
        await ScriptedModel("look").complete(request(), 0)
    with pytest.raises(ConfigError, match="call 1 is empty"):
        await ScriptedModel([[]]).complete(request())
