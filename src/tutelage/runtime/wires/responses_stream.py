"""Streamed answers of the Responses API."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from tutelage.runtime.chunks import CallPositions
from tutelage.runtime.wires.chat import chat_error
from tutelage.runtime.wires.events import write_named_event
from tutelage.runtime.wires.failure import Failure
from tutelage.runtime.wires.protocol import Asked
from tutelage.runtime.wires.responses_answer import (
    call_item,
    call_kind,
    incomplete_reason,
    logprobs_of,
    message_item,
    reasoning_item,
    response_object,
    text_part,
)
from tutelage.runtime.wires.responses_ids import item_id, response_id
from tutelage.runtime.wires.responses_usage import response_usage

Written = Iterator[tuple[str, dict[str, Any]]]
"""Types and fields of events, in order."""

Kind = TypeVar("Kind", "_Reasoning", "_Text")

_FAILED_CODES = {"rate_limit": "rate_limit_exceeded", "invalid_request": "invalid_prompt"}
# Not in the list that the API documents, but sent by it and known to its clients.
_KNOWN_CODES = frozenset({"context_length_exceeded", "insufficient_quota"})


class ResponsesEncoder:
    """Writes chat chunks as the events of one response.

    Reasoning and text end where something else begins; calls end with the answer, because pieces of
    parallel calls may arrive in turns.

    Args:
        asked: The call.
        answer_id: Becomes the id of the response.
        created_s: Unix time.
    """

    def __init__(self, asked: Asked, answer_id: str, created_s: int) -> None:
        self._asked = asked
        self._id = response_id(answer_id)
        self._created_s = created_s
        self._custom: frozenset[str] = asked.kept.get("custom", frozenset())
        self._next = 0
        self._started = False
        self._ended = False
        self._items: list[_Reasoning | _Text | _Call] = []
        self._calls: dict[int, _Call] = {}
        self._positions = CallPositions()
        self._finish_reason: str | None = None
        self._usage: Mapping[str, Any] | None = None

    def feed(self, chunk: Mapping[str, Any]) -> bytes:
        """The events of one chunk; only the choice with index 0 counts."""
        if self._ended:
            return b""
        written = [self._start()]
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) == 0:
                written.append(self._write(self._choice(choice)))
        return b"".join(written)

    def finish(self, facts: Mapping[str, Any]) -> bytes:
        """The ends of all items, and ``response.completed`` or ``response.incomplete``."""
        if self._ended:
            return b""
        written = [self._start()]
        incomplete = incomplete_reason(self._finish_reason)
        has_answer = any(isinstance(item, _Text | _Call) for item in self._items)
        if not has_answer and not (incomplete and self._items):
            written.append(self._write(self._text().say("")))
        written.append(self._write(self._close(cut=bool(incomplete))))
        status = "incomplete" if incomplete else "completed"
        response = self._response(status, incomplete=incomplete, facts=facts)
        written.append(self._write(iter([(f"response.{status}", {"response": response})])))
        self._ended = True
        return b"".join(written)

    def fail(self, failure: Failure) -> bytes:
        """``error``, then ``response.failed`` with what was said so far."""
        if self._ended:
            return b""
        error = chat_error(failure)["error"]
        code = failure.code if failure.code in _KNOWN_CODES else _FAILED_CODES.get(failure.kind)
        if failure.kind == "quota":
            code = "insufficient_quota"
        told = {"code": code or "server_error", "message": error["message"]}
        for item in self._items:
            item.abandon()
        response = self._response("failed", error=told)
        flat = {name: error.get(name) for name in ("code", "message", "param")}
        written = self._start() + self._write(
            iter(
                [
                    ("error", {**flat, "error": error}),
                    ("response.failed", {"response": response}),
                ]
            )
        )
        self._ended = True
        return written

    def _choice(self, choice: Mapping[str, Any]) -> Written:
        delta = choice.get("delta") or {}
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            yield from self._close_before(_Reasoning)
            yield from self._reasoning().say(reasoning)
        if delta.get("content"):
            yield from self._close_before(_Text)
            yield from self._text().say(delta["content"], logprobs_of(choice.get("logprobs")))
        if delta.get("refusal"):
            yield from self._close_before(_Text)
            yield from self._text().refuse(delta["refusal"])
        for fragment in delta.get("tool_calls") or ():
            yield from self._close_before(_Call)
            yield from self._fragment(fragment)
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        if choice.get("finish_reason") and self._items:
            yield from self._close(cut=incomplete_reason(self._finish_reason) is not None)

    def _fragment(self, fragment: Mapping[str, Any]) -> Written:
        index = self._positions.of(fragment)
        function = fragment.get("function") or {}
        call = self._calls.get(index)
        if call is None:
            name = str(function.get("name") or "")
            is_custom = name in self._custom
            position = len(self._items)
            call = self._calls[index] = _Call(
                item_id(call_kind(is_custom), self._id, position),
                position,
                fragment.get("id") or f"call{self._id.removeprefix('resp')}_{index}",
                name,
                is_custom=is_custom,
            )
            self._items.append(call)
            yield from call.open()
        yield from call.add(str(function.get("arguments") or ""))

    def _reasoning(self) -> _Reasoning:
        return self._last(_Reasoning, "rs")

    def _text(self) -> _Text:
        return self._last(_Text, "msg")

    def _last(self, kind: type[Kind], prefix: str) -> Kind:
        """The last item if it is open and of a kind, else a new one."""
        last = self._items[-1] if self._items else None
        if last is not None and type(last) is kind and not last.is_closed:
            return last
        position = len(self._items)
        made = kind(item_id(prefix, self._id, position), position)
        self._items.append(made)
        return made

    def _close_before(self, kind: type) -> Written:
        for item in self._items[-1:]:
            if not isinstance(item, (kind, _Call)):
                yield from item.close()

    def _close(self, *, cut: bool) -> Written:
        if cut:
            self._items[-1].cut()
        for item in self._items:
            yield from item.close()

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        response = self._response("in_progress")
        return self._write(
            iter(
                [
                    ("response.created", {"response": response}),
                    ("response.in_progress", {"response": response}),
                ]
            )
        )

    def _response(self, status: str, **more: Any) -> dict[str, Any]:
        output = [item.item() for item in self._items]
        usage = response_usage(self._usage) if self._usage else None
        return response_object(
            self._asked, self._id, self._created_s, status, output, usage=usage, **more
        )

    def _write(self, events: Written) -> bytes:
        written = []
        for kind, fields in events:
            event = {"type": kind, "sequence_number": self._next, **fields}
            self._next += 1
            written.append(write_named_event(event))
        return b"".join(written)


class _Item(ABC):
    """One output item, from its first event to its last."""

    def __init__(self, id: str, position: int) -> None:
        self.id = id
        self.where = {"item_id": id, "output_index": position}
        self.position = position
        self.status = "in_progress"
        self.is_open = False
        self._is_cut = False

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be added any more."""
        return self.status != "in_progress"

    def cut(self) -> None:
        """Notes that the item will end early."""
        self._is_cut = True

    def abandon(self) -> None:
        """Leaves the item as it is, without an end."""
        if not self.is_closed:
            self.status = "incomplete"

    def open(self) -> Written:
        """The first event."""
        if not self.is_open:
            self.is_open = True
            yield from self._told("added")

    def close(self) -> Written:
        """The last events."""
        if not self.is_closed:
            yield from self.end()
            self.status = "incomplete" if self._is_cut else "completed"
            yield from self._told("done")

    @abstractmethod
    def end(self) -> Written:
        """The events that end what the item holds."""

    @abstractmethod
    def item(self) -> dict[str, Any]:
        """The item as it is now."""

    def _told(self, what: str) -> Written:
        fields = {"output_index": self.position, "item": self.item()}
        yield f"response.output_item.{what}", fields


