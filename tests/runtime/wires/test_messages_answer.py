from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import Message

from tutelage.runtime.errors import BadResponse
from tutelage.runtime.types import Completion, Usage
from tutelage.runtime.wires.failure import Failure, Kind
from tutelage.runtime.wires.messages import MessagesWire
from tutelage.runtime.wires.protocol import Asked, Wire

WIRE: Wire = MessagesWire()


def call(*messages: Any, **fields: Any) -> dict[str, Any]:
    said = list(messages) or [{"role": "user", "content": "go"}]
    body = {"model": "agent", "max_tokens": 64, "messages": said, **fields}
    return {name: value for name, value in body.items() if value != "absent"}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def text(value: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **fields}


def chat_messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = WIRE.read(body).request.wire()["messages"]
    return messages


def again(body: dict[str, Any]) -> dict[str, Any]:
    return WIRE.body(WIRE.read(body).request, body["model"], stream=bool(body.get("stream")))


def completion(**fields: Any) -> Completion:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    choice = {"index": 0, "message": {"role": "assistant", "content": "look"}, **fields}
    choice = {"finish_reason": "stop", **choice}
    return Completion.from_wire(
        {"id": "chatcmpl-a.1", "model": "agent", "choices": [choice], "usage": usage}
    )


def answer(given: Completion, asked: Asked | None = None) -> dict[str, Any]:
    body: dict[str, Any] = WIRE.answer(given, asked or WIRE.read(call()), {})
    Message.model_validate(body)
    return body


def test_an_answer_is_a_message() -> None:
    facts = {"served": "student"}
    body = WIRE.answer(completion(), WIRE.read(call()), facts)
    assert body == {
        "id": "msg_a_1",
        "type": "message",
        "role": "assistant",
        "model": "agent",
        "content": [text("look")],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5,
            "cache_creation_input_tokens": 1,
            "cache_read_input_tokens": 4,
            "output_tokens": 3,
            "output_tokens_details": {"thinking_tokens": 2},
        },
        "tutelage": facts,
    }
    assert Message.model_validate(body).usage.cache_read_input_tokens == 4


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ('{"to": "desk"}', {"to": "desk"}),
        ("", {}),
        ("{", {"_raw_arguments": "{"}),
        ("[1]", {"_raw_arguments": "[1]"}),
        ('{"a": "\\ud800"}', {"_raw_arguments": '{"a": "\\ud800"}'}),
    ],
)
def test_tool_calls_are_answered_with_their_input(arguments: str, given: dict[str, Any]) -> None:
    made = {"id": "c1", "type": "function", "function": {"name": "go", "arguments": arguments}}
    body = answer(completion(message={"role": "assistant", "content": None, "tool_calls": [made]}))
    assert body["content"] == [{"type": "tool_use", "id": "c1", "name": "go", "input": given}]
    assert body["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("finish", "stop"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("content_filter", "refusal"),
        (None, "end_turn"),
        ("abort", "end_turn"),
    ],
)
def test_every_finish_has_a_stop_reason(finish: str | None, stop: str) -> None:
    body = answer(completion(finish_reason=finish))
    assert (body["stop_reason"], body["stop_sequence"]) == (stop, None)


def test_a_stop_sequence_that_the_endpoint_names_is_told() -> None:
    asked = WIRE.read(call(stop_sequences=["END"]))
    body = answer(completion(stop_reason="END"), asked)
    assert (body["stop_reason"], body["stop_sequence"]) == ("stop_sequence", "END")
    assert answer(completion(stop_reason=151645), asked)["stop_reason"] == "end_turn"
    assert answer(completion(stop_reason="END"))["stop_reason"] == "end_turn"


def test_reasoning_is_shown_to_those_who_asked_for_it() -> None:
    message = {"role": "assistant", "content": "look", "reasoning_content": "hm"}
    asked = WIRE.read(call(thinking={"type": "adaptive"}))
    thought = {"type": "thinking", "thinking": "hm", "signature": ""}
    assert answer(completion(message=message), asked)["content"] == [thought, text("look")]
    assert answer(completion(message=message))["content"] == [text("look")]


def message(*blocks: Any, **fields: Any) -> dict[str, Any]:
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": list(blocks),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 3},
    }
    return {name: value for name, value in {**body, **fields}.items() if value != "absent"}


