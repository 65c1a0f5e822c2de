from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tutelage.runtime.models.sse import EventParser
from tutelage.runtime.wires.failure import Failure
from tutelage.runtime.wires.responses import RESPONSES

EVENTS: Any = TypeAdapter(ResponseStreamEvent)
BODY = {
    "model": "agent",
    "input": "hello",
    "stream": True,
    "tools": [
        {"type": "function", "name": "look", "parameters": None, "strict": False},
        {"type": "custom", "name": "apply_patch"},
    ],
}
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 1},
}


def chunk(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def fragment(index: int, arguments: str, id: str | None = None, name: str = "look") -> Any:
    made: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
    if id is not None:
        made = {"index": index, "id": id, "type": "function"}
        made["function"] = {"name": name, "arguments": arguments}
    return chunk(tool_calls=[made])


def written(chunks: list[dict[str, Any]], end: Any = None, body: Any = None) -> list[Any]:
    """All events, each of which the openai package can read."""
    encoder = RESPONSES.encoder(RESPONSES.read(body or BODY), "chatcmpl-1", 1700000000)
    raw = b"".join(encoder.feed(one) for one in chunks)
    raw += encoder.finish({"served": "teacher"}) if end is None else encoder.fail(end)
    assert encoder.feed(chunk(content="late")) == b""
    assert encoder.finish({}) == b""
    assert encoder.fail(Failure(502, "upstream", "late")) == b""
    events = EventParser().feed(raw)
    bodies = [json.loads(event.data) for event in events]
    assert [one["sequence_number"] for one in bodies] == list(range(len(bodies)))
    for event, one in zip(events, bodies, strict=True):
        assert event.name == one["type"].encode()
        EVENTS.validate_python(one)
    return bodies


def types(events: list[Any]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def assembled(events: list[Any]) -> Any:
    """What the openai package makes of a stream."""
    state: Any = ResponseStreamState(input_tools=openai.omit, text_format=openai.omit)
    for event in events:
        state.handle_event(EVENTS.validate_python(event))
    return state._completed_response


def test_a_text_goes_through_all_its_events() -> None:
    events = written(
        [
            chunk(role="assistant", content=""),
            chunk(content="go to "),
            chunk(content="desk 1"),
            chunk("stop"),
            {"choices": [], "usage": USAGE},
        ]
    )
    assert types(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    first, last = events[0]["response"], events[-1]["response"]
    assert first["status"] == "in_progress"
    assert first["output"] == []
    assert first["usage"] is None
    assert first["id"] == last["id"] == "resp_tut_1"
    assert first["created_at"] == last["created_at"] == 1700000000
    assert events[2]["item"]["content"] == []
    assert events[6]["text"] == "go to desk 1"
    assert last["output"] == [events[8]["item"]]
    assert last["usage"]["input_tokens_details"]["cached_tokens"] == 4
    assert last["usage"]["output_tokens_details"]["reasoning_tokens"] == 1
    assert last["tutelage"] == {"served": "teacher"}
    assert assembled(events).output_text == "go to desk 1"


def test_reasoning_text_and_calls_follow_one_another() -> None:
    events = written(
        [
            chunk(reasoning_content="Hm"),
            chunk(reasoning="m."),
            chunk(content="I look."),
            fragment(0, "", "call_a"),
            fragment(0, '{"a"'),
            fragment(0, ":1}"),
            chunk("tool_calls"),
        ]
    )
    assert types(events)[2:] == [
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    last = events[-1]["response"]
    assert [item["id"] for item in last["output"]] == ["rs_tut_1_0", "msg_tut_1_1", "fc_tut_1_2"]
    assert last["output"][0]["content"][0]["text"] == "Hmm."
    assert last["output"][2]["call_id"] == "call_a"
    assert last["output"][2]["arguments"] == '{"a":1}'
    assert assembled(events).output[2].arguments == '{"a":1}'


def test_pieces_of_parallel_calls_may_come_in_turns() -> None:
    events = written(
        [
            fragment(0, "", "call_a"),
            fragment(1, "", "call_b"),
            fragment(0, '{"x":'),
            fragment(1, "{}"),
            fragment(0, "1}"),
            chunk("tool_calls"),
        ]
    )
    output = events[-1]["response"]["output"]
    assert [(item["call_id"], item["arguments"]) for item in output] == [
        ("call_a", '{"x":1}'),
        ("call_b", "{}"),
    ]
    added = [event["item"]["id"] for event in events if event["type"].endswith("item.added")]
    assert added == [item["id"] for item in output]
    told = [event for event in events if event["type"] == "response.function_call_arguments.delta"]
    assert [event["item_id"] for event in told] == [added[0], added[1], added[0]]


def test_calls_that_all_have_the_index_0_are_told_apart_by_their_ids() -> None:
    events = written([fragment(0, "{}", "call_a"), fragment(0, "[]", "call_b")])
    output = events[-1]["response"]["output"]
    assert [(item["call_id"], item["arguments"]) for item in output] == [
        ("call_a", "{}"),
        ("call_b", "[]"),
    ]


def test_a_call_without_an_id_gets_one_that_stays() -> None:
    nameless = {"index": 0, "function": {"name": "look", "arguments": "{}"}}
    events = written([chunk(tool_calls=[nameless])])
    calls = {event["item"]["call_id"] for event in events if "item" in event}
    assert calls == {"call_tut_1_0"}


def test_the_input_of_a_custom_tool_is_told_in_the_end() -> None:
    events = written(
        [
            fragment(0, "", "call_a", "apply_patch"),
            fragment(0, '{"input":"a\\'),
            fragment(0, 'nb"}'),
            chunk("tool_calls"),
        ]
    )
    assert types(events)[2:] == [
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
        "completed",
    ]
    assert events[-1]["response"]["output"][0]["input"] == "a\nb"
    assert events[2]["item"]["input"] == ""


def test_text_after_a_call_is_a_message_of_its_own() -> None:
    events = written([fragment(0, "{}", "call_a"), chunk(content="done"), fragment(0, " ")])
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["function_call", "message"]
    assert output[0]["arguments"] == "{} "


def test_a_refusal_after_a_text_is_a_part_of_its_own() -> None:
    events = written(
        [chunk(content="Hm. "), chunk(refusal="N"), chunk(refusal="o."), chunk("stop")]
    )
    assert types(events)[4:-1] == [
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "content_part.added",
        "refusal.delta",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
        "output_item.done",
    ]
    assert events[-1]["response"]["output"][0]["content"][1] == {
        "type": "refusal",
        "refusal": "No.",
    }
    assert [event["content_index"] for event in events if "content_index" in event][-1] == 1


@pytest.mark.parametrize("apart", [True, False])
def test_a_cut_answer_is_incomplete_and_so_is_its_last_item(apart: bool) -> None:
    chunks = (
        [chunk(content="go"), chunk("length")] if apart else [chunk("content_filter", content="go")]
    )
    events = written(chunks)
    assert events[-1]["type"] == "response.incomplete"
    last = events[-1]["response"]
    assert last["status"] == "incomplete"
    reason = "max_output_tokens" if apart else "content_filter"
    assert last["incomplete_details"] == {"reason": reason}
    assert last["output"][0]["status"] == "incomplete"


def test_an_answer_without_anything_is_an_empty_message() -> None:
    events = written([])
    assert types(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]


def test_only_the_first_choice_is_told() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "other"}, "finish_reason": None}]}
    assert assembled(written([chunk(content="first"), other])).output_text == "first"


