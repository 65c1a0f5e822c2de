"""A stream of the Anthropic Messages API as chat chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from tutelage.runtime.errors import BadResponse
from tutelage.runtime.models.sse import Event
from tutelage.runtime.wires.events import mid_stream_failure, read_event
from tutelage.runtime.wires.messages_answer import chat_usage, checked_blocks, finish_of, said
from tutelage.runtime.wires.messages_blocks import Block, tool_input
from tutelage.runtime.wires.native import NATIVE


@dataclass(slots=True)
class _Growing:
    """A content block as far as it has come."""

    block: Block
    pieces: list[str] = field(default_factory=list)
    call: int | None = None
    """The number of its tool call."""


class MessagesDecoder:
    """Reads the events of a streamed message.

    What a chat chunk has no word for stands in its delta under ``NATIVE``: pieces that let a stream
    be written on as it came (``delta``, ``block``, ``break``, ``usage``), and at the end the whole
    ``content``, where it says more than the chat message.
    """

    def __init__(self) -> None:
        self._done = False
        self._head = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}
        self._usage: dict[str, Any] = {}
        self._blocks: list[_Growing] = []
        self._open: int | None = None
        self._calls = 0
        self._stopped = False

    @property
    def done(self) -> bool:
        """Whether ``message_stop`` has arrived."""
        return self._done

    def feed(self, event: Event) -> list[dict[str, Any]]:
        """The chunks of an event; unknown kinds of events are passed over, as the API asks.

        Raises:
            BadResponse: The event is malformed, out of place, or says that the upstream failed.
        """
        if self._done:
            return []
        found = read_event(event)
        kind = found.get("type")
        if kind == "content_block_delta":
            return self._delta(found)
        if kind == "content_block_start":
            return self._block_start(found)
        if kind == "content_block_stop":
            return self._block_stop(found)
        if kind == "message_start":
            return self._start(_object(found, "message"))
        if kind == "message_delta":
            return self._message_delta(found)
        if kind == "message_stop":
            return self._stop()
        if kind == "error" or "error" in found:
            raise mid_stream_failure(found)
        return []

    def _start(self, message: Mapping[str, Any]) -> list[dict[str, Any]]:
        self._head["id"] = str(message.get("id") or "")
        self._head["model"] = str(message.get("model") or "")
        self._add_usage(message.get("usage"))
        native = {NATIVE: {"usage": dict(self._usage)}} if self._usage else {}
        return [self._chunk({"role": "assistant", "content": "", **native})]

    def _block_start(self, found: Mapping[str, Any]) -> list[dict[str, Any]]:
        block = dict(checked_blocks([found.get("content_block")])[0])
        if self._open is not None or found.get("index") != len(self._blocks):
            raise BadResponse("the endpoint sent content blocks out of order")
        before = self._blocks[-1].block["type"] if self._blocks else None
        self._open = len(self._blocks)
        growing = _Growing(block)
        self._blocks.append(growing)
        kind = block["type"]
        if kind == "tool_use":
            growing.call = self._calls
            self._calls += 1
            function = {"name": str(block.get("name") or ""), "arguments": ""}
            return [self._fragment(growing.call, function, str(block.get("id") or ""))]
        chunks = []
        if kind == before and kind in ("text", "thinking"):
            chunks.append(self._chunk({NATIVE: {"break": True}}))
        opening = block.get(kind) if kind in ("text", "thinking") else None
        if isinstance(opening, str) and opening:
            chunks.append(self._piece(growing, {"type": f"{kind}_delta", kind: opening}))
        return chunks

    def _delta(self, found: Mapping[str, Any]) -> list[dict[str, Any]]:
        growing, delta = self._growing(found), _object(found, "delta")
        kind = delta.get("type")
        if kind in ("text_delta", "thinking_delta"):
            return [self._piece(growing, delta)]
        if kind == "input_json_delta":
            text = _text(delta, "partial_json")
            growing.pieces.append(text)
            if growing.call is None or not text:
                return []
            return [self._fragment(growing.call, {"arguments": text})]
        if kind == "signature_delta":
            growing.block["signature"] = _text(delta, "signature")
        elif kind == "citations_delta":
            citations = growing.block.get("citations") or []
            growing.block["citations"] = [*citations, delta.get("citation")]
        else:
            return []
        return [self._chunk({NATIVE: {"delta": delta}})]

    def _piece(self, growing: _Growing, delta: Mapping[str, Any]) -> dict[str, Any]:
        if delta["type"] == "text_delta":
            text = _text(delta, "text")
            growing.pieces.append(text)
            return self._chunk({"content": text})
        text = _text(delta, "thinking")
        growing.pieces.append(text)
        return self._chunk({"reasoning_content": text, NATIVE: {"delta": delta}})

    def _block_stop(self, found: Mapping[str, Any]) -> list[dict[str, Any]]:
        growing = self._growing(found)
        block, text, self._open = growing.block, "".join(growing.pieces), None
        kind = block["type"]
        if kind in ("text", "thinking"):
            block[kind] = text
            return []
        if text:
            block["input"] = tool_input(text)
        if growing.call is None:
            return [self._chunk({NATIVE: {"block": block}})]
        if text:
            return []
        arguments = orjson.dumps(block.get("input") or {}).decode()
        return [self._fragment(growing.call, {"arguments": arguments})]

    def _message_delta(self, found: Mapping[str, Any]) -> list[dict[str, Any]]:
        delta = _object(found, "delta")
        self._add_usage(found.get("usage"))
        reason = delta.get("stop_reason")
        if reason is None or self._stopped:
            return []
        if self._open is not None:
            raise BadResponse("the endpoint ended its answer within a content block")
        self._stopped = True
        blocks = [growing.block for growing in self._blocks]
        native = said(blocks, reason, delta.get("stop_sequence")).get(NATIVE)
        return [self._chunk({NATIVE: native} if native else {}, finish_of(reason))]

    def _stop(self) -> list[dict[str, Any]]:
        if not self._stopped:
            raise BadResponse("the endpoint ended its answer without a stop reason")
        last = {**self._head, "choices": [], "usage": chat_usage(self._usage)}
        self._done = True
        return [last]

    def _growing(self, found: Mapping[str, Any]) -> _Growing:
        if self._open is None or found.get("index") != self._open:
            raise BadResponse("the endpoint sent part of a content block that is not open")
        return self._blocks[self._open]

    def _add_usage(self, usage: object) -> None:
        """Counts are running totals: those of a later event take the place of earlier ones."""
        if isinstance(usage, Mapping):
            self._usage.update({n: value for n, value in usage.items() if value is not None})

    def _fragment(
        self, call: int, function: dict[str, str], id: str | None = None
    ) -> dict[str, Any]:
        opening = {} if id is None else {"id": id, "type": "function"}
        return self._chunk({"tool_calls": [{"index": call, **opening, "function": function}]})

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {**self._head, "choices": [choice]}


def _object(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = found.get(name)
    if not isinstance(value, dict):
        raise BadResponse(f"the endpoint sent a {found.get('type')} event without its {name}")
    return value


def _text(delta: Mapping[str, Any], name: str) -> str:
    value = delta.get(name)
    if not isinstance(value, str):
        raise BadResponse(f"the endpoint sent a {delta.get('type')} without its {name}")
    return value
