"""How many input tokens a request has, before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from tutelage.runtime.types import ChatRequest, Message
from tutelage.runtime.wires.chat_request import read_chat
from tutelage.runtime.wires.messages_request import read_messages
from tutelage.runtime.wires.native import PRIVATE, plain
from tutelage.runtime.wires.protocol import WireName
from tutelage.runtime.wires.responses_call import read_call

TOKENS_PER_MESSAGE = 4
"""For the role and the marks around a message, as chat templates write them."""
TOKENS_PER_IMAGE = 1_500
"""About what a picture of the largest size that is not scaled down costs."""


def request_tokens(request: ChatRequest, count_tokens: Callable[[str], int]) -> int:
    """Estimated input tokens of a request of any wire: messages, tool calls, tools, schema.

    Args:
        request: The request.
        count_tokens: Tokens of a text.
    """
    written = plain(request)
    total = sum(_message_tokens(message, count_tokens) for message in written.messages)
    described: list[Any] = [_described(tool) for tool in request.tools or ()]
    form = (request.model_extra or {}).get("response_format")
    if isinstance(form, Mapping) and form.get("json_schema"):
        described.append(form["json_schema"])
    return total + sum(count_tokens(orjson.dumps(one).decode()) for one in described)


def count_input_tokens(
    body: Mapping[str, Any], wire: WireName, count_tokens: Callable[[str], int]
) -> dict[str, Any]:
    """The answer to a call that asks for the input tokens of another.

    Args:
        body: The call to count; a Messages call needs no ``max_tokens``.
        wire: The API it belongs to.
        count_tokens: Tokens of a text.

    Raises:
        BadRequest: The body is no such call.
    """
    if wire == "messages":
        call = {"max_tokens": 1, **body} if isinstance(body, Mapping) else body
        return {"input_tokens": request_tokens(read_messages(call).request, count_tokens)}
    if wire == "responses":
        counted = request_tokens(read_call(body).request, count_tokens)
        return {"object": "response.input_tokens", "input_tokens": counted}
    return {"input_tokens": request_tokens(read_chat(body).request, count_tokens)}


def _message_tokens(message: Message, count_tokens: Callable[[str], int]) -> int:
    total = TOKENS_PER_MESSAGE
    if isinstance(message.content, str):
        total += count_tokens(message.content)
    for part in message.content if isinstance(message.content, list) else ():
        if part.get("type") in ("text", "refusal"):
            total += count_tokens(str(part.get(part["type"]) or ""))
        elif part.get("type") == "image_url":
            total += TOKENS_PER_IMAGE
        elif part.get("type") == "file":
            total += _file_tokens(part.get("file"))
    for call in message.tool_calls or ():
        function = call.get("function") or call.get("custom") or {}
        said = function.get("arguments") or function.get("input") or ""
        total += count_tokens(f"{function.get('name') or ''} {said}")
    return total


def _file_tokens(file: object) -> int:
    """A page of a PDF is about 3000 tokens of text and picture, and 50 kB of the file."""
    content = file.get("file_data") if isinstance(file, Mapping) else None
    size = len(content) * 3 // 4 if isinstance(content, str) else 0
    return 3_000 * max(1, size // 50_000)


def _described(tool: Mapping[str, Any]) -> Any:
    """What a model is told of a tool; a hosted one is told as its client wrote it."""
    if isinstance(tool.get("function"), Mapping):
        return tool["function"]
    for name in sorted(PRIVATE):
        kept = tool.get(name)
        if isinstance(kept, Mapping):
            return kept.get("original", kept)
    return tool
