from __future__ import annotations

import json
from typing import Any

import pytest

from tutelage.runtime.chunks import Accumulator
from tutelage.runtime.errors import BadResponse
from tutelage.runtime.models.sse import Event, EventParser
from tutelage.runtime.types import ChatRequest, Completion
from tutelage.runtime.wires.responses import RESPONSES

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


def response(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**RESPONSE, "output": list(output), **fields}


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **fields}


def decoded(*events: Any) -> list[dict[str, Any]]:
    decoder = RESPONSES.decoder()
    chunks: list[dict[str, Any]] = []
    for one in events:
        raw = one if isinstance(one, bytes) else json.dumps(one).encode()
        chunks += decoder.feed(Event(raw))
    assert decoder.done == (events[-1]["type"] in ("response.completed", "response.incomplete"))
    return chunks


def completion(chunks: list[dict[str, Any]]) -> Completion:
    accumulator = Accumulator()
    for chunk in chunks:
        accumulator.add(chunk)
    return accumulator.completion(ChatRequest(model="agent", messages=[]), len)


def test_a_stream_of_text_becomes_chunks_that_end_with_the_usage() -> None:
    chunks = decoded(
        event("created", response={**RESPONSE, "output": [], "status": "in_progress"}),
        event("in_progress", response=RESPONSE),
        event("output_item.added", output_index=0, item={"type": "message", "content": []}),
        event("output_text.delta", output_index=0, content_index=0, delta="g", logprobs=[]),
        event("output_text.delta", output_index=0, content_index=0, delta="o"),
        event("output_text.done", output_index=0, content_index=0, text="go"),
        event("output_item.done", output_index=0, item=RESPONSE["output"][0]),
        event("completed", response=RESPONSE),
    )
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "g"}, {"content": "o"}, {}]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert {chunk["id"] for chunk in chunks} == {"resp_1"}
    assert completion(chunks).usage.cache_read_tokens == 60


def test_parallel_calls_have_contiguous_indices_and_their_own_ids() -> None:
    call = {"type": "function_call", "name": "look", "arguments": ""}
    chunks = decoded(
        event("created", response=RESPONSE),
        event("output_item.added", output_index=1, item={**call, "call_id": "a"}),
        event("function_call_arguments.delta", output_index=1, delta='{"x"'),
        event("output_item.added", output_index=3, item={**call, "call_id": "b"}),
        event("function_call_arguments.delta", output_index=3, delta="[]"),
        event("function_call_arguments.delta", output_index=1, delta=":1}"),
        event("function_call_arguments.done", output_index=1, arguments='{"x":1}'),
        event("completed", response=response()),
    )
    made = completion(chunks).choices[0]
    assert made.finish_reason == "tool_calls"
    assert [(one["id"], one["function"]["arguments"]) for one in made.message.tool_calls or ()] == [
        ("a", '{"x":1}'),
        ("b", "[]"),
    ]


@pytest.mark.parametrize("pieces", [[], ['a "b"', "\nü"]])
def test_the_input_of_a_custom_tool_is_streamed_as_json(pieces: list[str]) -> None:
    whole = "".join(pieces)
    call = {"type": "custom_tool_call", "name": "patch", "call_id": "a", "input": ""}
    chunks = decoded(
        event("created", response=RESPONSE),
        event("output_item.added", output_index=0, item=call),
        *(event("custom_tool_call_input.delta", output_index=0, delta=one) for one in pieces),
        event("custom_tool_call_input.done", output_index=0, input=whole),
        event("output_item.done", output_index=0, item={**call, "input": whole}),
        event("completed", response=response()),
    )
    calls = completion(chunks).choices[0].message.tool_calls or []
    assert json.loads(calls[0]["function"]["arguments"]) == {"input": whole}