def test_log_probabilities_go_with_their_text() -> None:
    told = {"content": [{"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}]}
    one = chunk(content="x")
    one["choices"][0]["logprobs"] = told
    events = written([one])
    assert events[4]["logprobs"] == told["content"]
    content = events[-1]["response"]["output"][0]["content"]
    assert content[0]["logprobs"] == told["content"]


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure(502, "upstream", "gone"), "server_error"),
        (Failure(429, "rate_limit", "slow"), "rate_limit_exceeded"),
        (Failure(400, "invalid_request", "bad"), "invalid_prompt"),
        (Failure(429, "quota", "poor"), "insufficient_quota"),
        (
            Failure(400, "invalid_request", "long", code="context_length_exceeded"),
            "context_length_exceeded",
        ),
    ],
)
def test_a_failure_ends_the_stream_with_error_and_failed(failure: Failure, code: str) -> None:
    encoder = RESPONSES.encoder(RESPONSES.read(BODY), "chatcmpl-1", 1)
    raw = encoder.feed(chunk(content="go")) + encoder.fail(failure)
    events = [json.loads(event.data) for event in EventParser().feed(raw)]
    assert types(events)[-3:] == ["output_text.delta", "error", "failed"]
    assert events[-2]["message"] == failure.message
    assert events[-2]["error"]["message"] == failure.message
    last = events[-1]["response"]
    assert last["status"] == "failed"
    assert last["error"] == {"code": code, "message": failure.message}
    assert last["output"][0]["status"] == "incomplete"
    assert last["output"][0]["content"][0]["text"] == "go"


def test_a_failure_before_anything_else_begins_and_ends_the_response() -> None:
    events = written([], Failure(504, "timeout", "late"))
    assert types(events) == ["created", "in_progress", "error", "failed"]
    assert events[-1]["response"]["output"] == []
    Response.model_validate(events[-1]["response"])


def test_a_failure_leaves_items_that_have_ended_as_they_are() -> None:
    events = written([chunk(content="go"), chunk("stop")], Failure(502, "upstream", "gone"))
    assert events[-1]["response"]["output"][0]["status"] == "completed"


def test_the_ping_is_a_comment() -> None:
    assert EventParser().feed(RESPONSES.ping) == []
