from __future__ import annotations

from typing import Any

import pytest

from tutelage.runtime.errors import BadRequest
from tutelage.runtime.wires.protocol import Asked
from tutelage.runtime.wires.responses import RESPONSES
from tutelage.runtime.wires.responses_ids import KEPT

PIXEL = "data:image/png;base64,iVBORw0KGgo="
FUNCTION = {
    "type": "function",
    "name": "shell",
    "description": "Runs a command.",
    "parameters": {"type": "object", "properties": {"command": {"type": "string"}}},
    "strict": True,
}
CUSTOM = {"type": "custom", "name": "apply_patch", "description": "Edits files."}


def read(**fields: Any) -> Asked:
    return RESPONSES.read({"model": "agent", "input": "hello", **fields})


def messages(**fields: Any) -> list[dict[str, Any]]:
    wire = read(**fields).request.wire()
    found: list[dict[str, Any]] = wire["messages"]
    return found


def call(name: str, call_id: str, arguments: str = "{}") -> dict[str, Any]:
    return {"type": "function_call", "name": name, "call_id": call_id, "arguments": arguments}


def output(call_id: str, told: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": told}


def chat_call(name: str, call_id: str, arguments: str = "{}") -> dict[str, Any]:
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def test_a_string_is_what_the_user_says_and_instructions_come_first() -> None:
    assert messages(instructions="Act.") == [
        {"role": "system", "content": "Act."},
        {"role": "user", "content": "hello"},
    ]


def test_messages_with_and_without_a_type_are_read_alike() -> None:
    said = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"role": "assistant", "content": "yes"},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "a", "annotations": []},
                {"type": "output_text", "text": "b", "annotations": []},
            ],
        },
        {"role": "user", "content": "go on"},
    ]
    assert messages(input=said) == [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": "yes"},
        {"role": "assistant", "content": "ab"},
        {"role": "user", "content": "go on"},
    ]


def test_text_and_consecutive_calls_are_one_message_with_several_calls() -> None:
    said = [
        {"role": "user", "content": "tidy"},
        {"role": "assistant", "content": "I look."},
        call("look", "call_a", '{"at": "desk"}'),
        call("look", "call_b", '{"at": "shelf"}'),
        output("call_a", "a mug"),
        output("call_b", "nothing"),
        call("take", "call_c"),
        output("call_c", "taken"),
    ]
    assert messages(input=said)[1:] == [
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                chat_call("look", "call_a", '{"at": "desk"}'),
                chat_call("look", "call_b", '{"at": "shelf"}'),
            ],
        },
        {"role": "tool", "tool_call_id": "call_a", "content": "a mug"},
        {"role": "tool", "tool_call_id": "call_b", "content": "nothing"},
        {"role": "assistant", "content": None, "tool_calls": [chat_call("take", "call_c")]},
        {"role": "tool", "tool_call_id": "call_c", "content": "taken"},
    ]


def test_text_between_calls_joins_the_message_of_the_calls() -> None:
    said = [
        {"role": "user", "content": "tidy"},
        {"role": "assistant", "content": "First."},
        call("a", "call_a"),
        {"role": "assistant", "content": "Second."},
        call("b", "call_b"),
        output("call_a", ""),
        output("call_b", ""),
    ]
    made = messages(input=said)
    assert made[1]["content"] == "First.\nSecond."
    assert [one["id"] for one in made[1]["tool_calls"]] == ["call_a", "call_b"]
    assert [one["role"] for one in made] == ["user", "assistant", "tool", "tool"]


def test_a_refusal_is_a_refusal_in_chat() -> None:
    refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    said = [{"role": "user", "content": "x"}, refused, {"role": "assistant", "content": "Sorry."}]
    assert messages(input=said)[1:] == [
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": "Sorry."},
    ]


