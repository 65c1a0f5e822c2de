"""Chat requests as calls of the Anthropic Messages API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.runtime.errors import BadRequest
from tutelage.runtime.types import ChatRequest, Message
from tutelage.runtime.wires.messages_blocks import (
    Block,
    assistant_blocks,
    blocks_of,
    rest_of,
    valid_id,
)
from tutelage.runtime.wires.messages_request import CHOICES, KNOWN_FIELDS
from tutelage.runtime.wires.native import native_of

_INSTRUCTIONS = ("system", "developer")
_NO_SCHEMA = {"type": "object", "properties": {}}
_CHOICES = {theirs: ours for ours, theirs in CHOICES.items()}


def messages_body(
    request: ChatRequest, model: str, *, stream: bool, max_tokens: int
) -> dict[str, Any]:
    """The body of a call.

    Messages of one role in a row become one turn, tool results stand first in a user's turn, and
    instructions become the system prompt.

    Args:
        request: The chat request.
        model: The endpoint's own name of the model.
        stream: Whether the answer is to be streamed.
        max_tokens: The limit of an answer where the request has none, which the API insists on.

    Raises:
        BadRequest: The Messages API has no word for part of the request.
    """
    more = request.model_extra or {}
    limit = request.max_tokens
    if limit is None:
        limit = more.get("max_completion_tokens")
    system, turns = _prompt(request.messages)
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": limit if limit is not None else max_tokens,
        "messages": turns,
    }
    if system:
        body["system"] = _shortest(system)
    body.update(
        {
            name: value
            for name, value in (
                ("temperature", request.temperature),
                ("top_p", more.get("top_p")),
                ("top_k", more.get("top_k")),
                ("thinking", more.get("thinking")),
                ("stop_sequences", [request.stop] if isinstance(request.stop, str) else None),
                ("stop_sequences", request.stop if isinstance(request.stop, list) else None),
                ("stream", stream or None),
            )
            if value is not None
        }
    )
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        choice = _tool_choice(more.get("tool_choice"), more.get("parallel_tool_calls"))
        if choice is not None:
            body["tool_choice"] = choice
    if isinstance(more.get("user"), str):
        body["metadata"] = {"user_id": more["user"]}
    schema = _schema(more.get("response_format"))
    if schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    native = native_of(more)
    return {**body, **{name: native[name] for name in native if name not in KNOWN_FIELDS}}


def _prompt(messages: list[Message]) -> tuple[list[Block], list[dict[str, Any]]]:
    """The system prompt's blocks, and the turns."""
    system: list[Block] = []
    turns: list[tuple[str, list[Block]]] = []
    for message in messages:
        role, blocks = _turn(message)
        if role == "system" and not native_of(message.model_extra or {}).get("inline"):
            system.extend(blocks)
        elif turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        elif blocks:
            turns.append((role, blocks))
    return system, [{"role": role, "content": _shortest(_ordered(b))} for role, b in turns]


def _turn(message: Message) -> tuple[str, list[Block]]:
    if message.role in _INSTRUCTIONS:
        return "system", blocks_of(message.content)
    if message.role == "assistant":
        blocks = assistant_blocks(message)
        # Thoughts that no model of this API signed are refused by it.
        return "assistant", [b for b in blocks if b["type"] != "thinking" or b.get("signature")]
    if message.role == "tool":
        return "user", [_tool_result(message)]
    return "user", blocks_of(message.content)


def _tool_result(message: Message) -> Block:
    id = valid_id(str((message.model_extra or {}).get("tool_call_id") or ""))
    content = blocks_of(message.content)
    shown = _shortest(content) if content else None
    return {
        "type": "tool_result",
        "tool_use_id": id,
        **({"content": shown} if shown is not None else {}),
        **rest_of(message.model_extra or {}),
    }


def _ordered(blocks: list[Block]) -> list[Block]:
    results = [block for block in blocks if block["type"] == "tool_result"]
    return results + [block for block in blocks if block["type"] != "tool_result"]


def _shortest(blocks: list[Block]) -> str | list[Block]:
    """One text without anything else as a string."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return str(blocks[0]["text"])
    return blocks


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    original = native_of(tool).get("original")
    if isinstance(original, dict):
        return dict(original)
    if tool.get("type") != "function":
        raise BadRequest(
            f"a tool of type {tool.get('type')!r} cannot be sent to this model: leave it out",
            param="tools",
            code="unsupported_tool",
        )
    function = tool.get("function") or {}
    made = {"name": function.get("name"), "input_schema": function.get("parameters") or _NO_SCHEMA}
    if function.get("description") is not None:
        made["description"] = function["description"]
    if function.get("strict"):
        made["strict"] = True
    if isinstance(tool.get("cache_control"), Mapping):
        made["cache_control"] = tool["cache_control"]
    return {**made, **rest_of(tool)}


def _tool_choice(choice: object, parallel: object) -> dict[str, Any] | None:
    made: dict[str, Any] | None = None
    if isinstance(choice, str):
        made = {"type": _CHOICES.get(choice, "auto")}
    elif isinstance(choice, Mapping) and isinstance(choice.get("function"), Mapping):
        made = {"type": "tool", "name": choice["function"].get("name")}
    if parallel is not None and (made is None or made["type"] != "none"):
        made = {**(made or {"type": "auto"}), "disable_parallel_tool_use": not parallel}
    return made


def _schema(form: object) -> object:
    if not isinstance(form, Mapping) or form.get("type") != "json_schema":
        return None
    described = form.get("json_schema")
    return described.get("schema") if isinstance(described, Mapping) else None
