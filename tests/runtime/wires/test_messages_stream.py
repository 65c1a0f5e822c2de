from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

import anthropic
import orjson
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from tutelage.runtime.chunks import Accumulator
from tutelage.runtime.errors import BadResponse
from tutelage.runtime.models.sse import Event, EventParser
from tutelage.runtime.types import ChatRequest, Completion
from tutelage.runtime.wires.failure import Failure
from tutelage.runtime.wires.messages import MessagesWire
from tutelage.runtime.wires.protocol import Asked, Wire

# The client's releases differ in which HTTP library they use.
HTTP: Any = importlib.import_module(
    next(
        kind.__module__.partition(".")[0]
        for kind in anthropic.DefaultHttpxClient.__mro__
        if kind.__module__.startswith("httpx")
    )
)
WIRE: Wire = MessagesWire()
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
REQUEST = ChatRequest.model_validate({"model": "agent", "messages": []})


def asked(**fields: Any) -> Asked:
    said = [{"role": "user", "content": "go"}]
    return WIRE.read(
        {"model": "agent", "max_tokens": 9, "messages": said, "stream": True, **fields}
    )


def chunk(delta: Mapping[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **fields}
    return {"id": "c", "object": "chat.completion.chunk", "model": "agent", "choices": [choice]}


def fragment(index: int | None, arguments: str = "", **fields: Any) -> dict[str, Any]:
    function = {
        "arguments": arguments,
        **({"name": fields.pop("name")} if "name" in fields else {}),
    }
    call = {"function": function, **fields}
    return chunk({"tool_calls": [call if index is None else {"index": index, **call}]})


def encoded(
    *chunks: Mapping[str, Any], call: Asked | None = None, facts: Mapping[str, Any] | None = None
) -> bytes:
    encoder = WIRE.encoder(call or asked(), "chatcmpl-1", 7)
    return b"".join([*map(encoder.feed, chunks), encoder.finish(facts or {})])


def events(raw: bytes) -> list[dict[str, Any]]:
    parsed = EventParser().feed(raw)
    found = [orjson.loads(event.data) for event in parsed]
    assert [event.name for event in parsed] == [event["type"].encode() for event in found]
    for event in found:
        EVENT.validate_python(event)
    return found


def seen_by_a_client(raw: bytes) -> Message:
    """The message that the client of the vendor makes of a stream."""
    headers = {"content-type": "text/event-stream"}
    transport = HTTP.MockTransport(lambda _: HTTP.Response(200, content=raw, headers=headers))
    with (
        anthropic.DefaultHttpxClient(transport=transport) as http,
        anthropic.Anthropic(api_key="k", base_url="http://gateway", http_client=http) as client,
        client.messages.stream(
            model="agent", max_tokens=9, messages=[{"role": "user", "content": "go"}]
        ) as stream,
    ):
        return Message.model_validate(stream.get_final_message().model_dump())


def blocks(raw: bytes) -> list[dict[str, Any]]:
    return [
        block.model_dump(exclude_none=True, exclude={"caller"}, exclude_unset=True)
        for block in seen_by_a_client(raw).content
    ]


def shape(found: Iterable[Mapping[str, Any]]) -> list[tuple[str, int]]:
    return [
        (event["type"].removeprefix("content_block_"), event["index"])
        for event in found
        if "index" in event
    ]


def test_a_stream_has_the_events_of_the_api() -> None:
    raw = encoded(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "loo"}),
        chunk({"content": "k"}),
        chunk({}, "stop"),
        {"choices": [], "usage": USAGE},
        facts={"served": "student"},
    )
    start, opened, first, second, closed, end, stop = events(raw)
    assert start["message"]["id"] == "msg_1"
    assert start["message"]["model"] == "agent"
    assert opened["content_block"] == {"type": "text", "text": ""}
    assert [one["delta"]["text"] for one in (first, second)] == ["loo", "k"]
    assert closed == {"type": "content_block_stop", "index": 0}
    assert end["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert (end["usage"]["input_tokens"], end["usage"]["output_tokens"]) == (5, 3)
    assert end["tutelage"] == {"served": "student"}
    assert stop == {"type": "message_stop"}
    message = seen_by_a_client(raw)
    assert message.usage.input_tokens == 5
    assert message.stop_reason == "end_turn"


def test_tool_calls_are_blocks_of_their_own() -> None:
    raw = encoded(
        chunk({"content": "so"}),
        fragment(0, id="a", name="go"),
        fragment(0, '{"to":'),
        fragment(0, '"désk"}'),
        fragment(1, "{}", id="b.1", name="look"),
        chunk({}, "stop"),
    )
    found = events(raw)
    assert shape(found) == [
        ("start", 0), ("delta", 0), ("stop", 0),
        ("start", 1), ("delta", 1), ("delta", 1), ("stop", 1),
        ("start", 2), ("delta", 2), ("stop", 2),
    ]  # fmt: skip
    said, first, second = blocks(raw)
    assert said == {"type": "text", "text": "so"}
    assert first == {"type": "tool_use", "id": "a", "name": "go", "input": {"to": "désk"}}
    assert (second["name"], second["input"]) == ("look", {})
    assert second["id"].startswith("b_1_")
    assert seen_by_a_client(raw).stop_reason == "tool_use"


def test_interleaved_calls_are_told_one_after_the_other() -> None:
    raw = encoded(
        fragment(0, id="a", name="f"),
        fragment(1, id="b", name="g"),
        fragment(1, '{"y":'),
        fragment(0, '{"x":'),
        chunk({"content": "meanwhile"}),
        fragment(0, "1}"),
        fragment(1, "2}"),
        chunk({"content": " after"}),
        chunk({}, "tool_calls"),
    )
    first, second, said = blocks(raw)
    assert (first["id"], first["input"]) == ("a", {"x": 1})
    assert (second["id"], second["input"]) == ("b", {"y": 2})
    assert said["text"] == "meanwhile after"
    opened = [index for kind, index in shape(events(raw)) if kind == "start"]
    assert opened == [0, 1, 2]


def test_text_after_a_whole_call_is_told_at_once() -> None:
    encoder = WIRE.encoder(asked(), "1", 7)
    encoder.feed(fragment(0, "{}", id="a", name="f"))
    assert b"later" in encoder.feed(chunk({"content": "later"}))


def test_calls_without_their_own_number_are_told_apart_by_their_ids() -> None:
    raw = encoded(
        fragment(0, "{}", id="a", name="f"),
        fragment(0, "{}", id="b", name="g"),
        fragment(None, "{}", id="c", name="h"),
        fragment(None, "", id="c"),
    )
    assert [(b["id"], b["name"]) for b in blocks(raw)] == [("a", "f"), ("b", "g"), ("c", "h")]


def test_a_call_waits_for_its_name_and_gets_an_id() -> None:
    raw = encoded(fragment(0, '{"a"'), fragment(0, ":1}", name="f"), fragment(1, "{}"))
    first, second = blocks(raw)
    assert (first["id"], first["name"], first["input"]) == ("msg_1_0", "f", {"a": 1})
    assert (second["id"], second["name"]) == ("msg_1_1", "")


def test_reasoning_is_streamed_to_those_who_asked_for_it() -> None:
    pieces = [
        chunk({"reasoning_content": "h"}),
        chunk({"reasoning": "m"}),
        chunk({"content": "so"}),
        chunk({}, "stop"),
    ]
    thinking = asked(thinking={"type": "adaptive"})
    thought, said = blocks(encoded(*pieces, call=thinking))
    assert thought == {"type": "thinking", "thinking": "hm", "signature": ""}
    assert said["text"] == "so"
    assert len(blocks(encoded(*pieces))) == 1


def test_a_refusal_is_a_text() -> None:
    raw = encoded(chunk({"refusal": "no"}), chunk({}, "content_filter"))
    assert blocks(raw) == [{"type": "text", "text": "no"}]
    assert seen_by_a_client(raw).stop_reason == "refusal"


def test_other_choices_are_left_out() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "no"}}]}
    assert blocks(encoded(other, chunk({"content": "yes"}))) == [{"type": "text", "text": "yes"}]


