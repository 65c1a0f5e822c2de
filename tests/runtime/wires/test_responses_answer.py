from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import Response, ResponseInputItem
from pydantic import TypeAdapter

from tutelage.runtime.types import Completion
from tutelage.runtime.wires.failure import Failure
from tutelage.runtime.wires.responses import RESPONSES
from tutelage.runtime.wires.responses_ids import is_our_item, is_ours, response_id
from tutelage.runtime.wires.responses_items import continued, listed_items

TOOLS = [
    {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": True},
    {"type": "function", "name": "plain"},
    {"type": "custom", "name": "apply_patch"},
]


def completion(message: dict[str, Any], finish_reason: str = "stop", **more: Any) -> Completion:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None, **message},
        "finish_reason": finish_reason,
        **more,
    }
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 8},
    }
    body = {"id": "chatcmpl-abc", "model": "upstream", "created": 1700000000}
    return Completion.from_wire({**body, "choices": [choice], "usage": usage})


def answer(completed: Completion, facts: Any = None, **fields: Any) -> dict[str, Any]:
    asked = RESPONSES.read({"model": "agent", "input": "hello", "tools": TOOLS, **fields})
    made = RESPONSES.answer(completed, asked, facts or {})
    Response.model_validate(made)
    return made


def test_a_text_is_one_message() -> None:
    made = answer(completion({"content": "go to desk 1"}), instructions="Act.", user="u")
    assert made["id"] == "resp_tut_abc"
    assert made["object"] == "response"
    assert made["created_at"] == 1700000000
    assert made["status"] == "completed"
    assert made["model"] == "agent"
    assert made["instructions"] == "Act."
    assert made["user"] == "u"
    assert made["incomplete_details"] is None
    assert made["output"] == [
        {
            "id": "msg_tut_abc_0",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "go to desk 1", "annotations": [], "logprobs": []}
            ],
        }
    ]
    assert "tutelage" not in made


def test_the_usage_tells_cached_and_reasoning_tokens() -> None:
    assert answer(completion({"content": "x"}))["usage"] == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 8},
        "total_tokens": 120,
    }


def test_details_of_another_call_are_not_told() -> None:
    joined = completion({"content": "x"})
    doubled = joined.model_copy(update={"usage": joined.usage + joined.usage})
    usage = answer(doubled)["usage"]
    assert usage["output_tokens"] == 40
    assert usage["output_tokens_details"] == {"reasoning_tokens": 0}


def test_our_facts_stand_in_a_field_of_their_own() -> None:
    assert answer(completion({"content": "x"}), {"served": "student"})["tutelage"] == {
        "served": "student"
    }


def test_calls_keep_their_ids_and_custom_calls_get_their_input_back() -> None:
    calls = [
        {"id": "call_a", "type": "function", "function": {"name": "look", "arguments": "{}"}},
        {"id": None, "type": "function", "function": {"name": "plain", "arguments": ""}},
        {
            "id": "call_c",
            "type": "function",
            "function": {"name": "apply_patch", "arguments": '{"input":"a\\nb"}'},
        },
    ]
    made = answer(completion({"tool_calls": calls}, "tool_calls"))
    assert made["status"] == "completed"
    assert made["output"] == [
        {
            "id": "fc_tut_abc_0",
            "type": "function_call",
            "status": "completed",
            "call_id": "call_a",
            "name": "look",
            "arguments": "{}",
        },
        {
            "id": "fc_tut_abc_1",
            "type": "function_call",
            "status": "completed",
            "call_id": "call_tut_abc_1",
            "name": "plain",
            "arguments": "",
        },
        {
            "id": "ctc_tut_abc_2",
            "type": "custom_tool_call",
            "status": "completed",
            "call_id": "call_c",
            "name": "apply_patch",
            "input": "a\nb",
        },
    ]


@pytest.mark.parametrize("arguments", ["no json", '["x"]', '{"input": 7}'])
def test_what_is_no_input_object_is_the_input_itself(arguments: str) -> None:
    call = {"id": "c", "function": {"name": "apply_patch", "arguments": arguments}}
    made = answer(completion({"tool_calls": [call]}))
    assert made["output"][0]["input"] == arguments


def test_reasoning_comes_first_and_a_refusal_is_a_part() -> None:
    made = answer(completion({"reasoning_content": "Hmm.", "refusal": "No."}))
    assert [item["type"] for item in made["output"]] == ["reasoning", "message"]
    assert made["output"][0]["content"] == [{"type": "reasoning_text", "text": "Hmm."}]
    assert made["output"][1]["content"] == [{"type": "refusal", "refusal": "No."}]
    assert is_our_item(made["output"][0]["id"])


