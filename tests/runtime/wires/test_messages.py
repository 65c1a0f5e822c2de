from __future__ import annotations

import math
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


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def text(value: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **fields}


def chat_messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = WIRE.read(body).request.wire()["messages"]
    return messages


def sent(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    request = ChatRequest.model_validate({"model": "alias", "messages": list(messages), **fields})
    return WIRE.body(request, "claude", stream=False)


def again(body: dict[str, Any]) -> dict[str, Any]:
    return WIRE.body(WIRE.read(body).request, body["model"], stream=bool(body.get("stream")))


def test_a_call_is_read_as_chat() -> None:
    body = call(
        system="be brief",
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        stop_sequences=["END"],
        stream=True,
        metadata={"user_id": "u1"},
        tools=[{"name": "go", "description": "walks", "input_schema": SCHEMA}],
    )
    asked = WIRE.read(body)
    function = {"name": "go", "parameters": SCHEMA, "description": "walks"}
    assert asked.request.wire() == {
        "model": "agent",
        "max_tokens": 64,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "stream": True,
        "stop": ["END"],
        "user": "u1",
        "tools": [{"type": "function", "function": function}],
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "go"},
        ],
    }
    assert (asked.stream, asked.include_usage) == (True, True)
    assert (asked.unsupported, asked.native_only) == (None, None)


def test_tool_calls_and_their_results_become_chat_messages() -> None:
    body = call(
        {"role": "user", "content": "go"},
        {
            "role": "assistant",
            "content": [
                text("walking"),
                {"type": "tool_use", "id": "t1", "name": "go", "input": {"to": "désk"}},
                {"type": "tool_use", "id": "t2", "name": "look", "input": {}},
            ],
        },
        user(
            {"type": "tool_result", "tool_use_id": "t1", "content": "at the desk"},
            {"type": "tool_result", "tool_use_id": "t2", "content": [text("a pen"), text("ink")]},
            {"type": "tool_result", "tool_use_id": "t3"},
            text("and now?"),
        ),
    )
    _, said, first, second, third, asked = chat_messages(body)
    assert said == {
        "role": "assistant",
        "content": "walking",
        "tool_calls": [
            {
                "id": "t1",
                "type": "function",
                "function": {"name": "go", "arguments": '{"to":"désk"}'},
            },
            {"id": "t2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
        ],
    }
    assert first == {"role": "tool", "tool_call_id": "t1", "content": "at the desk"}
    assert second["content"] == [text("a pen"), text("ink")]
    assert third["content"] == ""
    assert asked == {"role": "user", "content": "and now?"}


@pytest.mark.parametrize(
    ("choice", "read"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "go"},
            {"tool_choice": {"type": "function", "function": {"name": "go"}}},
        ),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
    ],
)
def test_a_choice_of_tools_is_read_and_written_again(
    choice: dict[str, Any], read: dict[str, Any]
) -> None:
    tools = [{"name": "go", "input_schema": SCHEMA}]
    body = call(tools=tools, tool_choice=choice)
    request = WIRE.read(body).request
    chosen = {
        n: v for n, v in request.wire().items() if n in ("tool_choice", "parallel_tool_calls")
    }
    assert chosen == read
    assert again(body) == body


