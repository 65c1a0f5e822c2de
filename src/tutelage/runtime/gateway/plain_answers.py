"""What nearly all chat answers look like, told apart from the rest by one look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson


def plain_message(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The assistant's message of a ``chat.completion`` with one choice that is plain text.

    ``None`` says nothing of the answer: it has to be read in full.
    """
    choices = body.get("choices")
    if type(choices) is not list or len(choices) != 1 or "error" in body:
        return None
    choice = choices[0]
    if type(choice) is not dict or choice.get("index") != 0 or choice.get("logprobs") is not None:
        return None
    if type(choice.get("finish_reason")) is not str:
        return None
    message = choice.get("message")
    if type(message) is not dict or type(message.get("content")) is not str:
        return None
    if message.get("role") != "assistant" or not _PLAIN_NAMES.issuperset(message):
        return None
    is_named = type(body.get("id")) is str and type(body.get("model")) is str
    if not is_named or type(body.get("created")) is not int or not _counts(body.get("usage")):
        return None
    return message


def plain_chunk(data: bytes) -> dict[str, Any] | None:
    """A ``chat.completion.chunk`` that adds a piece of text to the first choice and no more.

    ``None`` says nothing of the event: it has to be read in full.

    Args:
        data: Of the event.
    """
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if type(chunk) is not dict or chunk.get("usage") or chunk.get("error"):
        return None
    choices = chunk.get("choices")
    if type(choices) is not list or len(choices) != 1 or type(chunk.get("created")) is not int:
        return None
    choice = choices[0]
    if type(choice) is not dict or choice.get("index") != 0:
        return None
    delta = choice.get("delta")
    if type(delta) is not dict or len(delta) != 1 or type(delta.get("content")) is not str:
        return None
    return chunk if choice.get("finish_reason") is None else None


def _counts(usage: object) -> bool:
    """Whether a usage tells both counts, as numbers that a bill could be made of."""
    if type(usage) is not dict:
        return False
    prompt, output = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(prompt) is not int or type(output) is not int or prompt <= 0 or output <= 0:
        return False
    return (
        usage.get("prompt_tokens_details") is None or type(usage["prompt_tokens_details"]) is dict
    )


_PLAIN_NAMES = frozenset({"role", "content", "refusal", "annotations"})
