from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.chunks import Accumulator
from tutelage.runtime.models.sse import EventParser
from tutelage.runtime.types import ChatRequest, Completion
from tutelage.runtime.wires.responses import RESPONSES
from tutelage.runtime.wires.responses_tools import custom_arguments

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
SAID = TEXT.filter(bool)
ARGUMENTS = st.dictionaries(SAID, TEXT, max_size=2).map(json.dumps)
IMAGE = st.sampled_from(["https://x/a.png", "data:image/png;base64,AA"])
NAMES = st.sampled_from(["look", "take"])
COUNTS = st.integers(0, 50)


@st.composite
def chat_turns(draw: Any) -> list[dict[str, Any]]:
    """What an assistant does and what follows, in chat shapes."""
    calls = [
        {"type": "function", "function": {"name": draw(NAMES), "arguments": draw(ARGUMENTS)}}
        for _ in range(draw(st.integers(0, 3)))
    ]
    number = draw(st.integers(0, 10**9))
    for index, call in enumerate(calls):
        call["id"] = f"call_{number}_{index}"
    message: dict[str, Any] = {"role": "assistant", "content": draw(SAID)}
    if calls:
        message["tool_calls"] = calls
        message["content"] = draw(st.none() | SAID)
    elif draw(st.booleans()):
        message.update(content=None, refusal=draw(SAID))
    outputs = [{"role": "tool", "tool_call_id": one["id"], "content": draw(TEXT)} for one in calls]
    return [message, *outputs, draw(chat_users())]


@st.composite
def chat_users(draw: Any) -> dict[str, Any]:
    role = draw(st.sampled_from(["user", "user", "system", "developer"]))
    if role != "user" or draw(st.booleans()):
        return {"role": role, "content": draw(TEXT)}
    parts = st.one_of(
        st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}),
        st.fixed_dictionaries(
            {
                "type": st.just("image_url"),
                "image_url": st.fixed_dictionaries(
                    {"url": IMAGE}, optional={"detail": st.sampled_from(["low", "high"])}
                ),
            }
        ),
    )
    return {"role": role, "content": draw(st.lists(parts, min_size=1, max_size=3))}


@st.composite
def chat_requests(draw: Any) -> dict[str, Any]:
    messages = [draw(chat_users())]
    if draw(st.booleans()):
        messages.insert(0, {"role": "system", "content": draw(TEXT)})
    for turn in draw(st.lists(chat_turns(), max_size=3)):
        messages += turn
    request: dict[str, Any] = {"model": "agent", "messages": messages}
    if draw(st.booleans()):
        function = {
            "name": "look",
            "description": draw(SAID),
            "parameters": {"type": "object"},
            "strict": draw(st.booleans()),
        }
        request["tools"] = [{"type": "function", "function": function}]
        request["tool_choice"] = draw(
            st.sampled_from(
                ["auto", "required", "none", {"type": "function", "function": {"name": "look"}}]
            )
        )
    schema = {"name": "n", "schema": {"type": "object"}, "strict": True}
    optional = {
        "temperature": 0.5,
        "top_p": 0.5,
        "max_completion_tokens": 9,
        "parallel_tool_calls": False,
        "user": "u",
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": schema},
    }
    request.update({name: value for name, value in optional.items() if draw(st.booleans())})
    return request


@given(chat_requests())
def test_a_chat_request_survives_the_way_through_the_responses_api(wire: dict[str, Any]) -> None:
    body = RESPONSES.body(ChatRequest.model_validate(wire), "agent", stream=False)
    assert RESPONSES.read(body).request.wire() == wire


@st.composite
def assistant_items(draw: Any) -> list[dict[str, Any]]:
    """One turn of an assistant and what follows, as input items."""
    number = draw(st.integers(0, 10**9))
    items: list[dict[str, Any]] = []
    outputs: list[dict[str, Any]] = []

    def think() -> None:
        if draw(st.booleans()):
            encrypted = draw(st.sampled_from(["gAAA", None]))
            item = {"type": "reasoning", "id": f"rs_{number}_{len(items)}", "summary": []}
            items.append({**item, "encrypted_content": encrypted} if encrypted else item)

    calls = draw(st.integers(0, 3))
    if draw(st.booleans()) or not calls:
        think()
        items.append({"role": "assistant", "content": draw(SAID)})
        if draw(st.booleans()):
            items[-1]["phase"] = "commentary"
    for index in range(calls):
        think()
        call_id = f"call_{number}_{index}"
        if draw(st.booleans()):
            call = {"type": "function_call", "name": draw(NAMES), "arguments": draw(ARGUMENTS)}
        else:
            call = {"type": "custom_tool_call", "name": "patch", "input": draw(TEXT)}
        items.append({**call, "call_id": call_id})
        told = draw(TEXT | st.just([{"type": "input_text", "text": "x"}]))
        outputs.append({"type": f"{call['type']}_output", "call_id": call_id, "output": told})
    return [*items, *outputs, {"role": "user", "content": draw(TEXT)}]