@pytest.mark.parametrize(
    "body",
    [
        call(user(text("a", **MARK), text("b")), system=[text("x", **MARK), text("y")]),
        call(system="one"),
        call(user({"type": "image", "source": PNG, **MARK}, text("what?"))),
        call(user({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}})),
        call(user({"type": "image", "source": {"type": "file", "file_id": "f"}})),
        call(user({"type": "image", "source": {**PNG, "media_type": "weird"}})),
        call(user({"type": "document", "source": PDF, "title": "t.pdf", "context": "c", **MARK})),
        call(user({"type": "document", "source": PDF})),
        call(user({"type": "document", "source": {"type": "text", "data": "d"}, "title": "t"})),
        call(user({"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}})),
        call(user({"type": "search_result", "source": "s", "title": "t", "content": [text("c")]})),
        call(user({"type": "hologram", "source": "s"})),
        call(
            user({"type": "tool_result", "tool_use_id": "t", "content": "no", "is_error": True}),
        ),
        call(
            user(
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [text("seen"), {"type": "image", "source": PNG}],
                    **MARK,
                },
                text("next"),
            )
        ),
        call(
            {"role": "user", "content": "go"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s1"},
                    {"type": "redacted_thinking", "data": "x"},
                    text("a", **MARK),
                    {"type": "tool_use", "id": "t", "name": "n", "input": {}, **MARK},
                    text("b"),
                ],
            },
            {"role": "user", "content": "on"},
        ),
        call({"role": "user", "content": "a"}, {"role": "system", "content": "b"}, system="c"),
        call({"role": "user", "content": "a"}, {"role": "assistant", "content": "so"}),
        call(tools=[{"name": "go", "input_schema": SCHEMA, "strict": True, **MARK}]),
        call(tools=[{"type": "custom", "name": "go", "input_schema": SCHEMA}]),
        call(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]),
        call(metadata={"user_id": "u", "team": "t"}),
        call(metadata={"user_id": None}),
        call(mcp_servers=[{"name": "m"}], container="c", context_management={"edits": []}),
        call(thinking={"type": "enabled", "budget_tokens": 1024}, service_tier="auto"),
        call(
            output_config={"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
        ),
        call(stream=True, temperature=0.0, top_k=0),
        call(max_tokens=0),
    ],
)
def test_a_call_reaches_an_upstream_of_its_own_wire_as_it_was(body: dict[str, Any]) -> None:
    assert again(body) == body


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], None),
        (call(model="absent"), "model"),
        (call(model=""), "model"),
        (call(max_tokens="absent"), "max_tokens"),
        (call(max_tokens=-1), "max_tokens"),
        (call(max_tokens="many"), "max_tokens"),
        (call(messages="absent"), "messages"),
        (call(messages=[]), "messages"),
        (call("hi"), "messages.0"),
        (call({"content": "x"}), "messages.0.role"),
        (call({"role": "tool", "content": "x"}), "messages.0.role"),
        (call({"role": "user"}), "messages.0.content"),
        (call({"role": "user", "content": {}}), "messages.0.content"),
        (call(user("x")), "messages.0.content.0"),
        (call(user({"text": "x"})), "messages.0.content.0.type"),
        (call(user({"type": "text"})), "messages.0.content.0.text"),
        (call(user({"type": "image"})), "messages.0.content.0.source"),
        (call(user({"type": "image", "source": {}})), "messages.0.content.0.source.type"),
        (
            call(user({"type": "image", "source": {"type": "base64", "media_type": "a/b"}})),
            "messages.0.content.0.source.data",
        ),
        (
            call(user({"type": "document", "source": {"type": "url"}})),
            "messages.0.content.0.source.url",
        ),
        (call(user({"type": "tool_result"})), "messages.0.content.0.tool_use_id"),
        (
            call(user({"type": "tool_result", "tool_use_id": "t", "content": 5})),
            "messages.0.content.0.content",
        ),
        (
            call(user({"type": "tool_result", "tool_use_id": "t", "content": [{}]})),
            "messages.0.content.0.content.0.type",
        ),
        (
            call(user({"type": "tool_use", "id": "t", "name": "n", "input": {}})),
            "messages.0.content.0.type",
        ),
        (
            call({"role": "assistant", "content": [{"type": "tool_use", "name": "n"}]}),
            "messages.0.content.0.id",
        ),
        (
            call(
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "t", "name": "n", "input": "{}"}],
                }
            ),
            "messages.0.content.0.input",
        ),
        (
            call({"role": "assistant", "content": [{"type": "thinking"}]}),
            "messages.0.content.0.thinking",
        ),
        (call(system=5), "system"),
        (call(system=[{"type": "image", "source": PNG}]), "system.0.type"),
        (call(temperature=math.nan), "temperature"),
        (call(temperature=1.5), "temperature"),
        (call(top_k=1.5), "top_k"),
        (call(stream=1), "stream"),
        (call(metadata=[]), "metadata"),
        (call(thinking="yes"), "thinking"),
        (call(stop_sequences="END"), "stop_sequences"),
        (call(stop_sequences=[1]), "stop_sequences.0"),
        (call(tool_choice="auto"), "tool_choice"),
        (call(tool_choice={"type": "required"}), "tool_choice.type"),
        (call(tool_choice={"type": "tool"}), "tool_choice.name"),
        (
            call(tool_choice={"type": "any", "disable_parallel_tool_use": 1}),
            "tool_choice.disable_parallel_tool_use",
        ),
        (call(tools={}), "tools"),
        (call(tools=[1]), "tools.0"),
        (call(tools=[{"type": 5}]), "tools.0.type"),
        (call(tools=[{"input_schema": {}}]), "tools.0.name"),
        (call(tools=[{"name": "go"}]), "tools.0.input_schema"),
        (call(tools=[{"name": "go", "input_schema": {}, "description": 5}]), "tools.0.description"),
    ],
)
def test_a_body_that_is_no_call_is_refused_with_the_name_of_the_field(
    body: Any, param: str | None
) -> None:
    with pytest.raises(BadRequest) as caught:
        WIRE.read(body)
    assert caught.value.param == param
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "unsupported", "native_only"),
    [
        (call(thinking={"type": "adaptive"}), "thinking", None),
        (call(thinking={"type": "disabled"}), None, None),
        (call(user({"type": "image", "source": PNG})), "image", None),
        (
            call(user({"type": "image", "source": {"type": "file", "file_id": "f"}})),
            "image",
            "messages.0.content.0",
        ),
        (call(user({"type": "document", "source": PDF})), "document", None),
        (
            call(user({"type": "document", "source": {"type": "url", "url": "https://x"}})),
            "document",
            "messages.0.content.0",
        ),
        (
            call(
                user(
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "content": [{"type": "image", "source": PNG}],
                    }
                )
            ),
            "image",
            None,
        ),
        (call({"role": "assistant", "content": "so"}), "prefill", None),
        (call(tools=[{"type": "bash_20250124", "name": "bash"}]), "tools", "tools.0"),
        (call(mcp_servers=[{"name": "m"}]), "mcp_servers", "mcp_servers"),
        (call(container="c"), "container", "container"),
        (call(max_tokens=0), "max_tokens", "max_tokens"),
        (
            call(
                {"role": "assistant", "content": [{"type": "server_tool_use", "id": "s"}]},
                {"role": "user", "content": "on"},
            ),
            "messages",
            "messages.0.content.0",
        ),
        (call(context_management={"edits": []}, service_tier="auto"), None, None),
    ],
)
def test_what_samples_cannot_honour_is_named(
    body: dict[str, Any], unsupported: str | None, native_only: str | None
) -> None:
    asked = WIRE.read(body)
    assert (asked.unsupported, asked.native_only) == (unsupported, native_only)


