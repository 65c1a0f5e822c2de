from __future__ import annotations

from tests.benchmarks.tiny_world import Corridor, tasks, words

from tutelage.benchmarks.environment import OracleAction
from tutelage.benchmarks.oracle_teacher import OracleTeacher
from tutelage.runtime.prefix_cache import PrefixCacheMeter
from tutelage.runtime.steps import action_text
from tutelage.runtime.types import ChatRequest, Message, Usage


def request(*contents: str) -> ChatRequest:
    roles = ("system", *(("user", "assistant") * len(contents)))
    return ChatRequest(
        model="m",
        messages=[
            Message(role=role, content=content)
            for role, content in zip(roles, contents, strict=False)
        ],
    )


async def teacher(min_tokens: int = 0) -> tuple[OracleTeacher, Corridor]:
    world = Corridor()
    await world.reset(tasks(2)[1])
    meter = PrefixCacheMeter(min_tokens)
    return OracleTeacher(world, count_tokens=words, meter=meter, name="corridor"), world


async def test_the_oracle_answers_and_is_billed_for_the_transcript() -> None:
    asked, world = await teacher()
    first = await asked.complete(request("a b c", "d e"))
    assert (first.text, first.model, first.id) == ("go right", "corridor", "corridor-1")
    assert first.usage == Usage(cache_write_tokens=5, output_tokens=2)
    await world.step("go right")
    second = await asked.complete(request("a b c", "d e", "go right", "f"))
    assert second.usage == Usage(cache_read_tokens=5, cache_write_tokens=3, output_tokens=2)
    assert asked.steps == {"expert": 1, "planner": 1}
    assert (first.model_extra or {})["knowledge"] == "expert"
    assert (second.model_extra or {})["knowledge"] == "planner"


async def test_short_prompts_are_below_what_a_provider_caches() -> None:
    asked, _ = await teacher(min_tokens=1024)
    for _ in range(2):
        completion = await asked.complete(request("a b c", "d e"))
        assert completion.usage == Usage(input_tokens=5, output_tokens=2)


async def test_equal_texts_of_other_roles_are_another_prefix() -> None:
    asked, _ = await teacher()
    await asked.complete(request("a", "b"))
    swapped = ChatRequest(model="m", messages=[Message(role="user", content="a")])
    assert (await asked.complete(swapped)).usage.cache_read_tokens == 0


async def test_n_choices_are_equal_and_all_billed() -> None:
    asked, _ = await teacher()
    completion = await asked.complete(request("a"), n=3)
    assert [choice.message.text for choice in completion.choices] == ["go right"] * 3
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert completion.usage.output_tokens == 6
    assert asked.steps["expert"] == 1


async def test_a_streamed_answer_is_the_same_answer() -> None:
    asked, _ = await teacher()
    chunks = [chunk async for chunk in asked.stream(request("a", "b"))]
    pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1]]
    assert "".join(pieces) == "go right"
    assert chunks[-1]["usage"]["prompt_tokens"] == 2


async def test_tool_calls_are_spoken_as_such_and_tools_are_billed() -> None:
    call = '{"tool_calls":[{"name":"mail__send","arguments":"{\\"to\\":\\"ann\\"}"}]}'

    class Office:
        async def oracle(self) -> OracleAction:
            return OracleAction(call, "expert")

    teacher = OracleTeacher(Office(), count_tokens=len, meter=PrefixCacheMeter(min_tokens=0))
    plain = ChatRequest.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    )
    offered = plain.model_copy(
        update={"tools": [{"type": "function", "function": {"name": "mail__send"}}]}
    )

    without = await teacher.complete(plain)
    answer = await teacher.complete(offered)

    message = answer.choices[0].message
    assert message.content is None
    assert action_text(message) == call
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.usage.prompt_tokens > without.usage.prompt_tokens
