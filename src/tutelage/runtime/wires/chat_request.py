"""Calls of the OpenAI chat completions API, checked and read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from tutelage.runtime.errors import BadRequest
from tutelage.runtime.types import ChatRequest
from tutelage.runtime.wires.fields import (
    check_body,
    check_choice,
    check_list,
    check_number,
    check_object,
    check_switch,
    check_text,
    check_whole,
    wrong,
)
from tutelage.runtime.wires.native import NATIVE
from tutelage.runtime.wires.protocol import Asked

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
MOST_CHOICES = 128
TEXT_PARTS = frozenset({"text", "refusal"})
MEDIA_PARTS = frozenset({"image_url", "input_audio", "file"})

_NUMBERS: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
_COUNTS: dict[str, tuple[int | None, int | None]] = {
    "n": (1, MOST_CHOICES),
    "max_tokens": (1, None),
    "max_completion_tokens": (1, None),
    "top_logprobs": (0, None),
    "seed": (None, None),
}
_SWITCHES = ("stream", "logprobs", "parallel_tool_calls", "store")
_OBJECTS = (
    "stream_options",
    "response_format",
    "logit_bias",
    "audio",
    "prediction",
    "web_search_options",
)
_TEXTS = ("user", "reasoning_effort", "service_tier")

# What no other wire has a word for.
_CHAT_ONLY = ("logprobs", "top_logprobs", "audio", "modalities", "web_search_options", "store")


def read_chat(body: object) -> Asked:
    """The call in a decoded body; fields unknown here are kept and passed on.

    Raises:
        BadRequest: The body is no call; ``param`` names the field.
    """
    asked = check_body(body)
    _check_fields(asked)
    messages = check_list(asked.get("messages"), "messages", empty=False)
    for index, message in enumerate(messages):
        _check_message(check_object(message, f"messages.{index}"), f"messages.{index}")
    for index, tool in enumerate(asked.get("tools") or ()):
        _check_tool(check_object(tool, f"tools.{index}"), f"tools.{index}")
    unsupported = list(_unsupported(asked))
    return Asked(
        body=asked,
        request=request_of(asked),
        stream=bool(asked.get("stream")),
        include_usage=bool((asked.get("stream_options") or {}).get("include_usage")),
        unsupported=next(iter(unsupported), None),
        native_only=next(_native_only(asked, unsupported), None),
    )


def request_of(body: Mapping[str, Any]) -> ChatRequest:
    """A chat body as a request.

    Raises:
        BadRequest: A field is of the wrong type.
    """
    try:
        return ChatRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise BadRequest(f"{path}: {first['msg']}", param=path, code="invalid_type") from error


def _check_fields(body: Mapping[str, Any]) -> None:
    check_text(body.get("model"), "model", empty=False)
    for name, (low, high) in _NUMBERS.items():
        if body.get(name) is not None:
            check_number(body[name], name, least=low, most=high)
    for name, (least, most) in _COUNTS.items():
        if body.get(name) is not None:
            check_whole(body[name], name, least=least, most=most)
    checks: tuple[tuple[tuple[str, ...], Callable[[object, str], object]], ...] = (
        (_SWITCHES, check_switch),
        (_OBJECTS, check_object),
        (_TEXTS, check_text),
    )
    for names, check in checks:
        for name in names:
            if body.get(name) is not None:
                check(body[name], name)
    usage = (body.get("stream_options") or {}).get("include_usage")
    if usage is not None:
        check_switch(usage, "stream_options.include_usage")
    if body.get("modalities") is not None:
        check_list(body["modalities"], "modalities")
    if body.get("tools") is not None:
        check_list(body["tools"], "tools")
    _check_stop(body.get("stop"))
    choice = body.get("tool_choice")
    if choice is not None and not isinstance(choice, str):
        check_object(choice, "tool_choice")


def _check_stop(stop: object) -> None:
    if isinstance(stop, list):
        for index, sequence in enumerate(stop):
            check_text(sequence, f"stop.{index}")
    elif stop is not None and not isinstance(stop, str):
        raise wrong("stop", stop, "a string or a list of strings")


def _check_message(message: Mapping[str, Any], path: str) -> None:
    role = check_choice(message.get("role"), f"{path}.role", ROLES)
    content = message.get("content")
    if isinstance(content, list):
        for index, part in enumerate(content):
            _check_part(check_object(part, f"{path}.content.{index}"), f"{path}.content.{index}")
    elif not isinstance(content, str) and (content is not None or role != "assistant"):
        raise wrong(f"{path}.content", content, "a string or a list of parts")
    if role == "tool":
        check_text(message.get("tool_call_id"), f"{path}.tool_call_id", empty=False)
    if message.get("tool_calls") is not None:
        calls = check_list(message["tool_calls"], f"{path}.tool_calls")
        for index, call in enumerate(calls):
            _check_call(check_object(call, f"{path}.tool_calls.{index}"), path, index)


def _check_part(part: Mapping[str, Any], path: str) -> None:
    kind = check_text(part.get("type"), f"{path}.type", empty=False)
    if kind in TEXT_PARTS:
        check_text(part.get(kind), f"{path}.{kind}")
    elif kind == "image_url":
        image = check_object(part.get(kind), f"{path}.{kind}")
        check_text(image.get("url"), f"{path}.{kind}.url", empty=False)
    elif kind in ("input_audio", "file"):
        check_object(part.get(kind), f"{path}.{kind}")


def _check_call(call: Mapping[str, Any], path: str, index: int) -> None:
    path = f"{path}.tool_calls.{index}"
    check_text(call.get("id"), f"{path}.id", empty=False)
    if call.get("type", "function") == "function":
        function = check_object(call.get("function"), f"{path}.function")
        check_text(function.get("name"), f"{path}.function.name", empty=False)
        check_text(function.get("arguments"), f"{path}.function.arguments")


def _check_tool(tool: Mapping[str, Any], path: str) -> None:
    if check_text(tool.get("type"), f"{path}.type", empty=False) == "function":
        function = check_object(tool.get("function"), f"{path}.function")
        check_text(function.get("name"), f"{path}.function.name", empty=False)
        if function.get("parameters") is not None:
            check_object(function["parameters"], f"{path}.function.parameters")


def _unsupported(body: Mapping[str, Any]) -> Iterator[str]:
    if (body.get("n") or 1) > 1:
        yield "n"
    for name in ("logprobs", "top_logprobs", "store", "logit_bias", "functions", NATIVE):
        if body.get(name):
            yield name
    for name in ("audio", "prediction", "seed", "web_search_options"):
        if body.get(name) is not None:
            yield name
    if any(modality != "text" for modality in body.get("modalities") or ()):
        yield "modalities"
    if any(tool.get("type") != "function" for tool in body.get("tools") or ()):
        yield "tools"
    messages = body["messages"]
    for message in messages:
        if message.get("audio") is not None:
            yield "audio"
        for part in _parts(message):
            if part["type"] not in TEXT_PARTS:
                yield part["type"] if part["type"] in MEDIA_PARTS else "content"
    if messages[-1]["role"] == "assistant":
        yield "prefill"


def _native_only(body: Mapping[str, Any], unsupported: list[str]) -> Iterator[str]:
    yield from (name for name in unsupported if name in _CHAT_ONLY)
    if body.get("functions"):
        yield "functions"
    for index, tool in enumerate(body.get("tools") or ()):
        if tool["type"] != "function":
            yield f"tools.{index}"
    if (body.get("response_format") or {}).get("type") == "json_object":
        yield "response_format"
    for index, message in enumerate(body["messages"]):
        for position, part in enumerate(_parts(message)):
            if not _has_other_form(part):
                yield f"messages.{index}.content.{position}"


def _has_other_form(part: Mapping[str, Any]) -> bool:
    """Whether other wires have a word for a content part."""
    if part["type"] == "file":
        return isinstance(part["file"].get("file_data"), str)
    return part["type"] in TEXT_PARTS or part["type"] == "image_url"


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("content")
    return content if isinstance(content, list) else []
