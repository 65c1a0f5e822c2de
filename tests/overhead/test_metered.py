from __future__ import annotations

from tutelage.overhead.metered import MeteredModel
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.types import ChatRequest, Usage


def words(text: str) -> int:
    return len(text.split())


def request(*texts: str, **more: object) -> ChatRequest:
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return ChatRequest.model_validate({"model": "m", "messages": messages, **more})


async def test_a_prompt_that_grows_is_read_from_the_cache_that_keeps_it() -> None:
    usage = Usage(input_tokens=7, output_tokens=1)
    made = MeteredModel(ScriptedModel("go on", usage=usage), words, {"all": 0, "long": 100})
    await made.complete(request("one two three"))
    await made.complete(request("one two three", "go on", "four"), n=2)
    # Each message has the tokens of the template beside its own.
    first, second = 3 + 5, (2 + 5) + (1 + 5)
    assert made.usage["all"] == Usage(
        cache_write_tokens=first + second, cache_read_tokens=first, output_tokens=3 * 3
    )
    assert made.usage["long"] == Usage(input_tokens=2 * first + second, output_tokens=9)
    assert made.told == usage + usage
    assert made.calls == 2


async def test_tools_stand_before_the_messages() -> None:
    tools = [{"type": "function", "function": {"name": "ls"}}]
    made = MeteredModel(ScriptedModel("x"), words, {"all": 0})
    await made.complete(request("one", tools=tools))
    await made.complete(request("two", tools=tools))
    assert made.usage["all"].cache_read_tokens > 5


async def test_a_stream_goes_through_uncounted() -> None:
    made = MeteredModel(ScriptedModel("go"), words, {"all": 0})
    chunks = [chunk async for chunk in made.stream(request("one"))]
    assert chunks
    assert made.calls == 0