def test_a_schema_for_the_answer_reaches_a_chat_upstream() -> None:
    form = {"type": "json_schema", "schema": SCHEMA}
    request = WIRE.read(call(output_config={"format": form})).request
    described = {"name": "answer", "schema": SCHEMA, "strict": True}
    wanted = {"type": "json_schema", "json_schema": described}
    assert request.wire()["response_format"] == wanted
    body = sent({"role": "user", "content": "go"}, response_format=wanted)
    assert body["output_config"] == {"format": form}


def test_documents_are_readable_for_a_model_that_knows_only_text() -> None:
    source = {"type": "content", "content": [text("one"), {"type": "image"}, text("two")]}
    found = {"type": "search_result", "source": "s", "title": "t", "content": [text("c")]}
    unknown = {"type": "container_upload", "file_id": "f"}
    blocks = [{"type": "document", "source": source, "title": "t"}, found, unknown]
    (message,) = chat_messages(call(user(*blocks)))
    shown = [part["text"] for part in message["content"]]
    assert shown == ["t\none\ntwo", "t\nc", "[container_upload]"]


def test_a_chat_request_becomes_turns_that_alternate() -> None:
    tool_call = {"id": "c.1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    body = sent(
        {"role": "system", "content": "s1"},
        {"role": "developer", "content": "s2"},
        {"role": "user", "content": "a"},
        {"role": "user", "content": [text("b", **MARK), text(" ")]},
        {"role": "assistant", "content": "", "tool_calls": [tool_call]},
        {"role": "user", "content": "hurry"},
        {"role": "tool", "tool_call_id": "c.1", "content": "done"},
        {"role": "assistant", "content": " "},
        {"role": "system", "content": "late"},
        {"role": "user", "content": ""},
    )
    assert body["system"] == [text("s1"), text("s2"), text("late")]
    asked, said, answered = body["messages"]
    assert asked == {"role": "user", "content": [text("a"), text("b", **MARK)]}
    (use,) = said["content"]
    assert {**use, "id": ""} == {"type": "tool_use", "id": "", "name": "f", "input": {"a": 1}}
    result, hurry = answered["content"]
    assert result == {"type": "tool_result", "tool_use_id": use["id"], "content": "done"}
    assert hurry == text("hurry")
    assert use["id"].startswith("c_1_")
    assert body["max_tokens"] == 8192
