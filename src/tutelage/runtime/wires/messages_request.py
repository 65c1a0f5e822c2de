"""Calls of the Anthropic Messages API, checked and read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tutelage.runtime.errors import BadRequest
from tutelage.runtime.types import ChatRequest
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
    wrong,
)
from tutelage.runtime.wires.messages_blocks import assistant_message, content_of, part_of
from tutelage.runtime.wires.native import NATIVE
from tutelage.runtime.wires.protocol import Asked

ROLES = frozenset({"user", "assistant", "system"})
CHOICES = {"auto": "auto", "any": "required", "none": "none"}
KNOWN_FIELDS = frozenset(
    {
        "model", "messages", "max_tokens", "system", "temperature", "top_p", "top_k",
        "stop_sequences", "stream", "tools", "tool_choice",
    }
)  # fmt: skip
_IN_AN_ANSWER = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
_NOT_SAID = frozenset({"tool_result", "image", "document"})
_NOT_ASKED = frozenset({"tool_use", "thinking", "redacted_thinking"})
_TOOL_FIELDS = frozenset({"name", "description", "input_schema"})


def read_messages(body: object) -> Asked:
    """The call in a decoded body; fields that chat has no word for are kept under ``NATIVE``.

    Raises:
        BadRequest: The body is no call; ``param`` names the field.
    """
    asked = check_body(body)
    _check_fields(asked)
    _check_tools(asked)
    messages = _instructions(asked.get("system"), "system")
    turns = check_list(asked.get("messages"), "messages", empty=False)
    for index, turn in enumerate(turns):
        messages.extend(_messages(turn, f"messages.{index}"))
    native_only = next(_native_only(asked), None)
    unsupported = next(_unsupported(asked), native_only and native_only.partition(".")[0])
    return Asked(
        body=asked,
        request=_request(asked, messages),
        stream=bool(asked.get("stream")),
        unsupported=unsupported,
        native_only=native_only,
    )


def wants_thinking(body: Mapping[str, Any]) -> bool:
    """Whether a client asks to see the model think."""
    thinking = body.get("thinking")
    return isinstance(thinking, Mapping) and thinking.get("type") != "disabled"


def _request(body: Mapping[str, Any], messages: list[dict[str, Any]]) -> ChatRequest:
    chat: dict[str, Any] = {"model": body["model"], "messages": messages}
    for name in ("max_tokens", "temperature", "top_p", "top_k", "stream"):
        if body.get(name) is not None:
            chat[name] = body[name]
    if body.get("stop_sequences"):
        chat["stop"] = list(body["stop_sequences"])
    if body.get("tools"):
        chat["tools"] = [_tool(tool) for tool in body["tools"]]
    choice = body.get("tool_choice")
    if choice is not None:
        chat["tool_choice"] = CHOICES.get(choice["type"]) or {
            "type": "function",
            "function": {"name": choice["name"]},
        }
        if choice.get("disable_parallel_tool_use") is not None:
            chat["parallel_tool_calls"] = not choice["disable_parallel_tool_use"]
    metadata = body.get("metadata") or {}
    if isinstance(metadata.get("user_id"), str):
        chat["user"] = metadata["user_id"]
    form = (body.get("output_config") or {}).get("format")
    if isinstance(form, Mapping) and form.get("type") == "json_schema":
        schema = {"name": "answer", "schema": form.get("schema"), "strict": True}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    native = {name: value for name, value in body.items() if name not in KNOWN_FIELDS}
    if set(metadata) == {"user_id"} and "user" in chat:
        del native["metadata"]
    if native:
        chat[NATIVE] = native
    return request_of(chat)


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        return {"type": str(tool["type"]), NATIVE: {"original": dict(tool)}}
    function = {"name": tool["name"], "parameters": tool["input_schema"]}
    if tool.get("description") is not None:
        function["description"] = tool["description"]
    rest = {name: value for name, value in tool.items() if name not in _TOOL_FIELDS}
    if isinstance(rest.get("strict"), bool):
        function["strict"] = rest["strict"]
    made = {"type": "function", "function": function}
    return {**made, NATIVE: {"rest": rest}} if rest else made


def _instructions(content: object, path: str) -> list[dict[str, Any]]:
    if content is None or content == "" or content == []:
        return []
    if isinstance(content, str):
        return [{"role": "system", "content": content}]
    blocks = _blocks(content, path)
    for index, block in enumerate(blocks):
        if block["type"] != "text":
            raise BadRequest(
                f"{path}.{index}.type: a system prompt holds only text blocks",
                param=f"{path}.{index}.type",
                code="invalid_value",
            )
    return [{"role": "system", "content": content_of([part_of(block) for block in blocks])}]


def _messages(turn: object, path: str) -> Iterator[dict[str, Any]]:
    message = check_object(turn, path)
    role = check_choice(message.get("role"), f"{path}.role", ROLES)
    content = message.get("content")
    if role == "system":
        for instruction in _instructions(content, f"{path}.content"):
            yield {**instruction, NATIVE: {"inline": True}}
    elif isinstance(content, str):
        yield {"role": role, "content": content}
    elif role == "assistant":
        said = assistant_message(_blocks(content, f"{path}.content", _NOT_SAID))
        # Chat endpoints refuse earlier thoughts; the blocks keep them for those that want them.
        said.pop("reasoning_content", None)
        yield said
    else:
        blocks = _blocks(content, f"{path}.content", _NOT_ASKED)
        yield from _user_messages(blocks, f"{path}.content")


def _user_messages(blocks: list[dict[str, Any]], path: str) -> Iterator[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for index, block in enumerate(blocks):
        if block["type"] != "tool_result":
            parts.append(part_of(block))
            continue
        if parts:
            yield {"role": "user", "content": content_of(parts)}
            parts = []
        yield _tool_message(block, f"{path}.{index}")
    if parts or not blocks:
        yield {"role": "user", "content": content_of(parts) if parts else ""}


def _tool_message(block: Mapping[str, Any], path: str) -> dict[str, Any]:
    content = block.get("content")
    if isinstance(content, list):
        parts = [part_of(inner) for inner in _blocks(content, f"{path}.content")]
        content = content_of(parts) if parts else ""
    message = {"role": "tool", "tool_call_id": block["tool_use_id"], "content": content or ""}
    known = ("type", "tool_use_id", "content")
    rest = {name: value for name, value in block.items() if name not in known and value is not None}
    return {**message, NATIVE: {"rest": rest}} if rest else message


def _blocks(
    content: object, path: str, misplaced: frozenset[str] = frozenset()
) -> list[dict[str, Any]]:
    if not isinstance(content, list):
        raise wrong(path, content, "a string or a list of blocks")
    blocks = [_checked(block, f"{path}.{index}") for index, block in enumerate(content)]
    for index, block in enumerate(blocks):
        if block["type"] in misplaced:
            place = f"{path}.{index}.type"
            message = f"{place} = {block['type']!r}: move the block to a turn of the other role"
            raise BadRequest(message, param=place, code="invalid_value")
    return blocks


def _checked(found: object, path: str) -> dict[str, Any]:
    block = check_object(found, path)
    kind = check_text(block.get("type"), f"{path}.type", empty=False)
    if kind == "text":
        check_text(block.get("text"), f"{path}.text")
    elif kind in ("image", "document"):
        source = check_object(block.get("source"), f"{path}.source")
        check_text(source.get("type"), f"{path}.source.type", empty=False)
        needed = {"base64": ("media_type", "data"), "url": ("url",)}
        for name in needed.get(source["type"], ()):
            check_text(source.get(name), f"{path}.source.{name}", empty=False)
    elif kind == "tool_use":
        for name in ("id", "name"):
            check_text(block.get(name), f"{path}.{name}", empty=False)
        check_object(block.get("input"), f"{path}.input")
    elif kind == "tool_result":
        check_text(block.get("tool_use_id"), f"{path}.tool_use_id", empty=False)
        if block.get("content") is not None and not isinstance(block["content"], str | list):
            raise wrong(f"{path}.content", block["content"], "a string or a list of blocks")
    elif kind == "thinking":
        check_text(block.get("thinking"), f"{path}.thinking")
    return dict(block)


def _check_fields(body: Mapping[str, Any]) -> None:
    check_text(body.get("model"), "model", empty=False)
    if body.get("max_tokens") is None:
        raise BadRequest("max_tokens is missing: give it", param="max_tokens", code="missing")
    check_whole(body["max_tokens"], "max_tokens", least=0)
    for name in ("temperature", "top_p"):
        if body.get(name) is not None:
            check_number(body[name], name, least=0, most=1)
    if body.get("top_k") is not None:
        check_whole(body["top_k"], "top_k", least=0)
    if body.get("stream") is not None:
        check_switch(body["stream"], "stream")
    for name in ("metadata", "thinking", "output_config"):
        if body.get(name) is not None:
            check_object(body[name], name)
    if body.get("stop_sequences") is not None:
        for index, text in enumerate(check_list(body["stop_sequences"], "stop_sequences")):
            check_text(text, f"stop_sequences.{index}")
    choice = body.get("tool_choice")
    if choice is not None:
        kind = check_object(choice, "tool_choice").get("type")
        if check_choice(kind, "tool_choice.type", {*CHOICES, "tool"}) == "tool":
            check_text(choice.get("name"), "tool_choice.name", empty=False)
        if choice.get("disable_parallel_tool_use") is not None:
            path = "tool_choice.disable_parallel_tool_use"
            check_switch(choice["disable_parallel_tool_use"], path)


def _check_tools(body: Mapping[str, Any]) -> None:
    if body.get("tools") is None:
        return
    for index, found in enumerate(check_list(body["tools"], "tools")):
        path = f"tools.{index}"
        tool = check_object(found, path)
        if tool.get("type") not in (None, "custom"):
            check_text(tool["type"], f"{path}.type", empty=False)
            continue
        check_text(tool.get("name"), f"{path}.name", empty=False)
        check_object(tool.get("input_schema"), f"{path}.input_schema")
        if tool.get("description") is not None:
            check_text(tool["description"], f"{path}.description")


def _unsupported(body: Mapping[str, Any]) -> Iterator[str]:
    if wants_thinking(body):
        yield "thinking"
    for _, block in _walk(body):
        if block["type"] in ("image", "document"):
            yield str(block["type"])
    if body["messages"][-1]["role"] == "assistant":
        yield "prefill"


def _native_only(body: Mapping[str, Any]) -> Iterator[str]:
    for name in ("mcp_servers", "container"):
        if body.get(name):
            yield name
    if body["max_tokens"] == 0:
        yield "max_tokens"
    for index, tool in enumerate(body.get("tools") or ()):
        if tool.get("type") not in (None, "custom"):
            yield f"tools.{index}"
    for path, block in _walk(body):
        if not _has_chat_form(block):
            yield path


def _has_chat_form(block: Mapping[str, Any]) -> bool:
    kind, source = block["type"], (block.get("source") or {})
    if kind == "image":
        return source.get("type") in ("base64", "url")
    if kind == "document":
        return source.get("type") in ("base64", "text", "content")
    return kind in _IN_AN_ANSWER or kind in ("tool_result", "search_result")


def _walk(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every block of the messages with its path, also those within tool results."""
    for index, message in enumerate(body["messages"]):
        content = message.get("content")
        for position, block in enumerate(content) if isinstance(content, list) else ():
            path = f"messages.{index}.content.{position}"
            yield path, block
            inner = block.get("content") if block["type"] == "tool_result" else None
            for inside, nested in enumerate(inner) if isinstance(inner, list) else ():
                yield f"{path}.content.{inside}", nested