def test_images_files_and_sounds_become_chat_parts_and_go_to_the_teacher() -> None:
    content = [
        {"type": "input_text", "text": "see", "prompt_cache_breakpoint": {"mode": "explicit"}},
        {"type": "input_image", "image_url": PIXEL, "detail": "low"},
        {"type": "input_image", "image_url": PIXEL, "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
    ]
    asked = read(input=[{"role": "user", "content": content}])
    assert asked.request.wire()["messages"][0]["content"] == [
        {"type": "text", "text": "see", "prompt_cache_breakpoint": {"mode": "explicit"}},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": PIXEL}},
        {
            "type": "file",
            "file": {"file_data": "data:application/pdf;base64,AA", "filename": "a.pdf"},
        },
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
    ]
    assert asked.unsupported == "input_image"
    assert asked.native_only is None


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ({"type": "input_image", "file_id": "file-1"}, "input_image.file_id"),
        ({"type": "input_file", "file_id": "file-1"}, "input_file.file_id"),
        ({"type": "input_file", "file_url": "https://x/a.pdf"}, "input_file.file_url"),
    ],
)
def test_what_lives_at_the_native_endpoint_needs_it(part: dict[str, Any], named: str) -> None:
    assert read(input=[{"role": "user", "content": [part]}]).native_only == named


def test_the_output_of_a_call_may_have_parts() -> None:
    told = [{"type": "input_text", "text": "seen"}, {"type": "input_image", "image_url": PIXEL}]
    asked = read(input=[call("look", "call_a"), output("call_a", told)])
    assert asked.request.wire()["messages"][-1]["content"] == [
        {"type": "text", "text": "seen"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]
    assert asked.unsupported == "input_image"


def test_reasoning_is_kept_on_the_message_that_it_led_to() -> None:
    first = {"type": "reasoning", "id": "rs_1", "summary": [], "content": []}
    second = {**first, "id": "rs_2"}
    said = [
        {"role": "user", "content": "x"},
        first,
        {"role": "assistant", "content": "I look.", "phase": "commentary"},
        second,
        call("look", "call_a"),
        output("call_a", "a mug"),
        {**first, "id": "rs_3"},
    ]
    asked = read(input=said)
    made = asked.request.wire()["messages"]
    assert made[1][KEPT] == {
        "reasoning": [{"at": 0, "item": first}, {"at": 1, "item": second}],
        "phase": "commentary",
    }
    assert made[3] == {
        "role": "assistant",
        "content": "",
        KEPT: {"reasoning": [{"at": 0, "item": {**first, "id": "rs_3"}}]},
    }
    assert asked.native_only is None


def test_function_tools_and_the_choice_among_them_are_translated() -> None:
    asked = read(tools=[FUNCTION], tool_choice={"type": "function", "name": "shell"})
    wire = asked.request.wire()
    function = {name: value for name, value in FUNCTION.items() if name != "type"}
    assert wire["tools"] == [{"type": "function", "function": function}]
    assert wire["tool_choice"] == {"type": "function", "function": {"name": "shell"}}
    assert asked.unsupported is None


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
def test_a_choice_in_one_word_stays_as_it_is(choice: str) -> None:
    assert read(tools=[FUNCTION], tool_choice=choice).request.wire()["tool_choice"] == choice


def test_allowed_tools_leave_only_those_tools() -> None:
    other = {**FUNCTION, "name": "other"}
    choice = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "other"}],
    }
    asked = read(tools=[FUNCTION, other], tool_choice=choice)
    wire = asked.request.wire()
    assert [tool["function"]["name"] for tool in wire["tools"]] == ["other"]
    assert wire["tool_choice"] == "required"
    assert asked.native_only is None


