from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from tutelage.runtime.chunks import Accumulator, chunks
from tutelage.runtime.models.sse import EventParser
from tutelage.runtime.types import ChatRequest, Completion
from tutelage.runtime.wires.chat import ChatWire
from tutelage.runtime.wires.messages import MessagesWire
from tutelage.runtime.wires.protocol import Wire

CHAT: Wire = ChatWire()
MESSAGES: Wire = MessagesWire()
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
REQUEST = ChatRequest.model_validate({"model": "agent", "messages": []})

texts = st.text(min_size=1, max_size=40).filter(lambda text: bool(text.strip()))
names = st.text("abcdefghij_XYZ0189-", min_size=1, max_size=12)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10)
values = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=5,
)
inputs = st.dictionaries(st.text(max_size=8), values, max_size=4)
payloads = st.binary(min_size=1, max_size=12).map(lambda raw: raw.hex())
marks = st.sampled_from([{}, {"cache_control": {"type": "ephemeral"}}])
usages = st.tuples(*[st.integers(0, 10_000)] * 5)


@st.composite
def chat_calls(draw: st.DrawFn) -> list[dict[str, Any]]:
    function = {"name": draw(names), "arguments": json.dumps(draw(inputs))}
    more = draw(st.integers(0, 2))
    first = {"id": "call_0", "type": "function", "function": function}
    return [first, *({**first, "id": f"call_{index + 1}"} for index in range(more))]


images = st.one_of(
    st.builds(lambda data: f"data:image/png;base64,{data}", payloads),
    st.builds(lambda name: f"https://example.org/{name}.png", names),
).map(lambda url: {"type": "image_url", "image_url": {"url": url}})
parts = st.lists(texts.map(lambda text: {"type": "text", "text": text}) | images, min_size=1)


@st.composite
def chat_bodies(draw: st.DrawFn) -> dict[str, Any]:
    said = [{"role": draw(st.sampled_from(["system", "developer"])), "content": draw(texts)}]
    messages: list[dict[str, Any]] = said * draw(st.integers(0, 1))
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(texts | parts)})
        answer: dict[str, Any] = {"role": "assistant", "content": draw(texts | st.none())}
        calls = draw(st.none() | chat_calls())
        if calls:
            answer["tool_calls"] = calls
        if calls or answer["content"]:
            messages.append(answer)
        for call in calls or ():
            content = draw(texts)
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": content})
    tools = [{"type": "function", "function": {"name": draw(names), "parameters": draw(inputs)}}]
    options = draw(st.fixed_dictionaries({}, optional={"tools": st.just(tools)}))
    return {"model": "agent", "max_tokens": 9, "messages": messages, **options}


