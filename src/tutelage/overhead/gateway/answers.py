"""What the scripted upstream answers: fixed bytes, the same for every contender."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

MODEL = "scripted"
TEXT = "The mug is on the desk; take it, heat it in the microwave and put it in a drawer."
CREATED_S = 1_760_000_000
DELTAS = 19
EVENTS = 22
"""Writes of a stream: the role, the deltas, the finish, and the usage with the end."""
MOST_CHOICES = 8

_USAGE = {"prompt_tokens": 60, "completion_tokens": 20, "total_tokens": 80}


def write_answers(folder: Path, text: str = TEXT) -> None:
    """Writes one file an answer, as ``upstream.c`` reads them.

    Args:
        folder: There already.
        text: What the assistant says.
    """
    for n in range(1, MOST_CHOICES + 1):
        (folder / f"chat-{n}.json").write_bytes(_bytes(chat_completion(text, n)))
    for name, value in {
        "message": _message(text),
        "models": {"object": "list", "data": [{"id": MODEL, "object": "model"}]},
        "failure": _error("scripted failure", "server_error"),
        "missing": _error("nothing is here", "not_found"),
    }.items():
        (folder / f"{name}.json").write_bytes(_bytes(value))
    (folder / "chat.sse").write_bytes(b"\0".join(_chat_events(text)))
    (folder / "message.sse").write_bytes(b"\0".join(_message_events(text)))


def chat_completion(text: str, n: int = 1) -> dict[str, Any]:
    """The chat completion with the same text in all its ``n`` choices."""
    return {
        "id": "chatcmpl-scripted0000000000000001",
        "object": "chat.completion",
        "created": CREATED_S,
        "model": MODEL,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
            for index in range(n)
        ],
        "usage": _USAGE,
    }


def _chat_events(text: str) -> Iterator[bytes]:
    yield _chunk({"role": "assistant", "content": ""})
    for piece in pieces(text):
        yield _chunk({"content": piece})
    yield _chunk({}, finish="stop")
    last = {**_chunk_head(), "choices": [], "usage": _USAGE}
    yield b"data: " + _bytes(last) + b"\n\ndata: [DONE]\n\n"


def _message_events(text: str) -> Iterator[bytes]:
    opening = {**_message(""), "content": [], "stop_reason": None}
    block = {"type": "content_block_start", "index": 0}
    start = {**block, "content_block": {"type": "text", "text": ""}}
    yield _event({"type": "message_start", "message": opening}) + _event(start)
    for piece in pieces(text):
        delta = {"type": "text_delta", "text": piece}
        yield _event({"type": "content_block_delta", "index": 0, "delta": delta})
    yield _event({"type": "content_block_stop", "index": 0})
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    usage = {"output_tokens": _USAGE["completion_tokens"]}
    last = _event({"type": "message_delta", "delta": stop, "usage": usage})
    yield last + _event({"type": "message_stop"})


def pieces(text: str) -> list[str]:
    """The text in ``DELTAS`` pieces of about the same length; of a short one some are empty."""
    cuts = [index * len(text) // DELTAS for index in range(DELTAS + 1)]
    return [text[start:end] for start, end in pairwise(cuts)]


def _chunk_head() -> dict[str, Any]:
    return {
        "id": "chatcmpl-scripted0000000000000001",
        "object": "chat.completion.chunk",
        "created": CREATED_S,
        "model": MODEL,
    }


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + _bytes({**_chunk_head(), "choices": [choice]}) + b"\n\n"


def _event(value: dict[str, Any]) -> bytes:
    return f"event: {value['type']}\n".encode() + b"data: " + _bytes(value) + b"\n\n"


def _message(text: str) -> dict[str, Any]:
    return {
        "id": "msg_scripted0000000000000001",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": _USAGE["prompt_tokens"],
            "output_tokens": _USAGE["completion_tokens"],
        },
    }


def _error(message: str, kind: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _bytes(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
