"""Completions as streamed chunks, and streamed chunks as completions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tutelage.runtime.steps import action_text
from tutelage.runtime.types import ChatRequest, Completion, Usage

NATIVE = "anthropic"
"""Key of what only the Messages API has a word for, in chat shapes and in chunks."""
NATIVE_PIECES = frozenset({"delta", "block", "break", "usage"})
"""What stands under that key in a delta for the sake of a live stream only."""

# Characters in one streamed piece of an answer that is already complete.
PIECE_CHARACTERS = 24


def chunks(completion: Completion, *, usage: bool) -> Iterator[dict[str, Any]]:
    """Yields the first choice as OpenAI chunks: role, pieces, tool calls, finish, then usage.

    Reasoning that the endpoint told comes before the text, as ``reasoning_content``.

    Args:
        completion: The complete answer.
        usage: Whether the client asked for a last chunk with the usage.
    """
    head = _head(completion)

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {**head, "choices": [choice]}

    choice = completion.choices[0]
    yield chunk({"role": "assistant", "content": ""})
    more = choice.message.model_extra or {}
    for name, text in (
        ("reasoning_content", _reasoning(more)),
        ("content", choice.message.text),
        ("refusal", str(more.get("refusal") or "")),
    ):
        for start in range(0, len(text), PIECE_CHARACTERS):
            yield chunk({name: text[start : start + PIECE_CHARACTERS]})
    for index, call in enumerate(choice.message.tool_calls or ()):
        function = call.get("function") or {}
        arguments = str(function.get("arguments") or "")
        opening = {"name": function.get("name"), "arguments": ""}
        named = {"index": index, "id": call.get("id"), "type": "function", "function": opening}
        yield chunk({"tool_calls": [named]})
        for start in range(0, len(arguments), PIECE_CHARACTERS):
            piece = {"arguments": arguments[start : start + PIECE_CHARACTERS]}
            yield chunk({"tool_calls": [{"index": index, "function": piece}]})
    native = more.get(NATIVE)
    yield chunk({NATIVE: native} if native else {}, choice.finish_reason or "stop")
    if usage:
        yield usage_chunk(completion)


def usage_chunk(completion: Completion) -> dict[str, Any]:
    """The last chunk of a stream whose client asked for its usage."""
    return {**_head(completion), "choices": [], "usage": completion.wire()["usage"]}


class CallPositions:
    """Numbers the tool calls of a stream in the order they begin, from 0 on.

    Some endpoints give every call the index 0, or none; a new id then begins a new call.
    """

    def __init__(self) -> None:
        self._calls = 0
        self._by_index: dict[int, tuple[int, str | None]] = {}

    def of(self, fragment: Mapping[str, Any]) -> int:
        """The number of the call that a fragment belongs to."""
        index, id = fragment.get("index") or 0, fragment.get("id") or None
        known = self._by_index.get(index)
        if known is not None and (id is None or known[1] is None or id == known[1]):
            self._by_index[index] = (known[0], known[1] or id)
            return known[0]
        position = self._calls
        self._calls += 1
        self._by_index[index] = (position, id)
        return position


class Accumulator:
    """Collects streamed chunks into the completion they add up to."""

    def __init__(self) -> None:
        self._id = ""
        self._created = 0
        self._texts: dict[str, list[str]] = {"content": [], "reasoning_content": [], "refusal": []}
        self._calls: dict[int, dict[str, Any]] = {}
        self._positions = CallPositions()
        self._native: dict[str, Any] = {}
        self._finish_reason: str | None = None
        self._usage: Mapping[str, Any] | None = None
        self._started = False
        self._has_choice = False

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Adds one chunk; only the choice with index 0 counts."""
        self._started = True
        if not self._id:
            self._id = str(chunk.get("id") or "")
        if not self._created:
            self._created = int(chunk.get("created") or 0)
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            self._has_choice = True
            delta = choice.get("delta") or {}
            if len(delta) == 1 and "content" in delta:
                self._texts["content"].append(delta["content"] or "")
            else:
                self._add_texts(delta)
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            for fragment in delta.get("tool_calls") or ():
                self._add_call(fragment)

    @property
    def has_choice(self) -> bool:
        """Whether a chunk has said anything of the answer."""
        return self._has_choice

    @property
    def has_usage(self) -> bool:
        """Whether the endpoint has told its usage."""
        return self._usage is not None

    @property
    def started(self) -> bool:
        """Whether a chunk has arrived."""
        return self._started

    def completion(self, request: ChatRequest, count_tokens: Callable[[str], int]) -> Completion:
        """The completion so far; tokens are counted here if the endpoint sent no usage."""
        calls = [self._calls[index] for index in sorted(self._calls)]
        texts = {name: "".join(pieces) or None for name, pieces in self._texts.items()}
        message: dict[str, Any] = {"role": "assistant", "content": texts.pop("content")}
        message.update({name: text for name, text in texts.items() if text is not None})
        if calls:
            message["tool_calls"] = calls
        if self._native:
            message[NATIVE] = self._native
        usage = Usage.from_wire(self._usage)
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason}
        completion = Completion.model_validate(
            {
                "id": self._id or "chatcmpl-streamed",
                "model": request.model,
                "created": self._created,
                "choices": [choice],
                "usage": usage,
                "usage_details": dict(self._usage or {}),
            }
        )
        if self._usage is None:
            counted = Usage(
                input_tokens=sum(count_tokens(m.text) for m in request.messages),
                output_tokens=count_tokens(action_text(completion.choices[0].message)),
            )
            completion = completion.model_copy(update={"usage": counted})
        return completion

    def _add_texts(self, delta: Mapping[str, Any]) -> None:
        self._texts["content"].append(delta.get("content") or "")
        self._texts["refusal"].append(delta.get("refusal") or "")
        self._texts["reasoning_content"].append(_reasoning(delta))
        native = delta.get(NATIVE)
        if isinstance(native, Mapping):
            # A piece only matters to who writes the stream on; the rest sums the answer up.
            self._native.update(
                {name: value for name, value in native.items() if name not in NATIVE_PIECES}
            )

    def _add_call(self, fragment: Mapping[str, Any]) -> None:
        empty = {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        call = self._calls.setdefault(self._positions.of(fragment), empty)
        function = fragment.get("function") or {}
        call["id"] = fragment.get("id") or call["id"]
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""


def _head(completion: Completion) -> dict[str, Any]:
    return {
        "id": completion.id,
        "object": "chat.completion.chunk",
        "created": completion.created,
        "model": completion.model,
    }


def _reasoning(said: Mapping[str, Any]) -> str:
    """The reasoning in a message or delta; servers call it by one of two names."""
    return str(said.get("reasoning_content") or said.get("reasoning") or "")
