from __future__ import annotations

from typing import Any

import pytest

from tutelage.runtime.errors import BadRequest
from tutelage.runtime.gateway.token_count import (
    TOKENS_PER_IMAGE,
    TOKENS_PER_MESSAGE,
    count_input_tokens,
    request_tokens,
)
from tutelage.runtime.types import ChatRequest
from tutelage.runtime.wires.protocol import WireName


def words(text: str) -> int:
    return len(text.split())


def chat(*messages: dict[str, Any], **fields: Any) -> int:
    body = {"model": "agent", "messages": list(messages), **fields}
    return request_tokens(ChatRequest.model_validate(body), words)


def test_instructions_messages_and_tools_are_counted() -> None:
    tool = {"name": "go", "description": "walks to a place", "input_schema": {"type": "object"}}
    body = {
        "model": "agent",
        "system": "be very brief",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "go to the desk"}]}],
    }
    bare = count_input_tokens(body, "messages", words)["input_tokens"]
    assert bare == 3 + 4 + 2 * TOKENS_PER_MESSAGE
    equipped = count_input_tokens({**body, "tools": [tool]}, "messages", words)["input_tokens"]
    assert equipped >= bare + words("walks to a place")


def test_the_same_call_counts_the_same_on_every_wire() -> None:
    said = [{"role": "user", "content": "go to the desk"}]
    body = {"model": "agent", "messages": said}
    on_chat = count_input_tokens(body, "chat", words)
    assert count_input_tokens(body, "messages", words) == on_chat
    asked = {"model": "agent", "input": "go to the desk"}
    answer = count_input_tokens(asked, "responses", words)
    assert answer == {"object": "response.input_tokens", **on_chat}


def test_tool_calls_and_their_results_are_counted() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "go", "arguments": '{"to": "x"}'}}
    custom = {"id": "d", "type": "custom", "custom": {"name": "run", "input": "one two"}}
    counted = chat(
        {"role": "assistant", "content": None, "tool_calls": [call, custom]},
        {"role": "tool", "tool_call_id": "c", "content": "at the desk"},
    )
    assert counted == 2 * TOKENS_PER_MESSAGE + 3 + 3 + 3


def test_pictures_and_files_are_estimated() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    assert chat({"role": "user", "content": [picture]}) == TOKENS_PER_IMAGE + TOKENS_PER_MESSAGE
    small = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}}
    large = {"type": "file", "file": {"file_data": "x" * 400_000}}
    named = {"type": "file", "file": {"file_id": "f"}}
    assert chat({"role": "user", "content": [small]}) == 3_000 + TOKENS_PER_MESSAGE
    assert chat({"role": "user", "content": [named]}) == 3_000 + TOKENS_PER_MESSAGE
    assert chat({"role": "user", "content": [large]}) == 18_000 + TOKENS_PER_MESSAGE


def test_schemas_and_hosted_tools_are_counted() -> None:
    asked = {"role": "user", "content": "go"}
    schema = {"name": "answer", "schema": {"type": "object", "description": "one two three"}}
    form = {"type": "json_schema", "json_schema": schema}
    assert chat(asked, response_format=form) > chat(asked)
    assert chat(asked, response_format={"type": "text"}) == chat(asked)
    hosted = {"type": "web_search_20250305", "name": "web_search", "domains": ["a b c d"]}
    body = {"model": "agent", "messages": [asked], "tools": [hosted]}
    assert count_input_tokens(body, "messages", words)["input_tokens"] > chat(asked)
    assert chat(asked, tools=[{"type": "custom", "custom": {}}]) > chat(asked)


def test_what_only_one_api_understands_is_counted_once() -> None:
    thought = {"type": "thinking", "thinking": "one two three", "signature": "s"}
    said = {"role": "assistant", "content": [thought, {"type": "text", "text": "so be it"}]}
    body = {"model": "agent", "messages": [{"role": "user", "content": "go"}, said]}
    counted = count_input_tokens(body, "messages", words)["input_tokens"]
    assert counted == 2 * TOKENS_PER_MESSAGE + 1 + 3


@pytest.mark.parametrize("body", [[], {}, {"model": "m"}, {"model": "m", "messages": [5]}])
def test_a_body_that_is_no_call_is_refused(body: Any) -> None:
    wires: tuple[WireName, ...] = ("messages", "chat")
    for wire in wires:
        with pytest.raises(BadRequest):
            count_input_tokens(body, wire, words)
