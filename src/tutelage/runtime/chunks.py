"""Completions as streamed chunks, and streamed chunks as completions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tutelage.runtime.steps import action_text
from tutelage.runtime.types import ChatRequest, Completion, Usage

# Characters in one streamed piece of an answer that is already complete.
PIECE_CHARACTERS = 24


def chunks(completion: Completion, *, usage: bool) -> Iterator[dict[str, Any]]:
    """Yields the first choice as OpenAI chunks: role, pieces, tool calls, finish, then usage.

    Args:
        completion: The complete answer.
        usage: Whether the client asked for a last chunk with the usage.
    """
    head = {
        "id": completion.id,
        "object": "chat.completion.chunk",
        "created": completion.created,
        "model": completion.model,
    }

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {**head, "choices": [choice]}

    choice = completion.choices[0]
    yield chunk({"role": "assistant", "content": ""})
    text = choice.message.text
    for start in range(0, len(text), PIECE_CHARACTERS):
        yield chunk({"content": text[start : start + PIECE_CHARACTERS]})
    for index, call in enumerate(choice.message.tool_calls or ()):
        function = call.get("function") or {}
        arguments = str(function.get("arguments") or "")
        opening = {"name": function.get("name"), "arguments": ""}
        named = {"index": index, "id": call.get("id"), "type": "function", "function": opening}
        yield chunk({"tool_calls": [named]})
        for start in range(0, len(arguments), PIECE_CHARACTERS):
            piece = {"arguments": arguments[start : start + PIECE_CHARACTERS]}
            yield chunk({"tool_calls": [{"index": index, "function": piece}]})
    yield chunk({}, choice.finish_reason or "stop")
    if usage:
        yield {**head, "choices": [], "usage": completion.usage.wire()}


class Accumulator:
    """Collects streamed chunks into the completion they add up to."""

    def __init__(self) -> None:
        self._id = ""
        self._created = 0
        self._text = ""
        self._calls: dict[int, dict[str, Any]] = {}
        self._finish_reason: str | None = None
        self._usage: Mapping[str, Any] | None = None
        self._started = False

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Adds one chunk; only the choice with index 0 counts."""
        self._started = True
        self._id = self._id or str(chunk.get("id") or "")
        self._created = self._created or int(chunk.get("created") or 0)
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            delta = choice.get("delta") or {}
            self._text += delta.get("content") or ""
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            for fragment in delta.get("tool_calls") or ():
                self._add_call(fragment)

    @property
    def started(self) -> bool:
        """Whether a chunk has arrived."""
        return self._started

    def completion(self, request: ChatRequest, count_tokens: Callable[[str], int]) -> Completion:
        """The completion so far; tokens are counted here if the endpoint sent no usage."""
        calls = [self._calls[index] for index in sorted(self._calls)]
        message: dict[str, Any] = {"role": "assistant", "content": self._text or None}
        if calls:
            message["tool_calls"] = calls
        usage = Usage.from_wire(self._usage)
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason}
        completion = Completion.model_validate(
            {
                "id": self._id or "chatcmpl-streamed",
                "model": request.model,
                "created": self._created,
                "choices": [choice],
                "usage": usage,
            }
        )
        if self._usage is None:
            counted = Usage(
                input_tokens=sum(count_tokens(m.text) for m in request.messages),
                output_tokens=count_tokens(action_text(completion.choices[0].message)),
            )
            completion = completion.model_copy(update={"usage": counted})
        return completion

    def _add_call(self, fragment: Mapping[str, Any]) -> None:
        empty = {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        call = self._calls.setdefault(int(fragment.get("index", 0)), empty)
        function = fragment.get("function") or {}
        call["id"] = fragment.get("id") or call["id"]
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""
