from __future__ import annotations

from typing import Any

import pytest

from tutelage.runtime.errors import BadRequest
from tutelage.runtime.types import ChatRequest
from tutelage.runtime.wires.messages import MessagesWire
from tutelage.runtime.wires.protocol import Wire

WIRE: Wire = MessagesWire()


MARK = {"cache_control": {"type": "ephemeral"}}


PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}


SCHEMA = {"type": "object", "properties": {"to": {"type": "string"}}}


def call(*messages: Any, **fields: Any) -> dict[str, Any]:
    said = list(messages) or [{"role": "user", "content": "go"}]
    body = {"model": "agent", "max_tokens": 64, "messages": said, **fields}
    return {name: value for name, value in body.items() if value != "absent"}


def text(value: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **fields}


def sent(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    request = ChatRequest.model_validate({"model": "alias", "messages": list(messages), **fields})
    return WIRE.body(request, "claude", stream=False)


def again(body: dict[str, Any]) -> dict[str, Any]:
    return WIRE.body(WIRE.read(body).request, body["model"], stream=bool(body.get("stream")))


def test_ids_that_the_api_refuses_stay_distinct() -> None:
    calls = [
        {"id": id, "type": "function", "function": {"name": "f", "arguments": ""}}
        for id in ("a.b", "a:b", "a_b", "x" * 80, "y" * 64, "")
    ]
    body = sent(
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": calls},
    )
    ids = [block["id"] for block in body["messages"][1]["content"]]
    assert len(set(ids)) == 6
    assert all(len(id) <= 64 and id.replace("_", "").isalnum() for id in ids)
    assert ids[2] == "a_b"
    assert ids[4] == "y" * 64


def test_limits_and_options_of_a_chat_request_are_translated() -> None:
    asked = {"role": "user", "content": "go"}
    assert sent(asked, max_completion_tokens=5)["max_tokens"] == 5
    assert sent(asked, max_tokens=7, max_completion_tokens=5)["max_tokens"] == 7
    request = ChatRequest.model_validate({"model": "m", "messages": [asked]})
    assert MessagesWire(max_tokens=3).body(request, "c", stream=True) == {
        "model": "c",
        "max_tokens": 3,
        "messages": [asked],
        "stream": True,
    }
    body = sent(
        asked,
        n=1,
        stop="END",
        user="u",
        seed=3,
        stream=True,
        thinking={"type": "adaptive"},
        tools=[{"type": "function", "function": {"name": "f"}, **MARK}],
        parallel_tool_calls=False,
    )
    assert body == {
        "model": "claude",
        "max_tokens": 8192,
        "messages": [asked],
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u"},
        "thinking": {"type": "adaptive"},
        "tools": [
            {"name": "f", "input_schema": {"type": "object", "properties": {}}, **MARK},
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    }
    tools = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}]
    assert sent(asked, tools=tools)["tools"] == [
        {"name": "f", "input_schema": SCHEMA, "strict": True}
    ]
    chosen = sent(asked, tools=tools, tool_choice={"type": "allowed_tools"})
    assert "tool_choice" not in chosen
    assert sent(asked, tools=tools, tool_choice="none", parallel_tool_calls=True)[
        "tool_choice"
    ] == {"type": "none"}
    assert "tool_choice" not in sent(asked, tool_choice="required")


def test_parts_of_a_chat_message_become_blocks() -> None:
    url = "data:image/png;base64,iVBORw0KGgo="
    parts = [
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}, **MARK},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}},
        {"type": "refusal", "refusal": "no"},
    ]
    body = sent({"role": "user", "content": parts})
    assert body["messages"][0]["content"] == [
        {"type": "image", "source": PNG, **MARK},
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        {"type": "document", "source": PDF},
        text("no"),
    ]
    declined = sent({"role": "assistant", "content": None, "refusal": "no"})
    assert declined["messages"] == [{"role": "assistant", "content": "no"}]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {}},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "image_url", "image_url": "https://x"},
        {},
    ],
)
def test_a_part_without_a_word_for_it_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        sent({"role": "user", "content": [part]})
    assert caught.value.param == "messages"


def test_a_tool_without_a_word_for_it_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        sent({"role": "user", "content": "go"}, tools=[{"type": "custom", "custom": {}}])
    assert caught.value.param == "tools"


def test_a_client_cannot_choose_the_model_by_our_own_key() -> None:
    foreign = {"model": "dearer", "stream": True, "max_tokens": 9, "thinking": {"type": "adaptive"}}
    body = sent({"role": "user", "content": "go"}, anthropic=foreign)
    assert body == {
        "model": "claude",
        "max_tokens": 8192,
        "messages": [{"role": "user", "content": "go"}],
        "thinking": {"type": "adaptive"},
    }


@pytest.mark.parametrize("junk", ["x", 5, [], {"content": "x"}, {"content": [5]}, {"rest": 5}])
def test_junk_under_our_own_key_does_no_harm(junk: Any) -> None:
    part = {"type": "text", "text": "go", "anthropic": junk}
    body = sent(
        {"role": "system", "content": [part], "anthropic": junk},
        {"role": "user", "content": [part], "anthropic": junk},
        {"role": "assistant", "content": "so", "anthropic": junk},
        {"role": "tool", "content": "so", "tool_call_id": "t", "anthropic": junk},
        tools=[{"type": "function", "function": {"name": "f"}, "anthropic": junk}],
    )
    assert body["system"] == "go"
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]


def test_thoughts_that_nobody_signed_are_not_sent() -> None:
    said = [{"type": "thinking", "thinking": "hm", "signature": ""}, text("so")]
    body = call({"role": "user", "content": "go"}, {"role": "assistant", "content": said})
    assert again(body)["messages"][1] == {"role": "assistant", "content": "so"}