def test_a_stream_of_nothing_is_an_empty_message() -> None:
    message = seen_by_a_client(encoded())
    assert message.content == []
    assert message.stop_reason == "end_turn"


def test_a_stop_sequence_that_the_endpoint_names_is_told() -> None:
    call = asked(stop_sequences=["END"])
    message = seen_by_a_client(encoded(chunk({}, "stop", stop_reason="END"), call=call))
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")


def test_a_stream_that_breaks_off_ends_with_an_error() -> None:
    encoder = WIRE.encoder(asked(), "1", 7)
    raw = encoder.feed(chunk({"content": "a"})) + encoder.fail(Failure(502, "upstream", "cut"))
    *_, last = EventParser().feed(raw)
    assert last.name == b"error"
    error = {"type": "api_error", "message": "cut"}
    assert orjson.loads(last.data) == {"type": "error", "error": error}
    assert b"message_stop" not in raw
    with pytest.raises(anthropic.APIStatusError, match="cut"):
        seen_by_a_client(raw)


def test_a_ping_means_nothing_to_a_client() -> None:
    raw = encoded(chunk({"content": "a"}))
    assert seen_by_a_client(WIRE.ping + raw) == seen_by_a_client(raw)


THOUGHTS = [
    {"type": "thinking", "thinking": "hm", "signature": "s1"},
    {"type": "thinking", "thinking": "", "signature": "s2"},
    {"type": "redacted_thinking", "data": "d"},
    {"type": "text", "text": "so", "citations": [
        {"type": "char_location", "cited_text": "x", "document_index": 0, "document_title": None,
         "start_char_index": 0, "end_char_index": 1},
    ]},
    {"type": "text", "text": "on"},
    {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"q": "é"}},
    {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []},
    {"type": "tool_use", "id": "t1", "name": "go", "input": {"to": {"n": [1, 2.5, None]}}},
    {"type": "tool_use", "id": "t2", "name": "look", "input": {}},
]  # fmt: skip
MESSAGE: dict[str, Any] = {
    "id": "msg_up",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": THOUGHTS,
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 4,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 1,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 2},
        "service_tier": "standard",
    },
}


