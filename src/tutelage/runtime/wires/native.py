"""What only one API has a word for, kept in chat shapes under one key of that API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.runtime.chunks import NATIVE
from tutelage.runtime.types import ChatRequest, Message

__all__ = ["NATIVE", "PRIVATE", "native_of", "plain"]

PRIVATE = frozenset({NATIVE, "responses"})
"""The keys of a request, message, content part, tool call or tool that hold such fields."""


def native_of(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of the Messages API; clients of any wire may have sent something else there."""
    found = item.get(NATIVE)
    return found if isinstance(found, Mapping) else {}


def plain(request: ChatRequest) -> ChatRequest:
    """The request without what only one other API understands; itself if there is none."""
    updates: dict[str, Any] = {}
    messages = [_plain_message(message) for message in request.messages]
    if any(now is not before for now, before in zip(messages, request.messages, strict=True)):
        updates["messages"] = messages
    tools = request.tools and [_without(tool) for tool in request.tools]
    if tools is not None and any(
        now is not before for now, before in zip(tools, request.tools or (), strict=True)
    ):
        updates["tools"] = tools
    if not updates and PRIVATE.isdisjoint(request.model_extra or ()):
        return request
    fields = {name: getattr(request, name) for name in request.model_fields_set - PRIVATE}
    return ChatRequest.model_construct(**{**fields, **updates})


def _plain_message(message: Message) -> Message:
    updates: dict[str, Any] = {}
    if isinstance(message.content, list):
        updates["content"] = [_without(part) for part in message.content]
    if message.tool_calls is not None:
        updates["tool_calls"] = [_without(call) for call in message.tool_calls]
    changed = any(
        now is not before
        for name, items in updates.items()
        for now, before in zip(items, getattr(message, name), strict=True)
    )
    if not changed and PRIVATE.isdisjoint(message.model_extra or ()):
        return message
    fields = {name: getattr(message, name) for name in message.model_fields_set - PRIVATE}
    return Message.model_construct(**{**fields, **updates})


def _without(item: Mapping[str, Any]) -> Any:
    if PRIVATE.isdisjoint(item):
        return item
    return {name: value for name, value in item.items() if name not in PRIVATE}
