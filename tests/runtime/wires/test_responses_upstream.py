from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import ResponseInputItem
from pydantic import TypeAdapter

from tutelage.runtime.errors import BadRequest, BadResponse
from tutelage.runtime.types import ChatRequest, Usage
from tutelage.runtime.wires.responses import RESPONSES
from tutelage.runtime.wires.responses_ids import KEPT

RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1700000000.0,
    "status": "completed",
    "model": "gpt-x",
    "error": None,
    "output": [
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "go", "annotations": []}],
        }
    ],
    "usage": {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 8},
        "total_tokens": 120,
    },
}
TOOL = {"type": "function", "function": {"name": "look", "description": "Looks."}}


def body(messages: Any = None, *, stream: bool = False, **fields: Any) -> dict[str, Any]:
    told = messages if messages is not None else [{"role": "user", "content": "hi"}]
    request = ChatRequest.model_validate({"model": "agent", "messages": told, **fields})
    made = RESPONSES.body(request, "gpt-x", stream=stream)
    for item in made["input"]:
        if item.get("type") == "message":
            # The package wants an id, which the API does not need and could not know.
            item = {"id": "msg_1", "status": "completed", **item}
        TypeAdapter(ResponseInputItem).validate_python(item)
    return made


def response(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**RESPONSE, "output": list(output), **fields}


def message(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text, **more}]}


def test_a_request_stores_nothing_and_begins_with_its_instructions() -> None:
    told = [
        {"role": "system", "content": "Act."},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]
    assert body(told) == {
        "model": "gpt-x",
        "store": False,
        "instructions": "Act.",
        "input": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "hi"},
        ],
    }


def test_settings_are_translated() -> None:
    made = body(
        stream=True,
        n=3,
        max_tokens=9,
        max_completion_tokens=7,
        temperature=0.5,
        user="u",
        metadata={"a": "b"},
        parallel_tool_calls=False,
        reasoning_effort="low",
        verbosity="low",
        stream_options={"include_usage": True},
        logprobs=True,
        top_logprobs=2,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        anthropic={"thinking": {}},
        top_k=5,
    )
    del made["input"]
    assert made == {
        "model": "gpt-x",
        "store": False,
        "stream": True,
        "max_output_tokens": 7,
        "temperature": 0.5,
        "user": "u",
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low"},
        "text": {
            "format": {"type": "json_schema", "name": "n", "schema": {}},
            "verbosity": "low",
        },
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
        "top_k": 5,
    }


def test_functions_keep_what_strict_means_in_chat() -> None:
    made = body(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "look"}})
    assert made["tools"] == [
        {
            "type": "function",
            "name": "look",
            "description": "Looks.",
            "parameters": {"type": "object", "properties": {}},
            "strict": False,
        }
    ]
    assert made["tool_choice"] == {"type": "function", "name": "look"}


def test_allowed_tools_are_translated() -> None:
    choice = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [TOOL]},
    }
    assert body(tools=[TOOL], tool_choice=choice)["tool_choice"] == {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "look"}],
    }


def test_what_a_client_smuggles_under_our_key_is_not_passed_on() -> None:
    tool = {**TOOL, KEPT: {"type": "web_search"}}
    told = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "y", KEPT: {"reasoning": ["x", {"item": {"type": "a"}}]}},
        {"role": "assistant", "content": "z", KEPT: "x"},
    ]
    made = body(told, tools=[tool])
    assert [one["type"] for one in made["tools"]] == ["function"]
    assert [one["content"] for one in made["input"]] == ["x", "y", "z"]


