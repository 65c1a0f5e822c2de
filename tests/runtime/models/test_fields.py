from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.errors import BadRequest
from tutelage.runtime.models.fields import (
    MESSAGE_FIELDS,
    PUBLIC_FIELDS,
    ROUTING_FIELDS,
    only_public,
    reject_routing_fields,
)

PUBLIC: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "hi", "name": "ann"}],
    "temperature": 0.5,
    "max_completion_tokens": 7,
    "tools": [{"type": "function", "function": {"name": "go"}}],
    "tool_choice": "auto",
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
    "logprobs": True,
    "top_logprobs": 3,
    "stop": ["\n"],
}


def test_what_is_public_passes_unchanged() -> None:
    assert only_public(PUBLIC) == PUBLIC


@pytest.mark.parametrize(
    "name",
    [
        "prompt_embeds", "media_io_kwargs", "mm_processor_kwargs", "chat_template",
        "chat_template_kwargs", "guided_json", "guided_regex", "guided_grammar",
        "guided_decoding_backend", "structured_outputs", "vllm_xargs", "api_base", "extra_body",
        "documents", "add_generation_prompt", "kv_transfer_params", "cache_salt", "priority",
        "return_token_ids", "a_field_of_tomorrow",
    ],
)  # fmt: skip
def test_what_only_a_server_understands_is_dropped(name: str) -> None:
    assert only_public({**PUBLIC, name: {"x": 1}}) == PUBLIC


def test_messages_keep_only_their_public_fields() -> None:
    called: dict[str, Any] = {
        "role": "assistant",
        "content": None,
        "tool_calls": [],
        "reasoning_content": "hm",
    }
    result = {"role": "tool", "tool_call_id": "1", "content": "ok"}
    odd: dict[str, Any] = {**called, "prompt_embeds": "AAAA", "anthropic": {"cache_control": {}}}

    kept = only_public({"messages": [odd, {**result, "x": 1}, "no message"]})

    assert kept == {"messages": [called, result, "no message"]}


def test_parts_that_are_embeddings_are_dropped() -> None:
    text = {"type": "text", "text": "hi"}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    parts = [text, {"type": "image_embeds", "image_embeds": "AAAA"}, {"video_url": {}}, image, "x"]

    kept = only_public({"messages": [{"role": "user", "content": parts}]})

    assert kept["messages"][0]["content"] == [text, image, "x"]


def test_a_format_of_a_servers_own_is_dropped() -> None:
    assert only_public({"response_format": {"type": "structural_tag", "structures": []}}) == {}


def test_the_list_of_fields_can_be_narrower() -> None:
    assert only_public(PUBLIC, frozenset({"model"})) == {"model": "m"}


@given(st.dictionaries(st.text(max_size=12), st.integers() | st.lists(st.integers()), max_size=6))
def test_nothing_passes_that_is_not_listed(body: dict[str, Any]) -> None:
    kept = only_public({**body, "messages": [body]})

    assert set(kept) <= PUBLIC_FIELDS
    assert set(kept["messages"][0]) <= MESSAGE_FIELDS


@pytest.mark.parametrize("name", sorted(ROUTING_FIELDS))
def test_a_client_does_not_choose_where_its_request_goes(name: str) -> None:
    with pytest.raises(BadRequest, match="gateway's configuration") as caught:
        reject_routing_fields({**PUBLIC, name: "http://10.0.0.1"})

    assert caught.value.param == name


def test_no_public_field_is_taken_for_routing() -> None:
    reject_routing_fields(PUBLIC)

    assert not ROUTING_FIELDS & PUBLIC_FIELDS
