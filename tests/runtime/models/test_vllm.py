"""Against a real vLLM server that serves the real student."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from tutelage.runtime.errors import ContextTooLong, Refused
from tutelage.runtime.models.openai import OpenAIModel
from tutelage.runtime.types import ChatRequest, Message

if TYPE_CHECKING:
    from tests.conftest import VllmEndpoint

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


@pytest.fixture
async def model(vllm_server: VllmEndpoint) -> AsyncIterator[OpenAIModel]:
    async with OpenAIModel(vllm_server.base_url, vllm_server.model) as made:
        yield made


def ask(text: str, **fields: Any) -> ChatRequest:
    fields = {"temperature": 0, "max_tokens": 24, **fields}
    return ChatRequest(model="student", messages=[Message(role="user", content=text)], **fields)


async def test_the_student_answers_a_chat(model: OpenAIModel) -> None:
    completion = await model.complete(ask("What is the capital of France?"))
    assert "Paris" in completion.text
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage.output_tokens > 0


async def test_five_samples_bill_the_prompt_once(model: OpenAIModel) -> None:
    request = ask(f"Name an animal. {uuid.uuid4()}", temperature=1.0, seed=7, max_tokens=12)
    one = await model.complete(request, n=1)
    five = await model.complete(request, n=5)
    assert [choice.index for choice in five.choices] == [0, 1, 2, 3, 4]
    assert len({choice.message.text for choice in five.choices}) > 1
    assert five.usage.prompt_tokens == one.usage.prompt_tokens
    assert one.usage.output_tokens <= five.usage.output_tokens <= 5 * 12


async def test_log_probabilities_come_with_alternatives(model: OpenAIModel) -> None:
    completion = await model.complete(
        ask("What is the capital of France?", logprobs=True, top_logprobs=2)
    )
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None
    first = logprobs["content"][0]
    assert first["logprob"] <= 0
    assert len(first["top_logprobs"]) == 2
    assert first["top_logprobs"][0]["logprob"] >= first["top_logprobs"][1]["logprob"]


async def test_a_shared_beginning_is_read_from_the_prefix_cache(
    model: OpenAIModel, vllm_server: VllmEndpoint
) -> None:
    fresh = " ".join(str(uuid.uuid4()) for _ in range(20))
    before = vllm_server.metrics()
    first = await model.complete(ask(f"{fresh} Say yes.", max_tokens=1))
    between = vllm_server.metrics()
    second = await model.complete(ask(f"{fresh} Say no.", max_tokens=1))
    after = vllm_server.metrics()
    shared = int(0.7 * first.usage.prompt_tokens)
    assert (between - before).prefix_cache_hits < 200
    assert (after - between).prefix_cache_hits >= shared
    assert (after - between).prefix_cache_queries >= second.usage.prompt_tokens
    assert second.usage.cache_read_tokens >= shared
    assert second.usage.prompt_tokens > second.usage.cache_read_tokens


async def test_a_streamed_answer_ends_with_its_usage(model: OpenAIModel) -> None:
    request = ask("What is the capital of France?", stream_options={"include_usage": True})
    chunks = [chunk async for chunk in model.stream(request)]
    text = "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )
    assert "Paris" in text
    assert chunks[-1]["usage"]["completion_tokens"] > 0


async def test_a_prompt_beyond_the_window_is_too_long(model: OpenAIModel) -> None:
    with pytest.raises(ContextTooLong):
        await model.complete(ask("again " * 9000))


async def test_several_greedy_samples_are_refused_by_the_server(model: OpenAIModel) -> None:
    with pytest.raises(Refused, match="greedy"):
        await model.complete(ask("Name an animal.", temperature=0), n=3)
