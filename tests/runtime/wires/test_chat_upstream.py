from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from tutelage.runtime.chunks import chunks
from tutelage.runtime.errors import BadRequest, BadResponse
from tutelage.runtime.models.sse import Event, EventParser
from tutelage.runtime.types import ChatRequest, Completion
from tutelage.runtime.wires.chat import ChatWire
from tutelage.runtime.wires.chat_request import request_of
from tutelage.runtime.wires.native import plain
from tutelage.runtime.wires.protocol import Asked, Wire

WIRE: Wire = ChatWire()


FACTS = {"served": "student", "decision_id": "d1"}


def body(**fields: Any) -> dict[str, Any]:
    call = {"model": "agent", "messages": [{"role": "user", "content": "go"}]}
    return {name: value for name, value in {**call, **fields}.items() if value != "absent"}


def spoken(**fields: Any) -> dict[str, Any]:
    return body(messages=[{"role": "user", "content": "go", **fields}])


def asked(**fields: Any) -> Asked:
    return WIRE.read(body(**fields))


def completion(**fields: Any) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "look around"},
        "finish_reason": "stop",
        "logprobs": None,
    }
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "agent",
        "system_fingerprint": "fp_1",
        "choices": [choice],
        "usage": usage,
    }
    return {**answer, **fields}


def chunk(delta: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None}]
    head = {"id": "upstream", "object": "chat.completion.chunk", "created": 1, "model": "agent"}
    return {**head, "choices": choices, **fields}


def written(raw: bytes) -> list[Any]:
    events = EventParser().feed(raw)
    return [e.data if e.data == b"[DONE]" else orjson.loads(e.data) for e in events]


def streamed(
    call: Asked, *pieces: Mapping[str, Any], facts: Mapping[str, Any] = FACTS
) -> list[Any]:
    encoder = WIRE.encoder(call, "chatcmpl-ours", 5)
    return written(b"".join([*map(encoder.feed, pieces), encoder.finish(facts)]))


def test_an_upstream_is_asked_for_the_usage_of_its_stream() -> None:
    request = ChatRequest.model_validate(
        body(stream=True, stream_options={"include_usage": False, "x": 1}, top_k=2)
    )
    assert WIRE.body(request, "big", stream=True) == body(
        model="big", stream=True, stream_options={"include_usage": True, "x": 1}, top_k=2
    )
    assert WIRE.body(request, "big", stream=False) == body(model="big", top_k=2)


def test_what_only_the_messages_api_understands_is_not_sent_on() -> None:
    native = {"anthropic": {"cache_control": {"type": "ephemeral"}}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = [
        {"role": "user", "content": [{"type": "text", "text": "go"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "user", "content": "on"},
    ]
    marked = [
        {"role": "user", "content": [{"type": "text", "text": "go", **native}]},
        {"role": "assistant", "content": None, "tool_calls": [{**call, **native}]},
        {"role": "user", "content": "on", **native},
    ]
    tool = {"type": "function", "function": {"name": "f"}}
    request = ChatRequest.model_validate(
        body(messages=marked, tools=[{**tool, **native}], **native)
    )
    assert WIRE.body(request, "big", stream=False) == body(model="big", messages=said, tools=[tool])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([], "no object"),
        ({}, "without choices"),
        ({"choices": []}, "without choices"),
        ({"error": {"message": "busy"}}, "busy"),
        ({"choices": [{}]}, "no chat completion"),
    ],
)
def test_an_answer_that_is_none_is_a_bad_response(answer: Any, words: str) -> None:
    with pytest.raises(BadResponse, match=words):
        WIRE.completion(answer)


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[1]",
        b'{"error": {"message": "busy"}}',
        b'{"error": "busy"}',
        b'{"choices": 3}',
        b'{"choices": [3]}',
        b'{"choices": [{"delta": 3}]}',
        b'{"choices": [{"delta": {"content": 3}}]}',
        b'{"choices": [{"delta": {"tool_calls": 3}}]}',
        b'{"choices": [{"delta": {"tool_calls": [3]}}]}',
        b'{"choices": [{"delta": {"tool_calls": [{"index": "a"}]}}]}',
        b'{"choices": [{"delta": {"tool_calls": [{"index": 0, "function": 3}]}}]}',
        b'{"choices": [], "usage": 3}',
        b"\xff",
    ],
)
def test_a_malformed_event_is_a_bad_response(data: bytes) -> None:
    with pytest.raises(BadResponse):
        WIRE.decoder().feed(Event(data))


def test_the_words_of_an_upstream_that_fails_in_mid_stream_are_kept() -> None:
    with pytest.raises(BadResponse, match="busy") as caught:
        WIRE.decoder().feed(Event(b'{"error": {"message": "busy", "code": 7}}'))
    assert caught.value.body == {"message": "busy", "code": 7}


