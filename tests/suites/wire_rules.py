"""What real endpoints refuse in the transcript of a request, so that a wrong translation shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def complaint(path: str, body: Mapping[str, Any]) -> str | None:
    """What is wrong with a call of the API at ``path`` (below ``/v1``); ``None``: nothing."""
    if not isinstance(body.get("model"), str):
        return "model is missing"
    rules = {"/chat/completions": _chat, "/responses": _responses, "/messages": _messages}
    rule = rules.get(path)
    return rule(body) if rule else None


def _chat(body: Mapping[str, Any]) -> str | None:
    messages = body.get("messages")
    if not messages:
        return "messages is empty"
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        role = message.get("role")
        if role == "tool":
            if message.get("tool_call_id") not in open_calls:
                return f"messages.{index}: a tool message answers no call before it"
            open_calls.discard(message["tool_call_id"])
            continue
        if open_calls:
            return f"messages.{index}: tool calls {sorted(open_calls)} have no answer"
        calls = message.get("tool_calls")
        if calls is not None and not calls:
            return f"messages.{index}: tool_calls is empty"
        if role == "assistant" and message.get("content") is None and not calls:
            return f"messages.{index}: an assistant message says nothing"
        open_calls = {call["id"] for call in calls or ()}
    if open_calls:
        return f"tool calls {sorted(open_calls)} have no answer"
    if body.get("tool_choice") is not None and not body.get("tools"):
        return "tool_choice needs tools"
    return None


def _responses(body: Mapping[str, Any]) -> str | None:
    if body.get("previous_response_id") is not None:
        return "previous_response_id: nothing is kept here"
    items = body.get("input")
    if isinstance(items, str):
        return None
    if not items:
        return "input is empty"
    calls = {item.get("call_id") for item in items if item.get("type") == "function_call"}
    answers = {item["call_id"] for item in items if item.get("type") == "function_call_output"}
    if answers - calls:
        return f"no call for the outputs of {sorted(answers - calls)}"
    if calls - answers:
        return f"no output for the calls {sorted(str(call) for call in calls - answers)}"
    return None


def _messages(body: Mapping[str, Any]) -> str | None:
    if not isinstance(body.get("max_tokens"), int):
        return "max_tokens is missing"
    messages = body.get("messages")
    if not messages:
        return "messages is empty"
    if messages[0].get("role") != "user":
        return "messages.0: the first message is the user's"
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        blocks = message["content"] if isinstance(message["content"], list) else []
        answered = {b["tool_use_id"] for b in blocks if b["type"] == "tool_result"}
        # "system" in mid-conversation: a beta that Claude Code asks for in its header.
        if message["role"] not in ("user", "assistant", "system"):
            return f"messages.{index}: unknown role {message['role']!r}"
        if answered != open_calls:
            return f"messages.{index}: results for {sorted(answered)}, not {sorted(open_calls)}"
        if not message["content"]:
            return f"messages.{index}: the content is empty"
        open_calls = {b["id"] for b in blocks if b["type"] == "tool_use"}
        if (empty := _empty_text(blocks)) is not None:
            return f"messages.{index}.content.{empty}: the text is empty"
    return f"tool calls {sorted(open_calls)} have no result" if open_calls else None


def _empty_text(blocks: Sequence[Mapping[str, Any]]) -> int | None:
    for position, block in enumerate(blocks):
        if block["type"] == "text" and not block["text"]:
            return position
    return None
