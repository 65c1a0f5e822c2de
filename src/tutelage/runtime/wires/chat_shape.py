"""Whether what a chat endpoint sent has the types that its readers rely on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tutelage.runtime.types import Usage

_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")


def is_chunk(chunk: Mapping[str, Any]) -> bool:
    """Whether an object is a ``chat.completion.chunk``; absent fields are allowed."""
    if not chunk.get("usage") and _is_plain(chunk):
        return True
    if not isinstance(chunk.get("created") or 0, int | float):
        return False
    return _has_usage(chunk) and _is_list_of(chunk.get("choices"), _is_delta_choice)


def is_message(message: object) -> bool:
    """Whether an object is the message of a choice; its text may be a list of parts."""
    if not isinstance(message, dict):
        return False
    if isinstance(message.get("content"), list):
        message = {**message, "content": None}
    return _has_texts(message, _TEXTS) and _is_list_of(message.get("tool_calls"), _is_call)


def _is_plain(chunk: Mapping[str, Any]) -> bool:
    """Whether it is a piece of text and no more, as nearly all chunks of a stream are."""
    choices = chunk.get("choices")
    if type(choices) is not list or len(choices) != 1 or type(chunk.get("created")) is not int:
        return False
    choice = choices[0]
    if type(choice) is not dict or type(choice.get("index")) is not int:
        return False
    delta = choice.get("delta")
    return (
        type(delta) is dict
        and len(delta) == 1
        and type(delta.get("content")) is str
        and choice.get("finish_reason") is None
    )


def _has_usage(chunk: Mapping[str, Any]) -> bool:
    usage = chunk.get("usage")
    if not usage:
        return True
    try:
        Usage.from_wire(usage)
    except (TypeError, ValueError, AttributeError, OverflowError):
        return False
    return True


def _is_delta_choice(choice: object) -> bool:
    if not isinstance(choice, dict) or not isinstance(choice.get("index") or 0, int):
        return False
    if not isinstance(choice.get("finish_reason") or "", str):
        return False
    delta = choice.get("delta") or {}
    if not isinstance(delta, dict) or not _has_texts(delta, _TEXTS):
        return False
    return _is_list_of(delta.get("tool_calls"), _is_call)


def _is_call(call: object) -> bool:
    if not isinstance(call, dict) or not isinstance(call.get("index") or 0, int):
        return False
    function = call.get("function") or {}
    return (
        isinstance(function, dict)
        and _has_texts(call, ("id",))
        and _has_texts(function, ("name", "arguments"))
    )


def _has_texts(found: Mapping[str, Any], names: Iterable[str]) -> bool:
    for name in names:  # noqa: SIM110 - a generator costs more, and every chunk comes by here
        if not isinstance(found.get(name) or "", str):
            return False
    return True


def _is_list_of(found: object, is_item: Callable[[object], bool]) -> bool:
    return not found or (isinstance(found, list) and all(map(is_item, found)))