def test_a_custom_tool_becomes_a_function_of_one_text() -> None:
    asked = read(
        tools=[CUSTOM],
        tool_choice={"type": "custom", "name": "apply_patch"},
        input=[
            {"role": "user", "content": "edit"},
            {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": 'a "b"\n'},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
        ],
    )
    wire = asked.request.wire()
    tool = wire["tools"][0]
    assert tool["function"]["name"] == "apply_patch"
    assert tool["function"]["parameters"]["required"] == ["input"]
    assert tool[KEPT] == CUSTOM
    assert wire["tool_choice"] == {"type": "function", "function": {"name": "apply_patch"}}
    made = wire["messages"][1]["tool_calls"][0]
    assert made["function"] == {"name": "apply_patch", "arguments": '{"input":"a \\"b\\"\\n"}'}
    assert wire["messages"][2] == {"role": "tool", "tool_call_id": "c", "content": "done"}
    assert asked.unsupported is None
    assert asked.native_only is None


def test_a_grammar_is_described_and_left_to_the_teacher() -> None:
    format = {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'}
    asked = read(tools=[{**CUSTOM, "format": format}])
    described = asked.request.wire()["tools"][0]["function"]["description"]
    assert "Edits files." in described
    assert 'start: "x"' in described
    assert asked.unsupported == "tools (grammar)"
    assert asked.native_only is None


def test_settings_are_translated() -> None:
    schema = {"type": "object", "properties": {}}
    asked = read(
        max_output_tokens=64,
        temperature=0.5,
        top_p=0.9,
        parallel_tool_calls=False,
        user="u",
        metadata={"a": "b"},
        reasoning={"effort": "low", "summary": "auto"},
        text={
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True},
        },
        stream=True,
        include=["reasoning.encrypted_content"],
        store=False,
        truncation="disabled",
    )
    wire = asked.request.wire(messages=None)
    assert wire == {
        "model": "agent",
        "max_completion_tokens": 64,
        "temperature": 0.5,
        "top_p": 0.9,
        "parallel_tool_calls": False,
        "user": "u",
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": schema, "strict": True},
        },
        "stream": True,
    }
    assert asked.stream
    assert (asked.unsupported, asked.native_only) == (None, None)
    assert asked.body["metadata"] == {"a": "b"}


def test_json_objects_and_plain_text_are_formats() -> None:
    told = read(text={"format": {"type": "json_object"}}).request.wire()
    assert told["response_format"] == {"type": "json_object"}
    assert "response_format" not in read(text={"format": {"type": "text"}}).request.wire()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools (web_search)"),
        ({"tools": [{"type": "local_shell"}]}, "tools (local_shell)"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools (mcp)"),
        ({"tools": [{**FUNCTION, "defer_loading": True}]}, "tools (defer_loading)"),
        ({"tools": [{**FUNCTION, "allowed_callers": ["programmatic"]}]}, "tools (allowed_callers)"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        (
            {
                "tools": [FUNCTION],
                "tool_choice": {"type": "allowed_tools", "tools": [{"type": "mcp"}]},
            },
            "tool_choice",
        ),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}, "input": None}, "prompt"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"previous_response_id": "resp_68"}, "previous_response_id"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        (
            {"input": [{"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}]},
            "input (encrypted reasoning)",
        ),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input (item_reference)"),
        ({"input": [{"type": "computer_call", "id": "x"}]}, "input (computer_call)"),
        (
            {"input": [{**call("a", "b"), "caller": {"type": "program", "caller_id": "x"}}]},
            "input (call by a hosted tool)",
        ),
    ],
)
def test_what_no_chat_upstream_understands_is_named(fields: dict[str, Any], named: str) -> None:
    asked = read(**fields)
    assert asked.native_only == named
    assert asked.unsupported == named


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"top_logprobs": 2}, "logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "logprobs"),
        ({"truncation": "auto"}, "truncation"),
        ({"seed": 1}, "seed"),
        ({"input": [{"role": "user", "content": "x"}, call("a", "b")]}, "prefill"),
    ],
)
def test_what_agreed_samples_cannot_honour_is_named(fields: dict[str, Any], named: str) -> None:
    asked = read(**fields)
    assert asked.unsupported == named
    assert asked.native_only is None