def said_in(body: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """All that chat messages say, one item each, so that it does not matter how they are cut."""
    found: list[tuple[Any, ...]] = []
    messages: list[dict[str, Any]] = body["messages"]
    for message in messages:
        role, content = message["role"].replace("developer", "system"), message.get("content")
        listed: list[dict[str, Any]] = content or []
        if isinstance(content, str):
            listed = [{"type": "text", "text": content}]
        for part in listed:
            if part["type"] == "text":
                found.append((role, message.get("tool_call_id"), part["text"]))
            else:
                found.append((role, message.get("tool_call_id"), part["image_url"]["url"]))
        for call in message.get("tool_calls") or ():
            function = call["function"]
            found.append((call["id"], function["name"], json.loads(function["arguments"])))
    return found


@settings(deadline=None, max_examples=60)
@given(chat_bodies())
def test_a_chat_call_survives_the_messages_wire(body: dict[str, Any]) -> None:
    written = MESSAGES.body(CHAT.read(body).request, "claude", stream=False)
    roles = [turn["role"] for turn in written["messages"]]
    assert all(first != second for first, second in itertools.pairwise(roles))
    read = MESSAGES.read(orjson.loads(orjson.dumps(written))).request.wire()
    assert said_in(read) == said_in(body)
    tools = [tool["function"]["name"] for tool in body.get("tools", ())]
    assert [tool["function"]["name"] for tool in read.get("tools", ())] == tools
    assert read["max_tokens"] == 9


text_blocks = st.builds(lambda text, mark: {"type": "text", "text": text, **mark}, texts, marks)
image_blocks = st.builds(
    lambda source, mark: {"type": "image", "source": source, **mark},
    st.builds(lambda data: {"type": "base64", "media_type": "image/png", "data": data}, payloads)
    | st.builds(lambda name: {"type": "url", "url": f"https://example.org/{name}"}, names),
    marks,
)
thoughts = st.builds(
    lambda text: {"type": "thinking", "thinking": text, "signature": "s"}, texts
) | st.builds(lambda data: {"type": "redacted_thinking", "data": data}, names)


@st.composite
def messages_bodies(draw: st.DrawFn) -> dict[str, Any]:
    turns: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for turn in range(draw(st.integers(1, 3))):
        asked = draw(st.lists(text_blocks | image_blocks, min_size=1, max_size=3))
        turns.append({"role": "user", "content": results + asked})
        said = draw(st.lists(thoughts, max_size=2)) + draw(st.lists(text_blocks, max_size=2))
        calls = [
            {"type": "tool_use", "id": f"t{turn}_{n}", "name": draw(names), "input": draw(inputs)}
            for n in range(draw(st.integers(not said, 2)))
        ]
        results = [
            {
                "type": "tool_result",
                "tool_use_id": call["id"],
                "content": draw(texts | st.lists(text_blocks | image_blocks, min_size=1)),
                **draw(marks | st.just({"is_error": True})),
            }
            for call in calls
        ]
        turns.append({"role": "assistant", "content": said + calls})
    turns.append({"role": "user", "content": [*results, {"type": "text", "text": "and now?"}]})
    schema = {"type": "object", "properties": draw(inputs)}
    tool = {"name": draw(names), "description": draw(texts), "input_schema": schema}
    more = {
        "system": texts | st.lists(text_blocks, min_size=1),
        "tools": st.just([{**tool, **draw(marks)}]),
        "stop_sequences": st.lists(texts, min_size=1, max_size=2),
        "metadata": st.builds(lambda user: {"user_id": user}, names),
        "thinking": st.just({"type": "enabled", "budget_tokens": 1024}),
        "temperature": st.floats(0, 1),
    }
    options = draw(st.fixed_dictionaries({}, optional=more))
    return {"model": "claude", "max_tokens": 9, "messages": turns, **options}


def in_blocks(found: Any) -> Any:
    """A body with every text that may be written as a string or a block written as a block."""
    if isinstance(found, list):
        return [in_blocks(item) for item in found]
    if not isinstance(found, dict):
        return found
    again = {name: in_blocks(value) for name, value in found.items() if name != "input"}
    for name in ("content", "system"):
        if isinstance(again.get(name), str):
            again[name] = [{"type": "text", "text": again[name]}]
    return again | ({"input": found["input"]} if "input" in found else {})


@settings(deadline=None, max_examples=60)
@given(messages_bodies())
def test_a_messages_call_survives_the_chat_shapes(body: dict[str, Any]) -> None:
    written = MESSAGES.body(MESSAGES.read(body).request, "claude", stream=False)
    assert in_blocks(written) == in_blocks(body)


@settings(deadline=None, max_examples=60)
@given(messages_bodies())
def test_a_messages_call_reaches_a_chat_upstream_without_what_is_foreign(
    body: dict[str, Any],
) -> None:
    asked = MESSAGES.read(body)
    sent = CHAT.body(asked.request, "gpt", stream=False)
    assert b'"anthropic"' not in orjson.dumps(sent).replace(b'\\"', b"")
    assert b"cache_control" not in orjson.dumps(sent["messages"])
    read = CHAT.read(orjson.loads(orjson.dumps(sent))).request
    calls = [item for item in said_in(asked.request.wire()) if isinstance(item[2], dict)]
    assert [item for item in said_in(read.wire()) if isinstance(item[2], dict)] == calls
    shown = {item[2] for item in said_in(asked.request.wire()) if isinstance(item[2], str)}
    assert shown <= {item[2] for item in said_in(read.wire()) if isinstance(item[2], str)}


@st.composite
def completions(draw: st.DrawFn, *, reasoning: bool = False) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": draw(texts | st.none())}
    finish = draw(st.sampled_from(["stop", "length", "content_filter"]))
    if draw(st.booleans()):
        message["tool_calls"] = draw(chat_calls())
        finish = draw(st.sampled_from(["tool_calls", "length"]))
    if reasoning and draw(st.booleans()):
        message["reasoning_content"] = draw(texts)
    fresh, read, written, output, thought = draw(usages)
    details = {"cached_tokens": read, **({"cache_write_tokens": written} if written else {})}
    usage = {
        "prompt_tokens": fresh + read + written,
        "completion_tokens": output + thought,
        "total_tokens": fresh + read + written + output + thought,
        "prompt_tokens_details": details,
    }
    if thought:
        usage["completion_tokens_details"] = {"reasoning_tokens": thought}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "agent",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": usage,
    }