def test_a_message_of_an_upstream_is_read() -> None:
    usage = {
        "input_tokens": 5,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 7,
        "output_tokens": 3,
        "output_tokens_details": {"thinking_tokens": 1},
        "service_tier": "standard",
    }
    use = {
        "type": "tool_use",
        "id": "t",
        "name": "go",
        "input": {"to": 1},
        "caller": {"type": "direct"},
    }
    sent_body = message(text("so", citations=None), use, stop_reason="tool_use", usage=usage)
    read = WIRE.completion(sent_body)
    assert read.usage == Usage(
        input_tokens=5, cache_write_tokens=2, cache_read_tokens=7, output_tokens=3
    )
    assert (read.id, read.model) == ("msg_1", "claude")
    (choice,) = read.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.model_dump(exclude_unset=True) == {
        "role": "assistant",
        "content": "so",
        "tool_calls": [
            {
                "id": "t",
                "type": "function",
                "function": {"name": "go", "arguments": '{"to":1}'},
            }
        ],
    }
    counts = read.wire()["usage"]
    assert counts["prompt_tokens"] == 14
    assert counts["completion_tokens_details"] == {"reasoning_tokens": 1}
    assert answer(read)["usage"] == usage


@pytest.mark.parametrize(
    "sent_body",
    [
        message(
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "d"},
            text("a"),
            text("b"),
        ),
        message(text("a"), stop_reason="stop_sequence", stop_sequence="END"),
        message(text("a"), stop_reason="pause_turn"),
        message(text("a"), stop_reason="model_context_window_exceeded"),
        message(stop_reason="refusal"),
        message(text("a"), stop_reason="max_tokens"),
    ],
)
def test_a_message_reaches_a_client_of_its_own_wire_as_it_was(sent_body: dict[str, Any]) -> None:
    read = answer(WIRE.completion(sent_body))
    assert {n: read[n] for n in ("content", "stop_reason", "stop_sequence")} == {
        n: sent_body[n] for n in ("content", "stop_reason", "stop_sequence")
    }


@pytest.mark.parametrize(
    "sent_body",
    [
        [],
        {},
        message(content="absent"),
        message(content="x"),
        message(stop_reason=None),
        message("x"),
        message({"text": "x"}),
        message({"type": "text"}),
        message({"type": "tool_use", "id": "t", "name": "n", "input": "x"}),
        message(text("x"), usage={"input_tokens": "many"}),
        {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
    ],
)
def test_an_answer_that_is_none_is_a_bad_response(sent_body: Any) -> None:
    with pytest.raises(BadResponse):
        WIRE.completion(sent_body)


def test_the_words_of_a_failed_answer_are_kept() -> None:
    with pytest.raises(BadResponse, match="busy") as caught:
        WIRE.completion({"type": "error", "error": {"type": "api_error", "message": "busy"}})
    assert caught.value.body == {"type": "api_error", "message": "busy"}


@pytest.mark.parametrize(
    ("kind", "type"),
    [
        ("invalid_request", "invalid_request_error"),
        ("authentication", "authentication_error"),
        ("permission", "permission_error"),
        ("not_found", "not_found_error"),
        ("too_large", "request_too_large"),
        ("rate_limit", "rate_limit_error"),
        ("quota", "billing_error"),
        ("overloaded", "overloaded_error"),
        ("timeout", "timeout_error"),
        ("upstream", "api_error"),
        ("internal", "api_error"),
    ],
)
def test_every_failure_has_a_type(kind: Kind, type: str) -> None:
    error = {"type": type, "message": "no"}
    assert WIRE.error(Failure(400, kind, "no")) == {"type": "error", "error": error}


def test_an_error_is_told_in_the_words_of_the_upstream() -> None:
    theirs = {"type": "overloaded_error", "message": "Overloaded", "details": {"a": 1}}
    whole = {"type": "error", "error": theirs, "request_id": "r"}
    for body in (theirs, whole):
        failure = Failure(529, "overloaded", "u answered 529: Overloaded", body=body)
        assert WIRE.error(failure)["error"] == theirs
    openai = {"type": "insufficient_quota", "message": "pay", "code": "c"}
    told = WIRE.error(Failure(429, "rate_limit", "u answered 429", body=openai))
    assert told["error"] == {"type": "rate_limit_error", "message": "pay"}


def test_blocks_of_a_user_keep_their_order_as_chat_messages() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": "done"}
    body = call(user(text("before"), result, text("after")))
    assert [message["content"] for message in chat_messages(body)] == ["before", "done", "after"]
    assert again(body)["messages"] == [user(result, text("before"), text("after"))]


def test_parts_of_an_answer_that_no_other_api_knows_are_left_out() -> None:
    parts = [{"type": "reference", "reference_ids": [1]}, text("look")]
    body = answer(completion(message={"role": "assistant", "content": parts}))
    assert body["content"] == [text("look")]