def test_log_probabilities_are_asked_for() -> None:
    wire = read(top_logprobs=2).request.wire()
    assert (wire["logprobs"], wire["top_logprobs"]) == (True, 2)


def test_an_earlier_response_of_ours_is_taken_for_resolved() -> None:
    assert read(previous_response_id="resp_tut_1").native_only is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], None),
        ({"input": "x"}, "model"),
        ({"model": "", "input": "x"}, "model"),
        ({"model": "m"}, "input"),
        ({"model": "m", "input": []}, "input"),
        ({"model": "m", "input": 7}, "input"),
        ({"model": "m", "input": ["x"]}, "input.0"),
        ({"model": "m", "input": [{}]}, "input.0.type"),
        ({"model": "m", "input": [{"type": []}]}, "input.0.type"),
        ({"model": "m", "input": [{"role": "robot", "content": "x"}]}, "input.0.role"),
        ({"model": "m", "input": [{"role": "user"}]}, "input.0.content"),
        ({"model": "m", "input": [{"role": "user", "content": ["x"]}]}, "input.0.content.0"),
        (
            {"model": "m", "input": [{"role": "user", "content": [{"type": []}]}]},
            "input.0.content.0.type",
        ),
        (
            {"model": "m", "input": [{"role": "user", "content": [{"type": "video"}]}]},
            "input.0.content.0.type",
        ),
        (
            {"model": "m", "input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input.0.content.0.image_url",
        ),
        (
            {"model": "m", "input": [{"role": "user", "content": [{"type": "input_file"}]}]},
            "input.0.content.0",
        ),
        (
            {"model": "m", "input": [{"role": "assistant", "content": [{"type": "input_image"}]}]},
            "input.0.content.0.type",
        ),
        ({"model": "m", "input": [{"type": "function_call"}]}, "input.0.name"),
        ({"model": "m", "input": [{**call("a", "b"), "call_id": ""}]}, "input.0.call_id"),
        ({"model": "m", "input": [{**call("a", "b"), "arguments": {}}]}, "input.0.arguments"),
        ({"model": "m", "input": [output("b", 7)]}, "input.0.output"),
        ({"model": "m", "input": "x", "temperature": 3}, "temperature"),
        ({"model": "m", "input": "x", "max_output_tokens": 0}, "max_output_tokens"),
        ({"model": "m", "input": "x", "stream": "yes"}, "stream"),
        ({"model": "m", "input": "x", "tools": {}}, "tools"),
        ({"model": "m", "input": "x", "tools": ["x"]}, "tools.0"),
        ({"model": "m", "input": "x", "tools": [{"type": "function"}]}, "tools.0.name"),
        (
            {"model": "m", "input": "x", "tools": [{**CUSTOM, "format": "lark"}]},
            "tools.0.format",
        ),
        (
            {"model": "m", "input": "x", "tools": [{**FUNCTION, "parameters": []}]},
            "tools.0.parameters",
        ),
        ({"model": "m", "input": "x", "tool_choice": "maybe"}, "tool_choice"),
        ({"model": "m", "input": "x", "tool_choice": 7}, "tool_choice"),
        (
            {"model": "m", "input": "x", "tool_choice": {"type": "function", "name": "x"}},
            "tool_choice.name",
        ),
        ({"model": "m", "input": "x", "text": {"format": {"type": "xml"}}}, "text.format.type"),
        (
            {"model": "m", "input": "x", "text": {"format": {"type": "json_schema", "name": "n"}}},
            "text.format.schema",
        ),
        ({"model": "m", "input": "x", "reasoning": {"effort": 1}}, "reasoning.effort"),
    ],
)
def test_a_malformed_call_is_refused_with_the_name_of_the_field(body: Any, param: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        RESPONSES.read(body)
    assert caught.value.param == param
