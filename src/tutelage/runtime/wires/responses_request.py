"""Chat requests as calls of the Responses API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.runtime.chunks import NATIVE
from tutelage.runtime.errors import BadRequest
from tutelage.runtime.types import ChatRequest, Message
from tutelage.runtime.wires.responses_ids import KEPT, is_listed_id, is_our_item, kept_in
from tutelage.runtime.wires.responses_parts import input_content, output_parts
from tutelage.runtime.wires.responses_tools import custom_input, response_choice, response_tools

# Set here, or without meaning for this API.
_LEFT_OUT = frozenset({
    "model", "messages", "n", "stream", "stream_options", "store", "tools", "tool_choice",
    "max_tokens", "max_completion_tokens", "response_format", "verbosity", "reasoning_effort",
    "logprobs", "top_logprobs", "prediction", KEPT, NATIVE,
})  # fmt: skip
# What this API has no word for, and an answer would be another without.
_IMPOSSIBLE = (
    "stop", "seed", "frequency_penalty", "presence_penalty", "logit_bias", "audio", "functions",
    "function_call", "web_search_options",
)  # fmt: skip
_LOGPROBS = "message.output_text.logprobs"


def request_body(request: ChatRequest, model: str, *, stream: bool) -> dict[str, Any]:
    """The call that asks an upstream for a chat request; nothing is stored there.

    Raises:
        BadRequest: The API has no word for a field; ``param`` names it.
    """
    asked = request.wire()
    for name in _IMPOSSIBLE:
        if asked.get(name) not in (None, 0, [], {}):
            raise BadRequest(
                f"{name}: the teacher's endpoint speaks the Responses API, which has no such"
                " field; leave it out",
                param=name,
                code="unsupported_parameter",
            )
    dropped = _LEFT_OUT.union(_IMPOSSIBLE)
    body = {name: value for name, value in asked.items() if name not in dropped}
    instructions, items = _input(request.messages)
    body.update(model=model, input=items, store=False)
    if instructions is not None:
        body["instructions"] = instructions
    if stream:
        body["stream"] = True
    tools = asked.get("tools")
    if tools:
        body["tools"] = response_tools(tools)
    if asked.get("tool_choice") is not None:
        body["tool_choice"] = response_choice(asked["tool_choice"], tools or ())
    limit = asked.get("max_completion_tokens") or asked.get("max_tokens")
    if limit is not None:
        body["max_output_tokens"] = limit
    if asked.get("reasoning_effort") is not None:
        body["reasoning"] = {"effort": asked["reasoning_effort"]}
    text = _text(asked)
    if text:
        body["text"] = text
    if asked.get("logprobs"):
        body["include"] = [_LOGPROBS]
        if asked.get("top_logprobs"):
            body["top_logprobs"] = asked["top_logprobs"]
    return body


def _text(asked: Mapping[str, Any]) -> dict[str, Any]:
    text: dict[str, Any] = {}
    format = asked.get("response_format")
    if isinstance(format, Mapping):
        kind = format.get("type")
        schema = format.get("json_schema") if kind == "json_schema" else None
        text["format"] = {"type": kind, **(schema or {})}
    if asked.get("verbosity") is not None:
        text["verbosity"] = asked["verbosity"]
    return text


def _input(messages: Sequence[Message]) -> tuple[str | None, list[dict[str, Any]]]:
    """The instructions, if the first message is some, and the items of all other messages."""
    instructions: str | None = None
    items: list[dict[str, Any]] = []
    custom: set[str] = set()
    for index, message in enumerate(messages):
        path = f"messages.{index}.content"
        if index == 0 and message.role == "system" and isinstance(message.content, str):
            instructions = message.content
        elif message.role == "assistant":
            items.extend(_assistant_items(message, index))
            for call in message.tool_calls or ():
                (custom.add if _is_custom(call) else custom.discard)(str(call.get("id")))
        elif message.role == "tool":
            call_id = str((message.model_extra or {}).get("tool_call_id") or "")
            kind = "custom_tool_call_output" if call_id in custom else "function_call_output"
            output = input_content(message.content, path)
            items.append({"type": kind, "call_id": call_id, "output": output})
        elif message.role in ("user", "system", "developer"):
            content = input_content(message.content, path)
            items.append({"role": message.role, "content": content})
        else:
            raise BadRequest(
                f"messages.{index}.role = {message.role[:40]!r}: give user, assistant, system,"
                " developer or tool",
                param=f"messages.{index}.role",
                code="invalid_value",
            )
    return instructions, items


def _assistant_items(message: Message, index: int) -> list[dict[str, Any]]:
    """What an assistant said and called, with its reasoning between as it was."""
    extra = message.model_extra or {}
    kept = kept_in(extra)
    reasoning = [
        (entry.get("at"), _as_given(entry["item"]))
        for entry in kept.get("reasoning") or ()
        if _is_theirs(entry)
    ]
    calls = message.tool_calls or []
    parts = output_parts(message.content, extra.get("refusal"), f"messages.{index}.content")
    items: list[dict[str, Any]] = []
    if parts:
        # The short form cannot say that it is a refusal, or several texts.
        is_plain = len(parts) == 1 and parts[0]["type"] == "output_text"
        said: dict[str, Any] = {"role": "assistant"}
        said["content"] = parts[0]["text"] if is_plain else parts
        if not is_plain:
            said["type"] = "message"
        if "phase" in kept:
            said["phase"] = kept["phase"]
        items.append(said)
    items.extend(_call_item(call, f"call_{index}_{at}") for at, call in enumerate(calls))
    if not items and not reasoning:
        items.append({"role": "assistant", "content": ""})
    made: list[dict[str, Any]] = []
    for position in range(len(items) + 1):
        made.extend(item for at, item in reasoning if at == position)
        made.extend(items[position : position + 1])
    return made


def _call_item(call: Mapping[str, Any], no_id: str) -> dict[str, Any]:
    call_id = str(call.get("id") or no_id)
    function = call.get("function") or {}
    custom = call.get("custom")
    if isinstance(custom, Mapping):
        item: dict[str, Any] = {"name": custom.get("name"), "input": custom.get("input")}
        return {"type": "custom_tool_call", "call_id": call_id, **item}
    name, arguments = function.get("name"), str(function.get("arguments") or "")
    if _is_custom(call):
        item = {"name": name, "input": custom_input(arguments)}
        return {"type": "custom_tool_call", "call_id": call_id, **item}
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def _is_custom(call: Mapping[str, Any]) -> bool:
    return call.get("type") == "custom" or kept_in(call).get("type") == "custom"


def _is_theirs(entry: object) -> bool:
    """Whether this is reasoning that an upstream may know; what we made ourselves none does."""
    item = entry.get("item") if isinstance(entry, Mapping) else None
    return (
        isinstance(item, Mapping)
        and item.get("type") == "reasoning"
        and not is_our_item(item.get("id"))
    )


def _as_given(item: Mapping[str, Any]) -> dict[str, Any]:
    """An input item without the id that it was listed under."""
    left_out = {"id"} if is_listed_id(item.get("id")) else set()
    return {name: value for name, value in item.items() if name not in left_out}