def test_a_stream_is_done_at_its_mark_and_not_before() -> None:
    decoder = WIRE.decoder()
    first = chunk({"content": "a"})
    assert decoder.feed(Event(orjson.dumps(first))) == [first]
    assert not decoder.done
    assert decoder.feed(Event(b"[DONE]")) == []
    assert decoder.done
    assert decoder.feed(Event(b"after the end")) == []


def test_a_streamed_answer_is_read_again_as_it_was_written() -> None:
    whole = Completion.from_wire(completion())
    wanted = asked(stream=True, stream_options={"include_usage": True})
    encoder, decoder = WIRE.encoder(wanted, "chatcmpl-1", 7), WIRE.decoder()
    raw = b"".join([*map(encoder.feed, chunks(whole, usage=True)), encoder.finish({})])
    read = [one for event in EventParser().feed(raw) for one in decoder.feed(event)]
    assert read == list(chunks(whole, usage=True))
    assert decoder.done


def test_calls_without_their_own_number_are_numbered() -> None:
    decoder = WIRE.decoder()

    def fragment(index: int | None, id: str | None = None) -> dict[str, Any]:
        call = {"index": index, "id": id, "function": {"name": "f", "arguments": ""}}
        return chunk({"tool_calls": [call]})

    sent = [fragment(0, "a"), fragment(0), fragment(0, "b"), fragment(None, "c"), fragment(5, "d")]
    read = [one for call in sent for one in decoder.feed(Event(orjson.dumps(call)))]
    indices = [one["choices"][0]["delta"]["tool_calls"][0]["index"] for one in read]
    assert indices == [0, 0, 1, 2, 3]


def test_pieces_for_another_wire_do_not_reach_a_chat_client() -> None:
    live = {"anthropic": {"delta": {"type": "signature_delta"}}}
    kept = {"content": [{"type": "thinking"}]}
    *sent, _ = streamed(
        asked(stream=True),
        chunk({"content": "a", **live}),
        chunk(live),
        chunk(choices=[{"index": 0, "delta": {"anthropic": kept}, "finish_reason": "stop"}]),
    )
    assert [one["choices"][0]["delta"] for one in sent] == [{"content": "a"}, {"anthropic": kept}]


def test_pictures_that_a_tool_returned_are_shown_by_a_user() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    text = {"type": "text", "text": "seen"}
    first = {"role": "tool", "tool_call_id": "a", "content": [text, image]}
    second = {"role": "tool", "tool_call_id": "b", "content": "done"}
    asking = {"role": "user", "content": "and?"}
    request = ChatRequest.model_validate({"model": "m", "messages": [first, second, asking, first]})
    *_, last = sent = WIRE.body(request, "big", stream=False)["messages"]
    assert [message["role"] for message in sent] == ["tool", "tool", "user", "user", "tool", "user"]
    assert all(part["type"] == "text" for part in sent[0]["content"])
    assert sent[0]["content"][0] == text
    assert sent[2]["content"] == [{"type": "text", "text": "Returned by a:"}, image]
    assert last == sent[2]
    assert sent[1] == second


def test_a_request_without_anything_foreign_is_passed_on_as_it_is() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    request = ChatRequest.model_validate(body(tools=tools))
    assert plain(request) is request


def test_what_only_the_responses_api_understands_is_left_out() -> None:
    said = [{"role": "user", "content": "go", "responses": {"phase": "x"}}]
    request = ChatRequest.model_validate(body(messages=said))
    cleaned = plain(request)
    assert cleaned.wire() == body()
    assert request.wire()["messages"] == said


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": 5},
        {"role": "assistant", "content": "a", "tool_calls": [{"function": [1]}]},
        {"role": "assistant", "content": "a", "tool_calls": [{"id": 5, "function": {}}]},
        {"role": "assistant", "content": "a", "reasoning_content": ["h"]},
    ],
)
def test_a_malformed_message_is_a_bad_response(message: dict[str, Any]) -> None:
    with pytest.raises(BadResponse):
        WIRE.completion(completion(choices=[{"index": 0, "message": message}]))


def test_content_in_parts_is_read() -> None:
    parts = [{"type": "text", "text": "a"}]
    message = {"role": "assistant", "content": parts}
    read = WIRE.completion(completion(choices=[{"index": 0, "message": message}]))
    assert read.text == "a"
    with pytest.raises(BadResponse):
        WIRE.completion(completion(choices=[{"index": 0, "message": {**message, "tool_calls": 5}}]))


def test_a_body_that_no_wire_checked_is_refused_with_the_name_of_the_field() -> None:
    with pytest.raises(BadRequest) as caught:
        request_of(spoken(role=5))
    assert caught.value.param == "messages.0.role"
    assert "\n" not in str(caught.value)
