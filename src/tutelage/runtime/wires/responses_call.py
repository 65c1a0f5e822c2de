"""Calls of the Responses API, checked and read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tutelage.runtime.errors import BadRequest
from tutelage.runtime.wires.chat_request import request_of
from tutelage.runtime.wires.fields import (
    check_body,
    check_choice,
    check_list,
    check_number,
    check_object,
    check_switch,
    check_text,
    check_whole,
)
from tutelage.runtime.wires.protocol import Asked
from tutelage.runtime.wires.responses_ids import is_ours
from tutelage.runtime.wires.responses_input import Transcript, transcript
from tutelage.runtime.wires.responses_tools import (
    chat_choice,
    chat_tools,
    custom_names,
    has_grammar,
    hosted_tools,
)

# Fields that mean the same to a chat upstream; the last ones are no part of the API, yet sent.
_SHARED = (
    "temperature", "top_p", "parallel_tool_calls", "user", "safety_identifier", "service_tier",
    "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "stop", "seed", "frequency_penalty", "presence_penalty", "logit_bias",
)  # fmt: skip
_NUMBERS: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
_COUNTS = {"max_output_tokens": 1, "top_logprobs": 0, "max_tool_calls": 1, "seed": None}
_SWITCHES = ("stream", "store", "background", "parallel_tool_calls")
_OBJECTS = ("text", "reasoning", "metadata", "stream_options", "prompt", "logit_bias")
_TEXTS = ("instructions", "previous_response_id", "user", "truncation", "service_tier")
_NATIVE_OBJECTS = ("conversation", "prompt", "context_management", "moderation")
_LOGPROBS = "message.output_text.logprobs"


def read_call(body: object) -> Asked:
    """The call in a decoded body.

    A ``previous_response_id`` of ours is taken for resolved: its items stand in ``input`` by now.

    Raises:
        BadRequest: The body is no call; ``param`` names the field.
    """
    asked = check_body(body)
    _check_fields(asked)
    said = transcript(asked.get("input"), asked.get("instructions"))
    listed = asked.get("tools") or []
    tools = chat_tools(listed)
    fields = {name: asked[name] for name in _SHARED if asked.get(name) is not None}
    choice: Any = asked.get("tool_choice")
    is_hosted_choice = False
    if choice is not None:
        choice, tools = chat_choice(choice, tools)
        is_hosted_choice = choice is None
    if tools:
        fields["tools"] = tools
    if choice is not None and (tools or choice == "required"):
        fields["tool_choice"] = choice
    if asked.get("max_output_tokens") is not None:
        fields["max_completion_tokens"] = asked["max_output_tokens"]
    fields.update(_format(asked.get("text") or {}))
    fields.update(_logprobs(asked))
    effort = (asked.get("reasoning") or {}).get("effort")
    if effort is not None:
        fields["reasoning_effort"] = check_text(effort, "reasoning.effort")
    stream = bool(asked.get("stream"))
    if stream:
        fields["stream"] = True
    native_only = list(_native_only(asked, said, is_hosted_choice))
    if not said.messages and not native_only:
        raise BadRequest("input is missing: give a string or a list of items", param="input")
    return Asked(
        body=asked,
        request=request_of({"model": asked["model"], "messages": said.messages, **fields}),
        stream=stream,
        unsupported=next(iter(native_only), None) or next(_unsupported(asked, said), None),
        native_only=next(iter(native_only), None),
        kept={"custom": custom_names(listed)},
    )


def _check_fields(body: Mapping[str, Any]) -> None:
    check_text(body.get("model"), "model", empty=False)
    for name, (low, high) in _NUMBERS.items():
        if body.get(name) is not None:
            check_number(body[name], name, least=low, most=high)
    for name, least in _COUNTS.items():
        if body.get(name) is not None:
            check_whole(body[name], name, least=least)
    checks: tuple[tuple[tuple[str, ...], Callable[[object, str], object]], ...] = (
        (_SWITCHES, check_switch),
        (_OBJECTS, check_object),
        (_TEXTS, check_text),
        (("tools", "include"), check_list),
    )
    for names, check in checks:
        for name in names:
            if body.get(name) is not None:
                check(body[name], name)


def _format(text: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if text.get("verbosity") is not None:
        fields["verbosity"] = check_text(text["verbosity"], "text.verbosity")
    if text.get("format") is None:
        return fields
    path = "text.format"
    format = check_object(text["format"], path)
    kinds = frozenset({"text", "json_object", "json_schema"})
    kind = check_choice(format.get("type"), f"{path}.type", kinds)
    if kind == "json_object":
        fields["response_format"] = {"type": kind}
    elif kind == "json_schema":
        check_text(format.get("name"), f"{path}.name", empty=False)
        check_object(format.get("schema"), f"{path}.schema")
        names = ("name", "description", "schema", "strict")
        schema = {name: format[name] for name in names if format.get(name) is not None}
        fields["response_format"] = {"type": kind, kind: schema}
    return fields


def _logprobs(body: Mapping[str, Any]) -> dict[str, Any]:
    top = body.get("top_logprobs")
    if not top and _LOGPROBS not in (body.get("include") or ()):
        return {}
    return {"logprobs": True, **({"top_logprobs": top} if top else {})}


def _native_only(
    body: Mapping[str, Any], said: Transcript, is_hosted_choice: bool
) -> Iterator[str]:
    for kind in hosted_tools(body.get("tools") or ()):
        yield f"tools ({kind})"
    if is_hosted_choice:
        yield "tool_choice"
    if body.get("background"):
        yield "background"
    for name in _NATIVE_OBJECTS:
        if body.get(name):
            yield name
    previous = body.get("previous_response_id")
    if previous and not is_ours(previous):
        yield "previous_response_id"
    if (body.get("reasoning") or {}).get("mode") not in (None, "standard"):
        yield "reasoning.mode"
    yield from said.native_only


def _unsupported(body: Mapping[str, Any], said: Transcript) -> Iterator[str]:
    yield from _logprobs(body)
    for name in ("logit_bias", "seed"):
        if body.get(name) is not None:
            yield name
    if body.get("truncation") == "auto":
        yield "truncation"
    if any(map(has_grammar, body.get("tools") or ())):
        yield "tools (grammar)"
    yield from said.unsupported
    if said.messages[-1]["role"] == "assistant":
        yield "prefill"
