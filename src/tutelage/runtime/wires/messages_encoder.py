"""Chat chunks as a stream of the Anthropic Messages API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from tutelage.runtime.chunks import CallPositions
from tutelage.runtime.wires.events import write_named_event
from tutelage.runtime.wires.failure import Failure
from tutelage.runtime.wires.messages_answer import message_id, messages_usage, stop_of
from tutelage.runtime.wires.messages_blocks import valid_id
from tutelage.runtime.wires.messages_error import messages_error
from tutelage.runtime.wires.messages_request import wants_thinking
from tutelage.runtime.wires.native import native_of
from tutelage.runtime.wires.protocol import Asked

_EMPTY: dict[str, dict[str, Any]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}
_DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b}\n\n'
)
_BLOCK_OF_DELTA = {
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
    "citations_delta": "text",
}


@dataclass(slots=True)
class _Call:
    """One tool call of the answer."""

    id: str = ""
    name: str = ""
    pending: str = ""
    """Arguments that are not written yet."""
    written: str = ""
    is_open: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether its arguments are a whole JSON value."""
        try:
            orjson.loads(self.written + self.pending)
        except orjson.JSONDecodeError:
            return False
        return True


class MessagesEncoder:
    """Writes chat chunks as events; blocks follow one another, numbered from 0 on.

    Args:
        asked: The call.
        answer_id: The id of the answer, ``msg_`` is put before it.
    """

    def __init__(self, asked: Asked, answer_id: str) -> None:
        self._id = message_id(answer_id)
        self._alias = asked.request.model
        self._thinking = wants_thinking(asked.body)
        self._sequences = tuple(asked.body.get("stop_sequences") or ())
        self._started = False
        self._index = -1
        self._open: str | None = None
        self._positions = CallPositions()
        self._calls: list[_Call] = []
        self._current = 0
        self._late_text = ""
        self._finish_reason: str | None = None
        self._matched: object = None
        self._said: dict[str, Any] = {}
        self._usage: Mapping[str, Any] = {}

    def feed(self, chunk: Mapping[str, Any]) -> bytes:
        """The events of one chunk; only the choice with index 0 is written."""
        events: list[bytes] = []
        choices = chunk.get("choices") or ()
        if not self._started:
            self._start(chunk, events)
        self._usage = chunk.get("usage") or self._usage
        for choice in choices:
            if choice.get("index", 0) == 0:
                self._feed_choice(choice, events)
        return b"".join(events)

    def finish(self, facts: Mapping[str, Any]) -> bytes:
        """``message_delta`` with the usage and our facts, and ``message_stop``."""
        events: list[bytes] = []
        if not self._started:
            self._start({}, events)
        self._write_calls(events, last=True)
        if self._late_text:
            self._write_text("text", self._late_text, events)
        self._close(events)
        reason, sequence = stop_of(
            self._finish_reason,
            calls=bool(self._calls),
            said=self._said,
            matched=self._matched,
            sequences=self._sequences,
        )
        end: dict[str, Any] = {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": messages_usage(self._usage),
        }
        if facts:
            end["tutelage"] = dict(facts)
        events += [write_named_event(end), write_named_event({"type": "message_stop"})]
        return b"".join(events)

    def fail(self, failure: Failure) -> bytes:
        """``event: error``; nothing may follow it."""
        return write_named_event(messages_error(failure))

    def _start(self, chunk: Mapping[str, Any], events: list[bytes]) -> None:
        self._started = True
        choices: Sequence[Mapping[str, Any]] = chunk.get("choices") or ({},)
        known = native_of(choices[0].get("delta") or {}).get("usage")
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": chunk.get("model") or self._alias,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**messages_usage({}), **(known or {})},
        }
        events.append(write_named_event({"type": "message_start", "message": message}))

    def _feed_choice(self, choice: Mapping[str, Any], events: list[bytes]) -> None:
        delta = choice.get("delta") or {}
        native = native_of(delta)
        if native:
            self._feed_native(native, events)
        elif self._thinking and (
            thought := delta.get("reasoning_content") or delta.get("reasoning")
        ):
            self._write_text("thinking", thought, events)
        text = delta.get("content") or delta.get("refusal")
        if text:
            self._feed_text(text, events)
        for fragment in delta.get("tool_calls") or ():
            self._feed_call(fragment, events)
        if choice.get("finish_reason"):
            self._finish_reason = choice["finish_reason"]
            self._matched = choice.get("stop_reason")

    def _feed_native(self, native: Mapping[str, Any], events: list[bytes]) -> None:
        if native.get("break"):
            self._close(events)
        piece, block = native.get("delta"), native.get("block")
        if isinstance(piece, Mapping) and piece.get("type") in _BLOCK_OF_DELTA:
            self._open_block(_BLOCK_OF_DELTA[piece["type"]], events)
            self._write_delta(orjson.dumps(piece), events)
        if isinstance(block, Mapping):
            self._write_block(block, events)
        if "stop_reason" in native:
            self._said = {name: native.get(name) for name in ("stop_reason", "stop_sequence")}

    def _feed_text(self, text: str, events: list[bytes]) -> None:
        """Writes a text now, or after the calls, if one of them is not complete yet."""
        if not all(call.is_complete for call in self._calls[self._current :]):
            self._late_text += text
            return
        self._write_calls(events, last=True)
        text, self._late_text = self._late_text + text, ""
        self._write_text("text", text, events)

    def _feed_call(self, fragment: Mapping[str, Any], events: list[bytes]) -> None:
        position = self._positions.of(fragment)
        if position == len(self._calls):
            self._calls.append(_Call())
        call, function = self._calls[position], fragment.get("function") or {}
        call.id = call.id or fragment.get("id") or ""
        call.name += function.get("name") or ""
        call.pending += function.get("arguments") or ""
        self._write_calls(events, last=False)

    def _write_calls(self, events: list[bytes], *, last: bool) -> None:
        """Writes what may be written of the calls: the next one only when one is complete."""
        while self._current < len(self._calls):
            call = self._calls[self._current]
            if not call.name and not last:
                return
            if not call.is_open:
                call.is_open = True
                id = valid_id(call.id or f"{self._id}_{self._current}")
                block = {"type": "tool_use", "id": id, "name": call.name, "input": {}}
                self._open_block("tool_use", events, block)
            if call.pending:
                piece = {"type": "input_json_delta", "partial_json": call.pending}
                self._write_delta(orjson.dumps(piece), events)
                call.written, call.pending = call.written + call.pending, ""
            is_newest = self._current == len(self._calls) - 1
            if not last and (is_newest or not call.is_complete):
                return
            self._close(events)
            self._current += 1

    def _write_text(self, kind: str, text: str, events: list[bytes]) -> None:
        self._open_block(kind, events)
        written = orjson.dumps(text)
        if kind == "text":
            self._write_delta(b'{"type":"text_delta","text":' + written + b"}", events)
        else:
            self._write_delta(b'{"type":"thinking_delta","thinking":' + written + b"}", events)

    def _write_block(self, block: Mapping[str, Any], events: list[bytes]) -> None:
        """A block that came as a whole; the input of a call is told in a delta nevertheless."""
        given = block.get("input") if str(block.get("type")).endswith("tool_use") else None
        self._close(events)
        self._open_block("whole", events, {**block, **({} if given is None else {"input": {}})})
        if given:
            piece = {"type": "input_json_delta", "partial_json": orjson.dumps(given).decode()}
            self._write_delta(orjson.dumps(piece), events)
        self._close(events)

    def _write_delta(self, delta: bytes, events: list[bytes]) -> None:
        events.append(_DELTA % (self._index, delta))

    def _open_block(
        self, kind: str, events: list[bytes], block: Mapping[str, Any] | None = None
    ) -> None:
        """Begins a block of a kind, unless a text or thought of that kind is still open."""
        if self._open == kind and block is None:
            return
        self._close(events)
        self._open = kind
        self._index += 1
        start = {
            "type": "content_block_start",
            "index": self._index,
            "content_block": _EMPTY[kind] if block is None else block,
        }
        events.append(write_named_event(start))

    def _close(self, events: list[bytes]) -> None:
        if self._open is None:
            return
        self._open = None
        events.append(write_named_event({"type": "content_block_stop", "index": self._index}))