class _Reasoning(_Item):
    def __init__(self, id: str, position: int) -> None:
        super().__init__(id, position)
        self._text = ""

    def say(self, text: str) -> Written:
        if not self.is_open:
            yield from self.open()
            part = {"type": "reasoning_text", "text": ""}
            yield "response.content_part.added", {**self.where, "content_index": 0, "part": part}
        self._text += text
        yield "response.reasoning_text.delta", {**self.where, "content_index": 0, "delta": text}

    def end(self) -> Written:
        where = {**self.where, "content_index": 0}
        yield "response.reasoning_text.done", {**where, "text": self._text}
        part = {"type": "reasoning_text", "text": self._text}
        yield "response.content_part.done", {**where, "part": part}

    def item(self) -> dict[str, Any]:
        return reasoning_item(self.id, self._text, self.status)


class _Text(_Item):
    """A message; its parts are texts and refusals, the last of which is open."""

    def __init__(self, id: str, position: int) -> None:
        super().__init__(id, position)
        self._parts: list[dict[str, Any]] = []

    def say(self, text: str, logprobs: Sequence[Mapping[str, Any]] = ()) -> Written:
        yield from self._part("output_text", text_part(""))
        part = self._parts[-1]
        part["text"] += text
        part["logprobs"].extend(logprobs)
        if text:
            fields = {**self._here, "delta": text, "logprobs": list(logprobs)}
            yield "response.output_text.delta", fields

    def refuse(self, text: str) -> Written:
        yield from self._part("refusal", {"type": "refusal", "refusal": ""})
        self._parts[-1]["refusal"] += text
        yield "response.refusal.delta", {**self._here, "delta": text}

    def end(self) -> Written:
        if not self._parts:
            return
        part = self._parts[-1]
        if part["type"] == "refusal":
            yield "response.refusal.done", {**self._here, "refusal": part["refusal"]}
        else:
            fields = {"text": part["text"], "logprobs": part["logprobs"]}
            yield "response.output_text.done", {**self._here, **fields}
        yield "response.content_part.done", {**self._here, "part": dict(part)}

    def item(self) -> dict[str, Any]:
        return message_item(self.id, [dict(part) for part in self._parts], self.status)

    @property
    def _here(self) -> dict[str, Any]:
        return {**self.where, "content_index": len(self._parts) - 1}

    def _part(self, kind: str, part: dict[str, Any]) -> Written:
        yield from self.open()
        if not self._parts or self._parts[-1]["type"] != kind:
            yield from self.end()
            self._parts.append(part)
            yield "response.content_part.added", {**self._here, "part": dict(part)}


class _Call(_Item):
    def __init__(self, id: str, position: int, call_id: str, name: str, *, is_custom: bool) -> None:
        super().__init__(id, position)
        self._call_id = call_id
        self._name = name
        self._is_custom = is_custom
        self._arguments = ""

    def add(self, arguments: str) -> Written:
        self._arguments += arguments
        if arguments and not self._is_custom:
            fields = {**self.where, "delta": arguments}
            yield "response.function_call_arguments.delta", fields

    def end(self) -> Written:
        item = self.item()
        if self._is_custom:
            # The input stands inside JSON until now.
            kind, told = "response.custom_tool_call_input", item["input"]
            if told:
                yield f"{kind}.delta", {**self.where, "delta": told}
            yield f"{kind}.done", {**self.where, "input": told}
        else:
            fields = {"name": self._name, "arguments": self._arguments}
            yield "response.function_call_arguments.done", {**self.where, **fields}

    def item(self) -> dict[str, Any]:
        return call_item(
            self.id,
            self._call_id,
            self._name,
            self._arguments,
            self.status,
            is_custom=self._is_custom,
        )
