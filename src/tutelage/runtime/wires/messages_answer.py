"""Answers of the Anthropic Messages API as completions, and completions as such answers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from tutelage.runtime.errors import BadResponse
from tutelage.runtime.models.failures import error_object
from tutelage.runtime.types import Completion, Message
from tutelage.runtime.wires.messages_blocks import Block, assistant_blocks, assistant_message
from tutelage.runtime.wires.native import NATIVE, native_of

_FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_COUNTS = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
)
_NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")


def finish_of(stop_reason: object) -> str:
    """The chat finish reason for a stop reason."""
    return _FINISHES.get(str(stop_reason), "stop")


def stop_of(
    finish_reason: str | None,
    *,
    calls: bool,
    said: Mapping[str, Any],
    matched: object = None,
    sequences: Collection[str] = (),
) -> tuple[str, str | None]:
    """The stop reason and the stop sequence of an answer.

    Args:
        finish_reason: The chat finish reason.
        calls: Whether the answer calls tools.
        said: What a Messages endpoint said of its end, as kept under ``NATIVE``.
        matched: The stop sequence that an endpoint says it met, as vLLM does.
        sequences: The stop sequences of the call.
    """
    if isinstance(said.get("stop_reason"), str):
        return said["stop_reason"], said.get("stop_sequence")
    if calls and finish_reason in (None, "stop"):
        return "tool_use", None
    if finish_reason == "stop" and isinstance(matched, str) and matched in sequences:
        return "stop_sequence", matched
    return _STOPS.get(finish_reason or "stop", "end_turn"), None


def native_end(stop_reason: object, stop_sequence: object) -> dict[str, Any]:
    """What chat's finish reason does not say of an end."""
    if _STOPS.get(finish_of(stop_reason)) == stop_reason:
        return {}
    return {"stop_reason": stop_reason, "stop_sequence": stop_sequence}


def chat_usage(usage: object) -> dict[str, Any]:
    """The usage object of a Messages answer as one of chat, with itself under ``NATIVE``.

    Raises:
        BadResponse: A count is not a number.
    """
    counts = usage if isinstance(usage, Mapping) else {}
    try:
        fresh, written, read, output = (int(counts.get(name) or 0) for name in _COUNTS)
    except (TypeError, ValueError) as error:
        raise BadResponse(f"the endpoint sent a usage that is no count: {error}") from error
    details = {"cached_tokens": read}
    if written:
        details["cache_write_tokens"] = written
    made: dict[str, Any] = {
        "prompt_tokens": fresh + written + read,
        "completion_tokens": output,
        "total_tokens": fresh + written + read + output,
        "prompt_tokens_details": details,
    }
    thought = counts.get("output_tokens_details")
    if isinstance(thought, Mapping) and isinstance(thought.get("thinking_tokens"), int):
        made["completion_tokens_details"] = {"reasoning_tokens": thought["thinking_tokens"]}
    if set(counts) - {*_COUNTS, "output_tokens_details"}:
        made[NATIVE] = dict(counts)
    return made


def messages_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """A chat usage object as one of a Messages answer."""
    details = usage.get("prompt_tokens_details") or {}
    prompt = int(usage.get("prompt_tokens") or 0)
    read = min(int(details.get("cached_tokens") or 0), prompt)
    written = min(int(details.get("cache_write_tokens") or 0), prompt - read)
    counts = (prompt - read - written, written, read, int(usage.get("completion_tokens") or 0))
    made: dict[str, Any] = dict(zip(_COUNTS, counts, strict=True))
    thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    if thought:
        made["output_tokens_details"] = {"thinking_tokens": thought}
    return {**made, **native_of(usage)}


def message_id(id: str) -> str:
    """An answer's id as the Messages API writes it."""
    bare = _NOT_IN_AN_ID.sub("_", id.removeprefix("msg_").removeprefix("chatcmpl-"))
    return f"msg_{bare}"


def message_of(
    completion: Completion, *, sequences: Collection[str], thinking: bool
) -> dict[str, Any]:
    """The first choice as a ``message`` object.

    Args:
        completion: The answer.
        sequences: The stop sequences of the call.
        thinking: Whether the client asked to see reasoning.
    """
    choice = completion.choices[0]
    reason, sequence = stop_of(
        choice.finish_reason,
        calls=bool(choice.message.tool_calls),
        said=native_of(choice.message.model_extra or {}),
        matched=(choice.model_extra or {}).get("stop_reason"),
        sequences=sequences,
    )
    return {
        "id": message_id(completion.id),
        "type": "message",
        "role": "assistant",
        "model": completion.model,
        "content": _reasoning(choice.message, thinking) + assistant_blocks(choice.message),
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": messages_usage(completion.wire()["usage"]),
    }


def completion_of(body: object) -> Completion:
    """The completion in a ``message`` object.

    Raises:
        BadResponse: It is something else.
    """
    if not isinstance(body, Mapping):
        raise BadResponse("the endpoint answered 200 with JSON that is no object", status=200)
    content = body.get("content")
    if body.get("type") == "error" or not isinstance(content, list):
        error = error_object(body) if "error" in body else None
        reason = f": {error['message']}" if error and error.get("message") else ""
        raise BadResponse(
            f"the endpoint answered 200 without content{reason}", status=200, body=error
        )
    if not content and body.get("stop_reason") is None:
        raise BadResponse("the endpoint answered 200 with an empty answer", status=200)
    message = said(checked_blocks(content), body.get("stop_reason"), body.get("stop_sequence"))
    finish = finish_of(body.get("stop_reason"))
    usage = chat_usage(body.get("usage"))
    return Completion.from_wire(
        {
            "id": str(body.get("id") or ""),
            "model": str(body.get("model") or ""),
            "created": 0,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": usage,
        }
    )


def said(blocks: list[Block], stop_reason: object, stop_sequence: object) -> dict[str, Any]:
    """A chat message with all that a Messages endpoint said, and how it ended."""
    message = assistant_message(blocks)
    native = {**message.pop(NATIVE, {}), **native_end(stop_reason, stop_sequence)}
    return {**message, NATIVE: native} if native else message


def checked_blocks(blocks: list[Any]) -> list[Block]:
    """The blocks of an answer.

    Raises:
        BadResponse: One is malformed.
    """
    for block in blocks:
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise BadResponse("the endpoint sent a content block that is none")
        if block["type"] == "text" and not isinstance(block.get("text"), str):
            raise BadResponse("the endpoint sent a text block without a text")
        if block["type"] == "tool_use" and not isinstance(block.get("input") or {}, dict):
            raise BadResponse("the endpoint sent a tool call whose input is no object")
    return blocks


def _reasoning(message: Message, thinking: bool) -> list[Block]:
    more = message.model_extra or {}
    text = more.get("reasoning_content") or more.get("reasoning")
    if not thinking or not text or "content" in native_of(more):
        return []
    return [{"type": "thinking", "thinking": str(text), "signature": ""}]
