from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tutelage.runtime.types import Message
from tutelage.runtime.uncalled import CallsTools, calls_tools, without_calls

ROLE = {"role": "assistant", "content": ""}
CALL = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "pay", "arguments": "{}"}}]}
OLD_CALL = {"function_call": {"name": "pay", "arguments": "{}"}}


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 1}}


async def stream(*chunks: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
    for one in chunks:
        yield one


async def heard(
    *chunks: dict[str, Any], passed: list[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    passed = [] if passed is None else passed
    async for one in without_calls(stream(*chunks)):
        passed.append(one)
    return passed


async def test_an_answer_without_calls_is_passed_on_as_it_is() -> None:
    chunks = [chunk(ROLE), chunk({"content": "go"}), chunk({}, "stop"), USAGE]
    assert await heard(*chunks) == chunks


@pytest.mark.parametrize("call", [CALL, OLD_CALL])
@pytest.mark.parametrize("before", [[], [chunk(ROLE)], [chunk(ROLE), chunk({"content": ""})]])
async def test_an_answer_that_begins_with_a_call_says_nothing(
    call: dict[str, Any], before: list[dict[str, Any]]
) -> None:
    passed: list[dict[str, Any]] = []
    with pytest.raises(CallsTools) as raised:
        await heard(*before, chunk(call), chunk({}, "tool_calls"), passed=passed)
    assert passed == []
    assert raised.value.tool == "pay"


async def test_thoughts_are_passed_on_and_the_call_after_them_breaks_the_answer_off() -> None:
    passed: list[dict[str, Any]] = []
    thought = chunk({"reasoning_content": "I should pay"})
    with pytest.raises(CallsTools):
        await heard(chunk(ROLE), thought, chunk(CALL), passed=passed)
    assert passed == [chunk(ROLE), thought]


async def test_a_call_after_a_text_is_left_out() -> None:
    found = await heard(
        chunk(ROLE), chunk({"content": "go"}), chunk(CALL), chunk({}, "tool_calls"), USAGE
    )
    assert found == [chunk(ROLE), chunk({"content": "go"}), chunk({}), chunk({}, "stop"), USAGE]


async def test_a_text_in_the_chunk_of_a_call_is_kept() -> None:
    assert await heard(chunk({"content": "go", **CALL}, "tool_calls")) == [
        chunk({"content": "go"}, "stop")
    ]


async def test_an_answer_that_says_nothing_is_passed_on_at_its_end() -> None:
    chunks = [chunk(ROLE), chunk({}, "stop")]
    assert await heard(*chunks) == chunks
    assert await heard(chunk(ROLE)) == [chunk(ROLE)]
    assert await heard() == []


async def test_the_stream_is_closed_when_its_reader_leaves() -> None:
    closed: list[bool] = []

    async def endless() -> AsyncGenerator[dict[str, Any]]:
        try:
            while True:
                yield chunk({"content": "go"})
        finally:
            closed.append(True)

    passed = without_calls(endless())
    await anext(passed)
    await passed.aclose()
    assert closed == [True]


@pytest.mark.parametrize(
    ("message", "tool"),
    [
        ({"content": "go"}, None),
        ({"content": "go", "tool_calls": []}, None),
        (CALL, "pay"),
        (OLD_CALL, "pay"),
        ({"tool_calls": [{"type": "custom", "custom": {"name": "x"}}]}, "(unnamed)"),
        ({"tool_calls": [{"function": None}]}, "(unnamed)"),
        ({"function_call": "pay"}, "(unnamed)"),
    ],
)
def test_the_first_tool_of_a_message_is_named(message: dict[str, Any], tool: str | None) -> None:
    assert calls_tools(Message.model_validate({"role": "assistant", **message})) == tool
