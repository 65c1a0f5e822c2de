from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tutelage.runtime.errors import BadRequest
from tutelage.runtime.models.sse import EventParser
from tutelage.runtime.wires.chat import ChatWire
from tutelage.runtime.wires.failure import Failure
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


def ending(reason: str = "stop") -> dict[str, Any]:
    return chunk(choices=[{"index": 0, "delta": {}, "finish_reason": reason}])


def written(raw: bytes) -> list[Any]:
    events = EventParser().feed(raw)
    return [e.data if e.data == b"[DONE]" else orjson.loads(e.data) for e in events]


def test_fields_that_we_do_not_know_are_kept() -> None:
    call = body(
        top_k=3,
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "go", "x": 1}], "name": "n"}
        ],
        tools=[{"type": "function", "function": {"name": "f", "strict": True}}],
        metadata={"a": "b"},
    )
    read = WIRE.read(call)
    assert read.request.wire() == call
    assert read.body == call
    assert (read.unsupported, read.native_only, read.stream) == (None, None, False)


@pytest.mark.parametrize(
    ("call", "param"),
    [
        ([], None),
        (None, None),
        (body(model="absent"), "model"),
        (body(model=" "), "model"),
        (body(model=3), "model"),
        (body(messages="absent"), "messages"),
        (body(messages=[]), "messages"),
        (body(messages={}), "messages"),
        (body(messages=["hi"]), "messages.0"),
        (spoken(role="absent"), "messages.0.role"),
        (spoken(role="robot"), "messages.0.role"),
        (spoken(role=None), "messages.0.role"),
        (spoken(content=None), "messages.0.content"),
        (spoken(content=5), "messages.0.content"),
        (spoken(role="assistant", content={}), "messages.0.content"),
        (spoken(content=["x"]), "messages.0.content.0"),
        (spoken(content=[{"text": "x"}]), "messages.0.content.0.type"),
        (spoken(content=[{"type": "text"}]), "messages.0.content.0.text"),
        (spoken(content=[{"type": "image_url"}]), "messages.0.content.0.image_url"),
        (
            spoken(content=[{"type": "image_url", "image_url": {}}]),
            "messages.0.content.0.image_url.url",
        ),
        (
            spoken(content=[{"type": "input_audio", "input_audio": "x"}]),
            "messages.0.content.0.input_audio",
        ),
        (spoken(role="tool"), "messages.0.tool_call_id"),
        (spoken(role="assistant", tool_calls={}), "messages.0.tool_calls"),
        (spoken(role="assistant", tool_calls=[1]), "messages.0.tool_calls.0"),
        (spoken(role="assistant", tool_calls=[{"type": "function"}]), "messages.0.tool_calls.0.id"),
        (
            spoken(role="assistant", tool_calls=[{"id": "c"}]),
            "messages.0.tool_calls.0.function",
        ),
        (
            spoken(role="assistant", tool_calls=[{"id": "c", "function": {"name": "f"}}]),
            "messages.0.tool_calls.0.function.arguments",
        ),
        (body(n=0), "n"),
        (body(n=True), "n"),
        (body(n=1.5), "n"),
        (body(n=1000), "n"),
        (body(temperature=math.nan), "temperature"),
        (body(temperature=math.inf), "temperature"),
        (body(temperature="hot"), "temperature"),
        (body(temperature=2.5), "temperature"),
        (body(temperature=False), "temperature"),
        (body(top_p=-1), "top_p"),
        (body(max_tokens=0), "max_tokens"),
        (body(max_completion_tokens="7"), "max_completion_tokens"),
        (body(stream="yes"), "stream"),
        (body(stream_options=[]), "stream_options"),
        (body(stream_options={"include_usage": 1}), "stream_options.include_usage"),
        (body(stop=5), "stop"),
        (body(stop=["a", 5]), "stop.1"),
        (body(tools={}), "tools"),
        (body(tools=["f"]), "tools.0"),
        (body(tools=[{"function": {"name": "f"}}]), "tools.0.type"),
        (body(tools=[{"type": "function"}]), "tools.0.function"),
        (body(tools=[{"type": "function", "function": {}}]), "tools.0.function.name"),
        (
            body(tools=[{"type": "function", "function": {"name": "f", "parameters": "p"}}]),
            "tools.0.function.parameters",
        ),
        (body(tool_choice=1), "tool_choice"),
        (body(modalities="text"), "modalities"),
        (body(user=3), "user"),
        (body(logit_bias=[]), "logit_bias"),
    ],
)
def test_a_body_that_is_no_call_is_refused_with_the_name_of_the_field(
    call: Any, param: str | None
) -> None:
    with pytest.raises(BadRequest) as caught:
        WIRE.read(call)
    assert caught.value.param == param
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(param or "the body")


