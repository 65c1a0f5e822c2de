"""Responses of an upstream, as completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from tutelage.runtime.errors import BadResponse
from tutelage.runtime.models.failures import error_object
from tutelage.runtime.types import Completion, Usage
from tutelage.runtime.wires.responses_tools import custom_arguments
from tutelage.runtime.wires.responses_usage import chat_usage

ENDPOINT = "the endpoint"
_ENDED = frozenset({"completed", "incomplete"})
_FINISH_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}


def completion_of(body: Mapping[str, Any]) -> Completion:
    """The completion in a response; encrypted reasoning, of use to its origin only, is left out.

    Raises:
        BadResponse: It is no response, failed, has not ended, or holds nothing.
    """
    output = checked_output(body)
    message: dict[str, Any] = {"role": "assistant", "content": None}
    texts: list[str] = []
    refusals: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    logprobs: list[Any] = []
    for item in output:
        kind = item.get("type")
        if kind == "message":
            for part in parts_of(item, "content"):
                texts.append(text_in(part, "text", "output_text"))
                refusals.append(text_in(part, "refusal", "refusal"))
                logprobs.extend(parts_of(part, "logprobs"))
        elif kind in ("function_call", "custom_tool_call"):
            name, arguments = call_of(item)
            function = {"name": name, "arguments": arguments}
            call_id = text_in(item, "call_id") or f"call_{len(calls)}"
            calls.append({"id": call_id, "type": "function", "function": function})
        elif kind == "reasoning":
            reasoning.extend(reasoning_texts(item))
    message["content"] = "".join(texts) or None
    if any(refusals):
        message["refusal"] = "".join(refusals)
    if any(reasoning):
        message["reasoning_content"] = "\n\n".join(text for text in reasoning if text)
    if calls:
        message["tool_calls"] = calls
    choice: dict[str, Any] = {
        "index": 0,
        "message": message,
        "finish_reason": finish_reason_of(body, has_calls=bool(calls)),
    }
    if logprobs:
        choice["logprobs"] = {"content": logprobs}
    counts = usage_in(body)
    try:
        return Completion.model_validate(
            {
                "id": str(body.get("id") or ""),
                "model": str(body.get("model") or ""),
                "created": int(body.get("created_at") or 0),
                "choices": [choice],
                "usage": Usage.from_wire(counts),
                "usage_details": counts or {},
            }
        )
    except (ValidationError, ValueError, TypeError, OverflowError) as error:
        raise not_a_response(str(error).splitlines()[0]) from error


def checked_output(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The output items of a response that has ended well.

    Raises:
        BadResponse: It is no response, failed, has not ended, or holds nothing.
    """
    if body.get("error"):
        raise failure_in(body)
    status = str(body.get("status") or "completed")
    if status not in _ENDED:
        raise BadResponse(f"{ENDPOINT} answered with a response that is {status[:40]}")
    output = body.get("output")
    if not isinstance(output, list) or not all(isinstance(item, Mapping) for item in output):
        raise not_a_response("output is no list of items")
    if not output and status == "completed":
        raise BadResponse(f"{ENDPOINT} answered with a response that holds no output")
    return output


def failure_in(body: Mapping[str, Any]) -> BadResponse:
    """The error that a failed response stands for."""
    error = error_object(body) if body.get("error") else None
    message = (error or {}).get("message") or (error or {}).get("code") or "no reason given"
    return BadResponse(f"{ENDPOINT} failed: {message}", body=error)


def finish_reason_of(body: Mapping[str, Any], *, has_calls: bool) -> str:
    """Why a response ended, as a chat completion says it."""
    if body.get("status") == "incomplete":
        details = body.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, Mapping) else None
        return _FINISH_REASONS.get(str(reason), "length")
    return "tool_calls" if has_calls else "stop"


def usage_in(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The usage of a response in the chat shape, if it has one.

    Raises:
        BadResponse: The counts are no numbers.
    """
    usage = body.get("usage")
    if not usage:
        return None
    try:
        return chat_usage(usage)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise not_a_response("usage holds something other than counts") from error


def call_of(item: Mapping[str, Any]) -> tuple[str, str]:
    """The name and the arguments of a call; free input becomes the argument ``input``.

    Raises:
        BadResponse: One of them is no text.
    """
    if item.get("type") == "custom_tool_call":
        return text_in(item, "name"), custom_arguments(text_in(item, "input"))
    return text_in(item, "name"), text_in(item, "arguments")


def reasoning_texts(item: Mapping[str, Any]) -> list[str]:
    """The readable reasoning of an item: its text, else its summary.

    Raises:
        BadResponse: A part is malformed.
    """
    texts = [text_in(part, "text") for part in parts_of(item, "content")]
    if any(texts):
        return texts
    return [text_in(part, "text") for part in parts_of(item, "summary")]


def parts_of(item: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The parts of an item.

    Raises:
        BadResponse: They are no list of objects.
    """
    parts = item.get(name) or []
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise not_a_response(f"{name} of an item is no list of parts")
    return parts


def text_in(fields: Mapping[str, Any], name: str, kind: str | None = None) -> str:
    """A text; empty if it is absent, or the fields are of another kind.

    Raises:
        BadResponse: It is something else.
    """
    if kind is not None and fields.get("type") != kind:
        return ""
    text = fields.get(name)
    if not isinstance(text, str | None):
        raise not_a_response(f"{name} is no text")
    return text or ""


def not_a_response(problem: str) -> BadResponse:
    """The error for something that does not keep to the API."""
    return BadResponse(f"{ENDPOINT} sent something that is no response: {problem}")