def test_what_a_server_tells_only_at_the_end_of_an_item_is_not_lost() -> None:
    chunks = decoded(
        event("created", response=RESPONSE),
        event("output_text.done", output_index=1, content_index=0, text="go"),
        event(
            "output_item.done",
            output_index=0,
            item={"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        ),
        event("refusal.done", output_index=1, content_index=1, refusal="No."),
        event(
            "output_item.done",
            output_index=2,
            item={"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"},
        ),
        event("completed", response=response()),
    )
    made = completion(chunks).choices[0].message
    assert made.content == "go"
    assert made.model_extra == {"reasoning_content": "Hm.", "refusal": "No."}
    assert (made.tool_calls or [])[0]["function"]["arguments"] == "{}"


def test_a_stream_that_tells_all_in_its_last_event_is_read() -> None:
    assert completion(decoded(event("completed", response=RESPONSE))).text == "go"


def test_a_text_that_is_written_anew_at_its_end_is_not_told_twice() -> None:
    chunks = decoded(
        event("output_text.delta", output_index=0, content_index=0, delta=" go"),
        event("output_text.done", output_index=0, content_index=0, text="go"),
        event("completed", response=RESPONSE),
    )
    assert completion(chunks).text == " go"


def test_reasoning_is_told_once_and_its_parts_are_set_apart() -> None:
    chunks = decoded(
        event("reasoning_summary_text.delta", output_index=0, summary_index=0, delta="A"),
        event("reasoning_summary_text.delta", output_index=0, summary_index=0, delta="a"),
        event("reasoning_summary_text.delta", output_index=0, summary_index=1, delta="B"),
        event("reasoning_text.delta", output_index=0, content_index=0, delta="long"),
        event("reasoning_text.delta", output_index=1, content_index=0, delta="C"),
        event("reasoning_text.delta", output_index=1, content_index=0, delta=""),
        event("incomplete", response=response(status="incomplete")),
    )
    told = "".join(
        chunk["choices"][0]["delta"].get("reasoning_content", "")
        for chunk in chunks
        if chunk["choices"]
    )
    assert told == "Aa\n\nB\n\nC"
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"


def test_log_probabilities_go_with_their_text() -> None:
    tokens = [{"token": "go", "logprob": -0.1}]
    chunks = decoded(
        event("output_text.delta", output_index=0, content_index=0, delta="go", logprobs=tokens),
        event("completed", response={**RESPONSE, "usage": None}),
    )
    assert chunks[0]["choices"][0]["logprobs"] == {"content": tokens}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_unknown_events_and_those_after_the_end_mean_nothing() -> None:
    decoder = RESPONSES.decoder()
    assert decoder.feed(Event(b'{"type": "response.web_search_call.searching"}')) == []
    assert decoder.feed(Event(b"[DONE]")) == []
    assert not decoder.done
    assert decoder.feed(Event(json.dumps(event("completed", response=RESPONSE)).encode()))
    assert decoder.done
    assert decoder.feed(Event(b"not json")) == []


def test_the_name_of_an_event_stands_in_for_a_missing_type() -> None:
    decoder = RESPONSES.decoder()
    raw = b"event: response.completed\ndata: " + json.dumps({"response": RESPONSE}).encode()
    (one,) = EventParser().feed(raw + b"\n\n")
    decoder.feed(one)
    assert decoder.done


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"type": "error", "code": "server_error", "message": "broken"}', "broken"),
        (b'{"type": "error", "error": {"message": "broken"}}', "broken"),
        (b'{"error": {"message": "broken"}}', "broken"),
        (
            b'{"type": "response.failed", "response": {"error": {"message": "broken"}}}',
            "broken",
        ),
        (b'{"type": "response.failed", "response": {}}', "no reason given"),
        (b'{"type": "response.cancelled", "response": {}}', "failed"),
        (b'{"type": "response.completed", "response": {"error": {"message": "x"}}}', "failed: x"),
        (b'{"type": "response.completed", "response": {"output": []}}', "no output"),
        (b'{"type": "response.completed"}', "response of a stream event"),
        (b'{"type": "response.output_item.added", "item": 7}', "item of a stream event"),
        (b'{"type": "response.output_text.delta", "delta": 7}', "delta is no text"),
        (
            b'{"type": "response.output_text.delta", "output_index": "x", "delta": ""}',
            "output_index",
        ),
        (b'{"type": "response.function_call_arguments.delta", "delta": "x"}', "not begun"),
    ],
)
def test_a_malformed_or_failing_stream_is_a_bad_response(raw: bytes, told: str) -> None:
    decoder = RESPONSES.decoder()
    with pytest.raises(BadResponse, match=told):
        decoder.feed(Event(raw))
    assert not decoder.done