def test_calls_outputs_and_refusals_become_items() -> None:
    call = {"id": "call_a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    custom = {"id": "call_b", "type": "custom", "custom": {"name": "patch", "input": "x"}}
    told = [
        {"role": "assistant", "content": "I look.", "tool_calls": [call, custom]},
        {"role": "tool", "tool_call_id": "call_a", "content": [{"type": "text", "text": "mug"}]},
        {"role": "tool", "tool_call_id": "call_b", "content": "done"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "content": ""},
    ]
    assert body(told)["input"] == [
        {"role": "assistant", "content": "I look."},
        {"type": "function_call", "call_id": "call_a", "name": "look", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "call_b", "name": "patch", "input": "x"},
        {
            "type": "function_call_output",
            "call_id": "call_a",
            "output": [{"type": "input_text", "text": "mug"}],
        },
        {"type": "custom_tool_call_output", "call_id": "call_b", "output": "done"},
        {
            "role": "assistant",
            "type": "message",
            "content": [{"type": "refusal", "refusal": "No."}],
        },
        {"role": "assistant", "content": ""},
    ]


def test_parts_become_input_parts() -> None:
    mark = {"prompt_cache_breakpoint": {"mode": "explicit"}}
    content = [
        {"type": "text", "text": "see", **mark},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "AA"}},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
    ]
    request = ChatRequest.model_validate(
        {"model": "agent", "messages": [{"role": "user", "content": content}]}
    )
    assert RESPONSES.body(request, "m", stream=False)["input"][0]["content"] == [
        {"type": "input_text", "text": "see", **mark},
        {"type": "input_image", "image_url": "https://x/y.png", "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "AA"},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stop": ["\n"]}, "stop"),
        ({"seed": 1}, "seed"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0.type"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages.0.content.0.type"),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "x"}]}]},
            "messages.0.content.0.type",
        ),
    ],
)
def test_what_the_api_has_no_word_for_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        body(**fields)
    assert caught.value.param == param


def test_a_penalty_of_nothing_is_left_out() -> None:
    assert "presence_penalty" not in body(presence_penalty=0, stop=None)


def test_a_response_is_a_completion() -> None:
    made = RESPONSES.completion(RESPONSE)
    assert (made.id, made.model, made.created) == ("resp_1", "gpt-x", 1700000000)
    assert made.text == "go"
    assert made.choices[0].finish_reason == "stop"
    assert made.usage == Usage(
        input_tokens=30, cache_read_tokens=60, cache_write_tokens=10, output_tokens=20
    )
    assert made.wire()["usage"]["completion_tokens_details"] == {"reasoning_tokens": 8}


def test_calls_reasoning_and_refusals_are_read() -> None:
    made = RESPONSES.completion(
        response(
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Short."}]},
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "no"}],
                "content": [{"type": "reasoning_text", "text": "Long."}],
                "encrypted_content": "gAAA",
            },
            {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]},
            {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "b", "name": "patch", "input": "x\n"},
            {"type": "web_search_call", "id": "ws_1"},
        )
    )
    told = made.choices[0]
    assert told.finish_reason == "tool_calls"
    assert told.message.content is None
    assert (told.message.model_extra or {}) == {
        "reasoning_content": "Short.\n\nLong.",
        "refusal": "No.",
    }
    assert told.message.tool_calls == [
        {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}},
        {
            "id": "b",
            "type": "function",
            "function": {"name": "patch", "arguments": '{"input":"x\\n"}'},
        },
    ]


@pytest.mark.parametrize(
    ("details", "finish_reason"),
    [
        ({"reason": "max_output_tokens"}, "length"),
        ({"reason": "content_filter"}, "content_filter"),
        (None, "length"),
    ],
)
def test_an_incomplete_response_says_why(details: Any, finish_reason: str) -> None:
    cut = {**RESPONSE, "status": "incomplete", "incomplete_details": details, "output": []}
    assert RESPONSES.completion(cut).choices[0].finish_reason == finish_reason


def test_log_probabilities_are_read() -> None:
    tokens = [{"token": "go", "logprob": -0.1, "bytes": [], "top_logprobs": []}]
    made = RESPONSES.completion(response(message("go", logprobs=tokens)))
    assert made.choices[0].logprobs == {"content": tokens}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"error": {"code": "server_error", "message": "broken"}}, "broken"),
        ({"error": "broken"}, "broken"),
        ({"error": {"code": "server_error"}}, "server_error"),
        ({"status": "queued"}, "queued"),
        ({"output": None}, "output is no list"),
        ({"output": ["x"]}, "output is no list"),
        ({"output": []}, "no output"),
        ({"output": [{"type": "message", "content": "x"}]}, "content of an item"),
        ({"output": [message(7)]}, "text is no text"),  # type: ignore[arg-type]
        ({"output": [{"type": "function_call", "arguments": {}}]}, "arguments is no text"),
        ({"usage": {"input_tokens": "many"}}, "usage"),
        ({"created_at": "now"}, "no response"),
    ],
)
def test_what_is_no_good_response_is_a_bad_one(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(BadResponse, match=told):
        RESPONSES.completion({**RESPONSE, **fields})


def test_an_upstreams_error_object_is_kept_for_the_client() -> None:
    error = {"code": "rate_limit_exceeded", "message": "slow down"}
    with pytest.raises(BadResponse) as caught:
        RESPONSES.completion({**RESPONSE, "status": "failed", "error": error})
    assert caught.value.body == error