@given(st.lists(assistant_items(), max_size=3), st.none() | TEXT)
def test_a_response_call_survives_the_way_through_chat(
    turns: list[list[dict[str, Any]]], instructions: str | None
) -> None:
    images = [{"type": "input_image", "image_url": "https://x/a.png", "detail": "low"}]
    body: dict[str, Any] = {
        "model": "agent",
        "input": [{"role": "user", "content": images}, *(item for turn in turns for item in turn)],
        "store": False,
        "tools": [
            {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": True},
            {"type": "custom", "name": "patch", "format": {"type": "text"}},
        ],
        "tool_choice": {"type": "custom", "name": "patch"},
    }
    if instructions is not None:
        body["instructions"] = instructions
    assert RESPONSES.body(RESPONSES.read(body).request, "agent", stream=False) == body


@st.composite
def completions(draw: Any) -> Completion:
    calls = [
        {
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": draw(NAMES), "arguments": draw(ARGUMENTS)},
        }
        for index in range(draw(st.integers(0, 3)))
    ]
    if calls and draw(st.booleans()):
        patch = {"name": "patch", "arguments": custom_arguments(draw(TEXT))}
        calls[-1]["function"] = patch
    message: dict[str, Any] = {"role": "assistant", "content": draw(st.none() | SAID)}
    if calls:
        message["tool_calls"] = calls
    if draw(st.booleans()):
        message["refusal"] = draw(SAID)
    if draw(st.booleans()):
        message["reasoning_content"] = draw(SAID)
    ended = "tool_calls" if calls else "stop"
    finish_reason = draw(st.sampled_from([ended, ended, "length", "content_filter"]))
    read, fresh, written, answer, thought = (draw(COUNTS) for _ in range(5))
    usage = {
        "prompt_tokens": read + fresh + written,
        "completion_tokens": answer + thought,
        "total_tokens": read + fresh + written + answer + thought,
        "prompt_tokens_details": {
            "cached_tokens": read,
            **({"cache_write_tokens": written} if written else {}),
        },
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
    return Completion.from_wire(
        {
            "id": "resp_tut_1",
            "model": "agent",
            "created": 5,
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
            "usage": usage,
        }
    )


ASKED = RESPONSES.read(
    {
        "model": "agent",
        "input": "x",
        "tools": [
            {"type": "function", "name": "look"},
            {"type": "function", "name": "take"},
            {"type": "custom", "name": "patch"},
        ],
    }
)


@given(completions())
def test_a_completion_survives_the_way_through_a_response(completion: Completion) -> None:
    again = RESPONSES.completion(RESPONSES.answer(completion, ASKED, {}))
    assert again.wire() == completion.wire()


@st.composite
def streams(draw: Any) -> tuple[Completion, list[dict[str, Any]]]:
    """A completion, and chunks of it whose pieces are split anywhere."""
    completion = draw(completions())
    choice = completion.choices[0]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    extra = choice.message.model_extra or {}

    def pieces(text: str) -> list[str]:
        cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
        return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    for name in ("reasoning_content", "content", "refusal"):
        text = extra.get(name) if name != "content" else choice.message.content
        deltas += [{name: piece} for piece in pieces(text or "")]
    fragments: list[list[dict[str, Any]]] = []
    for index, call in enumerate(choice.message.tool_calls or ()):
        name, *rest = [call["function"]["name"], *pieces(call["function"]["arguments"])]
        opening = {"index": index, "id": call["id"], "type": "function"}
        deltas.append({"tool_calls": [{**opening, "function": {"name": name, "arguments": ""}}]})
        fragments.append([{"index": index, "function": {"arguments": one}} for one in rest])
    while any(fragments):
        waiting = draw(st.sampled_from([some for some in fragments if some]))
        deltas.append({"tool_calls": [waiting.pop(0)]})
    chunks = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": choice.finish_reason}]})
    return completion, [*chunks, {"choices": [], "usage": completion.wire()["usage"]}]


@given(streams())
def test_a_stream_that_is_written_and_read_again_is_the_same_completion(
    stream: tuple[Completion, list[dict[str, Any]]],
) -> None:
    completion, chunks = stream
    encoder = RESPONSES.encoder(ASKED, completion.id, completion.created)
    raw = b"".join(encoder.feed(chunk) for chunk in chunks) + encoder.finish({})
    decoder, accumulator = RESPONSES.decoder(), Accumulator()
    events = EventParser().feed(raw)
    for event in events:
        for chunk in decoder.feed(event):
            accumulator.add(chunk)
    assert decoder.done
    request = ChatRequest(model="agent", messages=[])
    assert accumulator.completion(request, len).wire() == completion.wire()
    final = json.loads(events[-1].data)["response"]
    assert final == RESPONSES.answer(completion, ASKED, {})