def named(event: Mapping[str, Any]) -> bytes:
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"


def block_events(index: int, block: Mapping[str, Any], width: int) -> Iterable[dict[str, Any]]:
    """What the API streams of a block, its text in pieces of ``width`` characters."""
    kind, deltas, start = block["type"], [], dict(block)
    if kind in ("text", "thinking"):
        start[kind] = ""
        whole = block[kind]
        pieces = [whole[at : at + width] for at in range(0, len(whole), width)]
        deltas = [{"type": f"{kind}_delta", kind: piece} for piece in pieces]
        for citation in start.pop("citations", ()):
            deltas.append({"type": "citations_delta", "citation": citation})
        if "signature" in start:
            deltas.append({"type": "signature_delta", "signature": start.pop("signature")})
            start["signature"] = ""
    if kind.endswith("tool_use"):
        start["input"] = {}
        whole = orjson.dumps(block["input"]).decode() if block["input"] else ""
        pieces = ["", *(whole[at : at + width] for at in range(0, len(whole), width))]
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    yield {"type": "content_block_start", "index": index, "content_block": start}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def upstream(message: Mapping[str, Any], width: int = 1) -> bytes:
    usage = {**message["usage"], "output_tokens": 1}
    begun = {**message, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    found: list[dict[str, Any]] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for index, block in enumerate(message["content"]):
        found.extend(block_events(index, block, width))
    end = {name: message[name] for name in ("stop_reason", "stop_sequence")}
    counts = {"output_tokens": message["usage"]["output_tokens"], "input_tokens": None}
    found.append({"type": "message_delta", "delta": end, "usage": counts})
    found += [{"type": "something_new"}, {"type": "message_stop"}]
    return b"".join(map(named, found))


def decoded(raw: bytes) -> list[dict[str, Any]]:
    decoder = WIRE.decoder()
    found = [one for event in EventParser().feed(raw) for one in decoder.feed(event)]
    assert decoder.done
    assert decoder.feed(Event(b"after the end")) == []
    return found


def joined(chunks: Iterable[Mapping[str, Any]]) -> Completion:
    accumulator = Accumulator()
    for one in chunks:
        accumulator.add(one)
    return accumulator.completion(REQUEST, len)


@pytest.mark.parametrize("width", [1, 3, 1000])
def test_a_streamed_message_adds_up_to_the_whole_one(width: int) -> None:
    whole = WIRE.completion(MESSAGE)
    read = joined(decoded(upstream(MESSAGE, width)))
    assert read.wire() == {**whole.wire(), "model": "agent"}
    assert read.usage == whole.usage


@pytest.mark.parametrize("width", [1, 1000])
def test_a_streamed_message_reaches_a_client_as_it_was(width: int) -> None:
    raw = encoded(*decoded(upstream(MESSAGE, width)))
    message = seen_by_a_client(raw)
    assert message == Message.model_validate({**MESSAGE, "id": "msg_1"})
    opening = events(raw)[0]["message"]["usage"]
    assert opening == {**MESSAGE["usage"], "output_tokens": 1}


def test_the_end_that_an_upstream_told_reaches_the_client() -> None:
    sent = {
        **MESSAGE,
        "content": [{"type": "text", "text": "a"}],
        "stop_reason": "stop_sequence",
        "stop_sequence": "END",
    }
    message = seen_by_a_client(encoded(*decoded(upstream(sent))))
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")


def test_texts_that_a_block_begins_with_are_not_lost() -> None:
    opened = {"type": "text", "text": "a"}
    use = {"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}}
    sent: list[dict[str, Any]] = [
        {"type": "message_start", "message": {}},
        {"type": "content_block_start", "index": 0, "content_block": opened},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": use},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
        {"type": "message_stop"},
    ]
    raw = b"".join(named(event) for event in sent)
    read = joined(decoded(raw))
    assert read.text == "a"
    calls = read.choices[0].message.tool_calls or []
    assert [call["function"] for call in calls] == [{"name": "n", "arguments": '{"a":1}'}]


START = {"type": "message_start", "message": {"id": "m"}}
OPEN = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
SHUT = {"type": "content_block_stop", "index": 0}


def piece(**delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": delta}


@pytest.mark.parametrize(
    "sent",
    [
        [b"{"],
        [b"[]"],
        [{"type": "message_start"}],
        [{"type": "message_start", "message": 5}],
        [START, {"type": "content_block_start", "index": 0}],
        [START, {"type": "content_block_start", "index": 1, "content_block": {"type": "text"}}],
        [START, {**OPEN, "index": 1}],
        [START, OPEN, {**OPEN, "index": 1}],
        [START, piece(type="text_delta", text="a")],
        [START, OPEN, SHUT, piece(type="text_delta", text="a")],
        [START, OPEN, piece(type="text_delta")],
        [START, OPEN, piece(type="thinking_delta", thinking=5)],
        [START, OPEN, piece(type="input_json_delta", partial_json={})],
        [START, OPEN, piece(type="signature_delta")],
        [START, OPEN, {"type": "content_block_delta", "index": 0}],
        [START, SHUT],
        [START, OPEN, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}],
        [START, {"type": "message_delta"}],
        [START, {"type": "message_stop"}],
        [
            START,
            {
                "type": "message_delta",
                "delta": {"stop_reason": "x"},
                "usage": {"input_tokens": "m"},
            },
            {"type": "message_stop"},
        ],
        [{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}],
        [{"type": "error"}],
        [{"error": "busy"}],
    ],
)
def test_a_malformed_stream_is_a_bad_response(sent: list[Any]) -> None:
    decoder = WIRE.decoder()
    *before, last = [one if isinstance(one, bytes) else orjson.dumps(one) for one in sent]
    for data in before:
        decoder.feed(Event(data))
    with pytest.raises(BadResponse):
        decoder.feed(Event(last))
    assert not decoder.done


def test_the_words_of_an_upstream_that_fails_in_mid_stream_are_kept() -> None:
    error = {"type": "overloaded_error", "message": "busy"}
    with pytest.raises(BadResponse, match="busy") as caught:
        WIRE.decoder().feed(Event(orjson.dumps({"type": "error", "error": error})))
    assert caught.value.body == error


def test_what_is_not_known_is_passed_over() -> None:
    decoder = WIRE.decoder()
    for sent in (START, OPEN):
        decoder.feed(Event(orjson.dumps(sent)))
    assert decoder.feed(Event(orjson.dumps(piece(type="new_delta")))) == []
    assert decoder.feed(Event(b'{"type":"ping"}')) == []
    decoder.feed(Event(orjson.dumps(SHUT)))
    assert decoder.feed(Event(b'{"type":"message_delta","delta":{"stop_reason":null}}')) == []


def test_pieces_for_a_live_stream_are_ignored_where_they_make_no_sense() -> None:
    odd = chunk({"content": "a", "anthropic": {"delta": {"type": "new"}, "block": 5}})
    assert blocks(encoded(odd)) == [{"type": "text", "text": "a"}]
