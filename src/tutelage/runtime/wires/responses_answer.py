"""Response objects of the Responses API, as a client gets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.runtime.types import Choice, Completion
from tutelage.runtime.wires.protocol import Asked
from tutelage.runtime.wires.responses_ids import item_id, response_id
from tutelage.runtime.wires.responses_tools import custom_input
from tutelage.runtime.wires.responses_usage import usage_of

# What a call left open, as the API answers it.
_DEFAULTS: dict[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_SERVICE_TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})


def incomplete_reason(finish_reason: str | None) -> str | None:
    """Why an answer with this ``finish_reason`` is incomplete; ``None`` if it is not."""
    return _INCOMPLETE.get(finish_reason or "")


def response_object(
    asked: Asked,
    id: str,
    created_s: int,
    status: str,
    output: Sequence[Mapping[str, Any]] = (),
    *,
    usage: Mapping[str, Any] | None = None,
    incomplete: str | None = None,
    error: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A response in any state of its life.

    Args:
        asked: The call, whose settings are repeated.
        id: The id of the response.
        created_s: Unix time.
        status: ``in_progress``, ``completed``, ``incomplete`` or ``failed``.
        output: The output items.
        usage: Token counts, once they are known.
        incomplete: Why it is incomplete.
        error: Why it failed: code and message.
        facts: Our own, for the field ``tutelage``.
    """
    body = asked.body
    settings = {
        name: default if body.get(name) is None else body[name]
        for name, default in _DEFAULTS.items()
    }
    settings["text"] = {**_DEFAULTS["text"], **settings["text"]}
    settings["tools"] = [_tool(tool) for tool in body.get("tools") or ()]
    if settings["service_tier"] not in _SERVICE_TIERS:
        settings["service_tier"] = _DEFAULTS["service_tier"]
    return {
        "id": id,
        "object": "response",
        "created_at": created_s,
        "status": status,
        "model": asked.request.model,
        "error": error,
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "output": list(output),
        **settings,
        "usage": usage,
        **({"tutelage": dict(facts)} if facts else {}),
    }


def answer_object(completion: Completion, asked: Asked, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The response that stands for the first choice of a completion."""
    id = response_id(completion.id)
    choice = completion.choices[0]
    incomplete = incomplete_reason(choice.finish_reason)
    return response_object(
        asked,
        id,
        completion.created,
        "incomplete" if incomplete else "completed",
        _output(choice, id, is_custom=asked.kept.get("custom", frozenset()), cut=bool(incomplete)),
        usage=usage_of(completion),
        incomplete=incomplete,
        facts=facts,
    )


def reasoning_item(id: str, text: str, status: str) -> dict[str, Any]:
    """An output item with readable reasoning."""
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {"id": id, "type": "reasoning", "status": status, "summary": [], "content": content}


def message_item(id: str, content: Sequence[Mapping[str, Any]], status: str) -> dict[str, Any]:
    """An output item with what the assistant says."""
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": list(content),
    }


def text_part(text: str, logprobs: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """A text of a message."""
    return {
        "type": "output_text",
        "text": text,
        "annotations": [],
        "logprobs": list(logprobs),
    }


def call_item(
    id: str, call_id: str, name: str, arguments: str, status: str, *, is_custom: bool
) -> dict[str, Any]:
    """An output item with a call of a function or of a custom tool."""
    item: dict[str, Any] = {"id": id, "call_id": call_id, "name": name, "status": status}
    if is_custom:
        return {**item, "type": "custom_tool_call", "input": custom_input(arguments)}
    return {**item, "type": "function_call", "arguments": arguments}


def call_kind(is_custom: bool) -> str:
    """How the id of a call's item begins."""
    return "ctc" if is_custom else "fc"


def logprobs_of(logprobs: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Log probabilities of a chat choice as those of a text."""
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    return [
        {**_token(token), "top_logprobs": [_token(top) for top in _objects(token, "top_logprobs")]}
        for token in _objects({"content": tokens}, "content")
    ]


def _token(token: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "token": token.get("token", ""),
        "logprob": token.get("logprob", 0.0),
        "bytes": token.get("bytes") or [],
    }


def _objects(fields: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = fields.get(name)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _output(
    choice: Choice, id: str, *, is_custom: frozenset[str], cut: bool
) -> list[dict[str, Any]]:
    message = choice.message
    extra = message.model_extra or {}
    made: list[dict[str, Any]] = []
    reasoning = extra.get("reasoning_content") or extra.get("reasoning")
    if isinstance(reasoning, str) and reasoning:
        made.append(reasoning_item(item_id("rs", id, 0), reasoning, "completed"))
    refusal = extra.get("refusal")
    calls = message.tool_calls or []
    content: list[dict[str, Any]] = []
    if message.text or not (refusal or calls or (cut and made)):
        content.append(text_part(message.text, logprobs_of(choice.logprobs)))
    if refusal:
        content.append({"type": "refusal", "refusal": refusal})
    if content:
        made.append(message_item(item_id("msg", id, len(made)), content, "completed"))
    for index, call in enumerate(calls):
        function = call.get("function") or {}
        name = str(function.get("name") or "")
        made.append(
            call_item(
                item_id(call_kind(name in is_custom), id, len(made)),
                call.get("id") or f"call{id.removeprefix('resp')}_{index}",
                name,
                str(function.get("arguments") or ""),
                "completed",
                is_custom=name in is_custom,
            )
        )
    if cut and made:
        made[-1]["status"] = "incomplete"
    return made


def _tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    if tool["type"] != "function":
        return tool
    return {"description": None, "parameters": None, "strict": False, **tool}