@pytest.mark.parametrize(
    "call",
    [
        body(n=None, temperature=None, tools=None, stream=None, stop=None, stream_options=None),
        body(n=1.0, temperature=0, stop=["a"], tool_choice="auto", seed=None, modalities=["text"]),
        body(logprobs=False, store=False, parallel_tool_calls=True, logit_bias={}),
        spoken(content=""),
        body(
            messages=[
                {"role": "assistant", "content": None, "refusal": None},
                {"role": "tool", "tool_call_id": "c", "content": "done"},
            ]
        ),
    ],
)
def test_what_the_api_allows_is_read(call: dict[str, Any]) -> None:
    read = WIRE.read(call)
    assert read.request.wire() == call
    assert read.unsupported is None


@pytest.mark.parametrize(
    ("call", "unsupported", "native_only"),
    [
        (body(n=2), "n", None),
        (body(logprobs=True, top_logprobs=3), "logprobs", "logprobs"),
        (body(top_logprobs=3), "top_logprobs", "top_logprobs"),
        (body(audio={"voice": "v"}), "audio", "audio"),
        (body(modalities=["text", "audio"]), "modalities", "modalities"),
        (body(prediction={"type": "content"}), "prediction", None),
        (body(seed=0), "seed", None),
        (body(web_search_options={}), "web_search_options", "web_search_options"),
        (body(store=True), "store", "store"),
        (body(logit_bias={"5": 1}), "logit_bias", None),
        (body(functions=[{"name": "f"}]), "functions", "functions"),
        (body(tools=[{"type": "custom", "custom": {}}]), "tools", "tools.0"),
        (
            spoken(content=[{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]),
            "image_url",
            None,
        ),
        (
            spoken(content=[{"type": "input_audio", "input_audio": {}}]),
            "input_audio",
            "messages.0.content.0",
        ),
        (
            spoken(content=[{"type": "file", "file": {"file_id": "f"}}]),
            "file",
            "messages.0.content.0",
        ),
        (spoken(content=[{"type": "file", "file": {"file_data": "data:"}}]), "file", None),
        (spoken(content=[{"type": "hologram"}]), "content", "messages.0.content.0"),
        (body(anthropic={"thinking": {}}), "anthropic", None),
        (body(response_format={"type": "json_object"}), None, "response_format"),
        (spoken(role="assistant"), "prefill", None),
        (spoken(role="assistant", audio={"id": "a"}), "audio", "audio"),
    ],
)
def test_parameters_that_samples_cannot_honour_are_named(
    call: dict[str, Any], unsupported: str | None, native_only: str | None
) -> None:
    read = WIRE.read(call)
    assert (read.unsupported, read.native_only) == (unsupported, native_only)


def test_a_client_chooses_whether_its_stream_ends_with_the_usage() -> None:
    assert not asked(stream=True).include_usage
    assert not asked(stream=True, stream_options={"include_usage": False}).include_usage
    wanted = asked(stream=True, stream_options={"include_usage": True})
    assert wanted.include_usage
    assert wanted.stream


def test_an_answer_keeps_what_the_endpoint_sent_and_adds_our_facts() -> None:
    sent = completion()
    answer = WIRE.answer(WIRE.completion(sent), asked(), FACTS)
    assert answer == {**sent, "tutelage": FACTS}
    ChatCompletion.model_validate(answer, strict=True)
    assert "tutelage" not in WIRE.answer(WIRE.completion(sent), asked(), {})


def test_an_answer_without_a_reason_for_its_end_gets_one() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = {"index": 0, "message": {"role": "assistant", "content": "x"}}
    called = {"index": 1, "message": {"role": "assistant", "content": None, "tool_calls": [call]}}
    read = WIRE.completion({"id": "a", "choices": [said, called]})
    answer = WIRE.answer(read, asked(), {})
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["stop", "tool_calls"]
    ChatCompletion.model_validate(answer)


def streamed(
    call: Asked, *pieces: Mapping[str, Any], facts: Mapping[str, Any] = FACTS
) -> list[Any]:
    encoder = WIRE.encoder(call, "chatcmpl-ours", 5)
    return written(b"".join([*map(encoder.feed, pieces), encoder.finish(facts)]))


def test_a_stream_ends_with_our_facts_in_the_last_chunk_and_done() -> None:
    call = asked(stream=True)
    *sent, done = streamed(call, chunk({"role": "assistant"}), chunk({"content": "a"}), ending())
    assert done == b"[DONE]"
    assert [one.get("tutelage") for one in sent] == [None, None, FACTS]
    assert {(one["id"], one["created"], one["model"]) for one in sent} == {
        ("chatcmpl-ours", 5, "agent")
    }
    for one in sent:
        ChatCompletionChunk.model_validate(one)


def test_a_usage_that_was_not_asked_for_is_left_out() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    pieces = [chunk({"content": "a"}, usage=usage), ending(), chunk(usage=usage)]
    *sent, _ = streamed(asked(stream=True), *pieces)
    assert all("usage" not in one for one in sent)
    assert len(sent) == 2
    wanted = asked(stream=True, stream_options={"include_usage": True})
    *sent, _ = streamed(wanted, *pieces)
    assert [one.get("usage") for one in sent] == [usage, None, usage]
    assert sent[-1]["tutelage"] == FACTS
    assert "tutelage" not in sent[-2]


def test_several_choices_end_one_after_the_other() -> None:
    other = chunk(choices=[{"index": 1, "delta": {"content": "b"}, "finish_reason": None}])
    *sent, _ = streamed(asked(stream=True), ending(), other, ending())
    assert [one["choices"][0]["finish_reason"] for one in sent] == ["stop", None, "stop"]
    assert [one.get("tutelage") for one in sent] == [None, None, FACTS]


def test_a_stream_without_an_end_still_tells_our_facts() -> None:
    *sent, done = streamed(asked(stream=True), chunk({"content": "a"}))
    assert sent[-1]["choices"] == []
    assert sent[-1]["tutelage"] == FACTS
    assert done == b"[DONE]"
    assert streamed(asked(stream=True), facts={}) == [b"[DONE]"]
    assert "tutelage" not in streamed(asked(stream=True), ending(), facts={})[0]


def test_a_stream_that_breaks_off_ends_with_an_error_and_without_done() -> None:
    encoder = WIRE.encoder(asked(stream=True), "chatcmpl-ours", 5)
    raw = encoder.feed(chunk({"content": "a"})) + encoder.feed(ending())
    raw += encoder.fail(Failure(502, "upstream", "cut", code="upstream_failed"))
    *_, last = written(raw)
    assert last == {
        "error": {
            "message": "cut",
            "type": "server_error",
            "param": None,
            "code": "upstream_failed",
        }
    }
    assert b"[DONE]" not in raw
    assert b'"finish_reason":"stop"' not in raw


def test_an_error_is_told_in_the_words_of_the_upstream() -> None:
    theirs = {"message": "no such tool", "type": "invalid_request_error", "param": "tools", "x": 1}
    failure = Failure(400, "invalid_request", "http://u answered 400", body=theirs)
    assert WIRE.error(failure) == {"error": {**theirs, "code": None}}
    assert WIRE.error(Failure(429, "rate_limit", "slow", body={"x": 1})) == {
        "error": {
            "message": "slow",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }
