from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.runtime.chunks import Accumulator
from tutelage.runtime.errors import BadRequest, BadResponse
from tutelage.runtime.models.sse import Event
from tutelage.runtime.types import ChatRequest
from tutelage.runtime.wires.chat import ChatWire
from tutelage.runtime.wires.messages import MessagesWire
from tutelage.runtime.wires.protocol import Wire

CHAT: Wire = ChatWire()
MESSAGES: Wire = MessagesWire()
REQUEST = ChatRequest.model_validate({"model": "agent", "messages": []})
MARK = {"cache_control": {"type": "ephemeral"}}

junk = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**40) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=4,
)

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CHAT_BODY: dict[str, Any] = {
    "model": "agent",
    "messages": [
        {"role": "system", "content": "s", "anthropic": {"inline": True, "rest": {}}},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "t", "anthropic": {"rest": MARK}, **MARK},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                {"type": "file", "file": {"filename": "f", "file_data": "data:a/b;base64,AA=="}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": "r"},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "t"}]},
        {"role": "assistant", "content": "a", "anthropic": {"content": [{"type": "text"}]}},
        {"role": "user", "content": "go"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}, **MARK}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    "stream_options": {"include_usage": True},
    "anthropic": {"thinking": {"type": "adaptive"}},
    "parallel_tool_calls": True,
    "max_completion_tokens": 5,
    "stop": ["x"],
    "user": "u",
    "n": 1,
}
SOURCE = {"type": "base64", "media_type": "image/png", "data": "AA=="}
MESSAGES_BODY: dict[str, Any] = {
    "model": "agent",
    "max_tokens": 5,
    "system": [{"type": "text", "text": "s", **MARK}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "t"},
                {"type": "image", "source": SOURCE},
                {"type": "document", "source": {"type": "content", "content": []}, "title": "t"},
                {"type": "search_result", "source": "s", "title": "t", "content": []},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "h", "signature": "s"},
                {"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [{"type": "text", "text": "t"}, {"type": "image", "source": SOURCE}],
                    "is_error": True,
                }
            ],
        },
        {"role": "system", "content": "s"},
    ],
    "tools": [{"name": "n", "input_schema": {}, **MARK}, {"type": "bash_20250124"}],
    "tool_choice": {"type": "tool", "name": "n", "disable_parallel_tool_use": True},
    "output_config": {"format": {"type": "json_schema", "schema": {}}},
    "metadata": {"user_id": "u"},
    "thinking": {"type": "enabled"},
    "stop_sequences": ["x"],
}
CHAT_ANSWER: dict[str, Any] = {
    "id": "c",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "a", "tool_calls": [CALL]},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}},
}
MESSAGES_ANSWER: dict[str, Any] = {
    "id": "m",
    "content": [
        {"type": "thinking", "thinking": "h", "signature": "s"},
        {"type": "text", "text": "t", "citations": None},
        {"type": "tool_use", "id": "t", "name": "n", "input": {}},
    ],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens_details": {"thinking_tokens": 1}},
}
CHAT_EVENTS: list[dict[str, Any]] = [
    {"id": "c", "created": 1, "choices": [{"index": 0, "delta": {"content": "a"}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **CALL}]}}]},
    {"choices": [{"index": 0, "delta": {"reasoning_content": "a", "refusal": "r"}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": CHAT_ANSWER["usage"]},
]
MESSAGES_EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "citations_delta", "citation": {}},
    },
    {"type": "content_block_stop", "index": 0},
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "tool_use", "id": "t", "name": "n", "input": {}},
    },
    {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": "input_json_delta", "partial_json": "{}"},
    },
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "x"}, "usage": {"output_tokens": 1}},
    {"type": "message_stop"},
]


def places(found: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a JSON value, with the keys or positions in it."""
    keys = found.keys() if isinstance(found, dict) else range(len(found))
    for key in list(keys):
        yield found, key
        if isinstance(found[key], dict | list):
            yield from places(found[key])


@st.composite
def mutated(draw: st.DrawFn, whole: Any) -> Any:
    """The value with one or two places made junk, or taken out."""
    changed = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 2))):
        container, key = draw(st.sampled_from(list(places(changed))))
        if draw(st.booleans()):
            container[key] = draw(junk)
        else:
            del container[key]
        if not changed:
            break
    return changed


@pytest.mark.parametrize("wire", [CHAT, MESSAGES])
@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_call_is_served_or_refused(wire: Wire, data: st.DataObject) -> None:
    body = data.draw(mutated(CHAT_BODY if wire is CHAT else MESSAGES_BODY))
    try:
        asked = wire.read(body)
    except BadRequest:
        return
    assert asked.request.model
    for upstream in (CHAT, MESSAGES):
        with suppress(BadRequest):
            sent = upstream.body(asked.request, "other", stream=True)
            assert sent["model"] == "other"
            assert sent["stream"] is True


@pytest.mark.parametrize("wire", [CHAT, MESSAGES])
@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_answer_of_an_upstream_is_a_completion_or_bad(wire: Wire, data: st.DataObject) -> None:
    sent = data.draw(mutated(CHAT_ANSWER if wire is CHAT else MESSAGES_ANSWER))
    body = orjson.loads(orjson.dumps(sent))
    try:
        completion = wire.completion(body)
    except BadResponse:
        return
    asked = MESSAGES.read({**MESSAGES_BODY, "stop_sequences": ["x"]})
    for client in (CHAT, MESSAGES):
        answer = client.answer(completion, asked, {})
        assert answer["usage"]


@pytest.mark.parametrize("wire", [CHAT, MESSAGES])
@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_stream_of_an_upstream_is_chunks_or_bad(wire: Wire, data: st.DataObject) -> None:
    events = data.draw(mutated(CHAT_EVENTS if wire is CHAT else MESSAGES_EVENTS))
    decoder, accumulator = wire.decoder(), Accumulator()
    encoders = [client.encoder(MESSAGES.read(MESSAGES_BODY), "a", 1) for client in (CHAT, MESSAGES)]
    try:
        for event in events:
            for chunk in decoder.feed(Event(orjson.dumps(event))):
                accumulator.add(chunk)
                assert all(isinstance(encoder.feed(chunk), bytes) for encoder in encoders)
    except BadResponse:
        return
    assert accumulator.completion(REQUEST, len).choices
    assert all(encoder.finish({}) for encoder in encoders)