@pytest.mark.parametrize(
    ("finish_reason", "told"),
    [("length", "max_output_tokens"), ("content_filter", "content_filter")],
)
def test_an_answer_that_was_cut_is_incomplete(finish_reason: str, told: str) -> None:
    made = answer(completion({"content": "go to"}, finish_reason))
    assert made["status"] == "incomplete"
    assert made["incomplete_details"] == {"reason": told}
    assert made["output"][-1]["status"] == "incomplete"


def test_an_empty_answer_still_has_a_message() -> None:
    assert answer(completion({}))["output"][0]["content"][0]["text"] == ""


def test_log_probabilities_are_those_of_the_text() -> None:
    token = {"token": "x", "logprob": -0.5, "bytes": None}
    told = {"content": [{**token, "top_logprobs": [token]}], "refusal": None}
    made = answer(completion({"content": "x"}, logprobs=told), top_logprobs=1)
    listed = {"token": "x", "logprob": -0.5, "bytes": []}
    assert made["output"][0]["content"][0]["logprobs"] == [{**listed, "top_logprobs": [listed]}]
    assert made["top_logprobs"] == 1


def test_the_settings_of_the_call_are_repeated() -> None:
    asked = {
        "temperature": 0.5,
        "max_output_tokens": 64,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "tool_choice": "required",
        "text": {"verbosity": "low"},
        "reasoning": {"effort": "low"},
        "store": False,
        "previous_response_id": "resp_tut_0",
        "service_tier": "flex",
    }
    made = answer(completion({"content": "x"}), **asked)
    assert {name: made[name] for name in asked if name != "text"} == {
        name: value for name, value in asked.items() if name != "text"
    }
    assert made["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert made["tools"][1] == {
        "type": "function",
        "name": "plain",
        "description": None,
        "parameters": None,
        "strict": False,
    }
    assert made["tools"][2] == TOOLS[2]


def test_a_service_tier_that_the_api_does_not_have_is_not_repeated() -> None:
    assert answer(completion({"content": "x"}), service_tier="gold")["service_tier"] == "default"


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("resp_tut_1", "resp_tut_1"),
        ("chatcmpl-1-2", "resp_tut_12"),
        ("resp_68ab", "resp_tut_68ab"),
        ("0190-ab", "resp_tut_0190ab"),
    ],
)
def test_an_id_of_ours_follows_from_any_other(given: str, made: str) -> None:
    assert response_id(given) == made
    assert is_ours(made)


@pytest.mark.parametrize("given", ["", "chatcmpl-" + "x" * 200, "…"])
def test_an_unusable_id_is_hashed(given: str) -> None:
    assert len(response_id(given)) == len("resp_tut_") + 32


def test_an_error_is_an_openai_error_object() -> None:
    told = RESPONSES.error(Failure(400, "invalid_request", "no", code="c", param="input"))
    assert told == {
        "error": {"message": "no", "type": "invalid_request_error", "param": "input", "code": "c"}
    }


def test_a_string_input_is_listed_as_a_message_with_an_id() -> None:
    assert listed_items({"input": "hi"}, "resp_tut_1") == [
        {
            "type": "message",
            "id": "msg_in_tut_1_0",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_text", "text": "hi"}],
        }
    ]


def test_listed_items_have_types_ids_and_parts() -> None:
    given = [
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": [{"type": "input_text", "text": "x"}], "id": "msg_7"},
        {"type": "function_call", "name": "a", "call_id": "c", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "d"},
    ]
    items = listed_items({"input": given}, "resp_tut_1")
    assert [item["id"] for item in items] == [
        "msg_in_tut_1_0",
        "msg_7",
        "fc_in_tut_1_2",
        "fco_in_tut_1_3",
    ]
    assert items[0]["content"] == [{"type": "output_text", "text": "yes", "annotations": []}]
    assert listed_items({}, "resp_tut_1") == []
    for item in items[1:]:
        TypeAdapter(ResponseInputItem).validate_python(item)


def test_a_continued_call_reads_as_one_conversation() -> None:
    first = {"model": "agent", "input": "tidy"}
    call = {"id": "call_a", "function": {"name": "look", "arguments": "{}"}}
    told = {"content": "I look.", "tool_calls": [call], "reasoning_content": "Hmm."}
    made = answer(completion(told))
    earlier = [*listed_items(first, made["id"]), *made["output"]]
    output = {"type": "function_call_output", "call_id": "call_a", "output": "a mug"}
    body = {"model": "agent", "previous_response_id": made["id"], "input": [output]}
    asked = RESPONSES.read(continued(body, earlier))
    assert asked.native_only is None
    assert asked.request.wire()["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "tidy"}]},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {
                    "id": "call_a",
                    "type": "function",
                    "function": {"name": "look", "arguments": "{}"},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_a", "content": "a mug"},
    ]


def test_a_continued_string_comes_last() -> None:
    earlier = [{"role": "user", "content": "a"}]
    assert continued({"input": "b"}, earlier)["input"] == [
        *earlier,
        {"role": "user", "content": "b"},
    ]
    assert continued({"input": 7}, earlier) == {"input": 7}