def comparable(completion: Completion) -> dict[str, Any]:
    """What two wires can both say of an answer; arguments as values, for spaces do not matter."""
    choice = completion.choices[0]
    return {
        "content": choice.message.content,
        "calls": [
            (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in choice.message.tool_calls or ()
        ],
        "finish": choice.finish_reason,
        "thoughts": (choice.message.model_extra or {}).get("reasoning_content"),
        "usage": completion.wire()["usage"],
    }


@settings(deadline=None, max_examples=60)
@given(completions())
def test_an_answer_survives_the_messages_wire(body: dict[str, Any]) -> None:
    asked = MESSAGES.read({**messages_call(), "stream": False})
    whole = Completion.from_wire(body)
    message = MESSAGES.answer(whole, asked, {})
    Message.model_validate(message)
    again = MESSAGES.completion(orjson.loads(orjson.dumps(message)))
    assert comparable(again) == comparable(whole)
    ChatCompletion.model_validate(CHAT.answer(again, asked, {}))


def messages_call(**fields: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": "go"}]
    return {"model": "agent", "max_tokens": 9, "messages": said, **fields}


def split(raw: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted({cut % (len(raw) + 1) for cut in cuts})
    edges = [0, *places, len(raw)]
    return [raw[start:end] for start, end in itertools.pairwise(edges)]


def reread(wire: Wire, pieces: Iterable[bytes]) -> Completion:
    parser, decoder, accumulator = EventParser(), wire.decoder(), Accumulator()
    for piece in pieces:
        for event in parser.feed(piece):
            for chunk in decoder.feed(event):
                accumulator.add(chunk)
    assert decoder.done
    return accumulator.completion(REQUEST, len)


@settings(deadline=None, max_examples=60)
@given(completions(reasoning=True), st.lists(st.integers(0, 10_000), max_size=6))
def test_a_chat_stream_cut_anywhere_adds_up_to_the_answer(
    body: dict[str, Any], cuts: list[int]
) -> None:
    whole = Completion.from_wire(body)
    call = {"model": "agent", "messages": [{"role": "user", "content": "go"}], "stream": True}
    asked = CHAT.read({**call, "stream_options": {"include_usage": True}})
    encoder = CHAT.encoder(asked, "chatcmpl-1", 7)
    raw = b"".join([*map(encoder.feed, chunks(whole, usage=True)), encoder.finish({"a": 1})])
    for event in EventParser().feed(raw)[:-1]:
        ChatCompletionChunk.model_validate(orjson.loads(event.data))
    assert reread(CHAT, split(raw, cuts)).wire() == whole.wire()


@settings(deadline=None, max_examples=60)
@given(completions(reasoning=True), st.lists(st.integers(0, 10_000), max_size=6), st.booleans())
def test_a_messages_stream_cut_anywhere_adds_up_to_the_answer(
    body: dict[str, Any], cuts: list[int], thinking: bool
) -> None:
    whole = Completion.from_wire(body)
    wanted = {"thinking": {"type": "adaptive"}} if thinking else {}
    asked = MESSAGES.read(messages_call(stream=True, **wanted))
    encoder = MESSAGES.encoder(asked, "chatcmpl-1", 7)
    raw = b"".join([*map(encoder.feed, chunks(whole, usage=True)), encoder.finish({})])
    found = [orjson.loads(event.data) for event in EventParser().feed(raw)]
    for event in found:
        EVENT.validate_python(event)
    begun = [e["index"] for e in found if e["type"] == "content_block_start"]
    assert begun == list(range(len(begun)))
    streamed = reread(MESSAGES, split(raw, cuts))
    unary = MESSAGES.completion(MESSAGES.answer(whole, asked, {}))
    assert comparable(streamed) == comparable(unary)
