from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tutelage.runtime.errors import BadRequest, BadResponse
from tutelage.runtime.models.sse import Event
from tutelage.runtime.types import ChatRequest, Completion
from tutelage.runtime.wires.protocol import Asked
from tutelage.runtime.wires.responses import RESPONSES

FIELDS = st.sampled_from(
    [
        "type",
        "role",
        "content",
        "text",
        "refusal",
        "name",
        "arguments",
        "call_id",
        "id",
        "input",
        "output",
        "summary",
        "tools",
        "format",
        "strict",
        "function",
        "custom",
        "encrypted_content",
        "caller",
        "detail",
        "image_url",
        "file_id",
        "filename",
        "file_data",
        "status",
        "error",
        "usage",
        "incomplete_details",
        "reason",
        "response",
        "item",
        "delta",
        "output_index",
        "content_index",
        "logprobs",
        "annotations",
        "input_tokens",
        "input_tokens_details",
        "message",
        "code",
        "tool_choice",
        "mode",
        "effort",
        "schema",
        "parameters",
        "phase",
        "created_at",
        "model",
        "allowed_callers",
    ]
)
WORDS = st.sampled_from(
    [
        "message",
        "user",
        "assistant",
        "system",
        "reasoning",
        "function_call",
        "function_call_output",
        "custom",
        "function",
        "custom_tool_call",
        "custom_tool_call_output",
        "input_text",
        "output_text",
        "input_image",
        "input_file",
        "refusal",
        "auto",
        "required",
        "allowed_tools",
        "json_schema",
        "grammar",
        "completed",
        "incomplete",
        "failed",
        "look",
        "reasoning_text",
        "summary_text",
        "web_search",
        "program",
        "text",
    ]
)
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=False) | WORDS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5),
    max_leaves=12,
)
OBJECTS = st.dictionaries(FIELDS, VALUES, max_size=6)


def item_of(kinds: list[str]) -> Any:
    """Objects that look right at first sight."""
    return st.tuples(st.sampled_from(kinds), OBJECTS).map(lambda two: {"type": two[0], **two[1]})


ITEMS = item_of(
    ["message", "reasoning", "function_call", "custom_tool_call", "function_call_output"]
)
CALLS = st.fixed_dictionaries(
    {"model": st.just("agent"), "input": VALUES | st.lists(ITEMS | OBJECTS, max_size=4)},
    optional={
        "tools": VALUES | st.lists(item_of(["function", "custom", "mcp"]), max_size=2),
        **dict.fromkeys(
            [
                "instructions",
                "tool_choice",
                "text",
                "reasoning",
                "include",
                "metadata",
                "stream",
                "top_logprobs",
                "prompt",
                "previous_response_id",
                "conversation",
                "background",
                "max_output_tokens",
                "temperature",
            ],
            VALUES,
        ),
    },
)
ANSWER = Completion.from_wire(
    {
        "id": "1",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}}],
    }
)


def served(asked: Asked) -> None:
    """Everything that is done with a call once it is read."""
    json.dumps(RESPONSES.answer(ANSWER, asked, {}))
    with suppress(BadRequest):
        json.dumps(RESPONSES.body(asked.request, "m", stream=True))


@given(CALLS)
def test_any_call_is_served_or_refused(body: dict[str, Any]) -> None:
    try:
        asked = RESPONSES.read(body)
    except BadRequest:
        return
    served(asked)
    assert asked.request.messages or asked.native_only


@given(
    st.fixed_dictionaries(
        {"output": VALUES | st.lists(ITEMS | OBJECTS, max_size=4)},
        optional=dict.fromkeys(
            ["status", "error", "usage", "incomplete_details", "id", "model", "created_at"], VALUES
        ),
    )
)
@example({"output": [{"type": "message", "content": [{"type": [], "text": "x"}]}]})
@example({"output": [{"type": [], "content": "x"}]})
def test_any_answer_of_an_upstream_is_a_completion_or_bad(body: dict[str, Any]) -> None:
    try:
        completion = RESPONSES.completion(body)
    except BadResponse:
        return
    assert completion.choices[0].finish_reason
    assert completion.wire()["usage"]["total_tokens"] >= 0


EVENTS = st.tuples(
    st.sampled_from(
        [
            "created",
            "in_progress",
            "output_item.added",
            "output_item.done",
            "output_text.delta",
            "output_text.done",
            "refusal.delta",
            "refusal.done",
            "reasoning_text.delta",
            "reasoning_summary_text.delta",
            "completed",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "incomplete",
            "failed",
            "custom_tool_call_input.delta",
            "custom_tool_call_input.done",
        ]
    ),
    OBJECTS,
    st.fixed_dictionaries(
        {},
        optional={
            "item": ITEMS,
            "response": st.fixed_dictionaries({"output": st.lists(ITEMS, max_size=2)}),
            "output_index": st.integers(0, 2),
            "delta": st.text(),
        },
    ),
).map(lambda three: {**three[1], **three[2], "type": f"response.{three[0]}"})


@given(st.lists(EVENTS, max_size=6))
def test_any_stream_of_an_upstream_is_chunks_or_bad(events: list[dict[str, Any]]) -> None:
    decoder = RESPONSES.decoder()
    chunks: list[dict[str, Any]] = []
    try:
        for event in events:
            chunks += decoder.feed(Event(json.dumps(event).encode()))
    except BadResponse:
        return
    ended = {"response.completed", "response.incomplete"}
    assert decoder.done == any(event["type"] in ended for event in events)
    encoder = RESPONSES.encoder(
        Asked({}, ChatRequest(model="agent", messages=[]), stream=True), "1", 1
    )
    written = b"".join(encoder.feed(chunk) for chunk in chunks) + encoder.finish({})
    assert written.count(b"event: response.created") == 1


@given(
    st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["assistant", "user", "tool"]), "content": st.text()},
            optional={"responses": VALUES, "refusal": VALUES},
        ),
        max_size=3,
    )
)
def test_what_chat_clients_send_under_our_key_does_no_harm(messages: list[Any]) -> None:
    request = ChatRequest.model_validate({"model": "agent", "messages": messages})
    assert len(RESPONSES.body(request, "m", stream=False)["input"]) >= len(messages)
