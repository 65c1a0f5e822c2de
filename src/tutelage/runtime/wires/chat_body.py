"""Chat requests as calls of the OpenAI chat completions API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tutelage.runtime.types import ChatRequest
from tutelage.runtime.wires.chat_request import TEXT_PARTS
from tutelage.runtime.wires.native import plain


def chat_body(request: ChatRequest, model: str, *, stream: bool) -> dict[str, Any]:
    """The body of a call; a stream is asked for its usage.

    Images that a tool returned, which the API takes from users only, follow in a user's message.
    """
    body = plain(request).wire(model=model, stream=stream or None, stream_options=None)
    if any(_has_media(message) for message in body["messages"]):
        body["messages"] = list(_with_media_after_tools(body["messages"]))
    if stream:
        options = (request.model_extra or {}).get("stream_options") or {}
        body["stream_options"] = {**options, "include_usage": True}
    return body


def _has_media(message: Mapping[str, Any]) -> bool:
    if message.get("role") != "tool" or not isinstance(message.get("content"), list):
        return False
    return not all(part.get("type") in TEXT_PARTS for part in message["content"])


def _with_media_after_tools(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    for message in messages:
        if message.get("role") != "tool" and shown:
            yield {"role": "user", "content": shown}
            shown = []
        if not _has_media(message):
            yield message
            continue
        texts = [part for part in message["content"] if part.get("type") in TEXT_PARTS]
        shown.append({"type": "text", "text": f"Returned by {message.get('tool_call_id')}:"})
        shown += [part for part in message["content"] if part.get("type") not in TEXT_PARTS]
        notice = {"type": "text", "text": "Its images and files are in the next user message."}
        yield {**message, "content": [*texts, notice]}
    if shown:
        yield {"role": "user", "content": shown}
