"""Streams of an upstream that speaks the Responses API, as chat chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from tutelage.runtime.models.sse import Event
from tutelage.runtime.wires.events import mid_stream_failure, read_event
from tutelage.runtime.wires.responses_result import (
    call_of,
    checked_output,
    failure_in,
    finish_reason_of,
    not_a_response,
    parts_of,
    text_in,
    usage_in,
)

_TEXTS = {
    "response.output_text": ("content", "text"),
    "response.refusal": ("refusal", "refusal"),
}
_REASONING = {
    "response.reasoning_text.delta": ("content", "content_index"),
    "response.reasoning_summary_text.delta": ("summary", "summary_index"),
}
_CALLS = frozenset({"function_call", "custom_tool_call"})


class ResponsesDecoder:
    """Reads the events of one streamed response.

    What an event repeats of earlier ones is passed over; what earlier ones left out, as those of
    some servers do, is made up for.
    """

    def __init__(self) -> None:
        self._done = False
        self._head: dict[str, Any] = {
            "id": "",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": "",
        }
        self._has_role = False
        self._sent: dict[tuple[int, str, int], str] = {}
        """Text passed on so far, by item, field and part."""
        self._calls: dict[int, int] = {}
        """Position of each call among the calls, by item."""
        self._custom: set[int] = set()
        self._last_reasoning: tuple[int, str, int] | None = None
        self._reasoning_field: dict[int, str] = {}

    @property
    def done(self) -> bool:
        """Whether the response is complete."""
        return self._done

    def feed(self, event: Event) -> list[dict[str, Any]]:
        """The chunks of an event.

        Raises:
            BadResponse: The event is malformed, or says that the upstream failed.
        """
        if self._done or event.data.startswith(b"[DONE]"):
            return []
        fields = read_event(event)
        kind = str(fields.get("type") or (event.name or b"").decode(errors="replace"))
        if kind == "error" or (fields.get("error") and not kind.startswith("response.")):
            raise mid_stream_failure(fields)
        return list(self._read(kind, fields))

    def _read(self, kind: str, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        family, _, moment = kind.rpartition(".")
        if kind in ("response.created", "response.in_progress"):
            yield from self._open(_object(event, "response"))
        elif family in _TEXTS:
            yield from self._text(family, moment, event)
        elif kind in _REASONING:
            yield from self._reason(kind, event)
        elif family == "response.output_item":
            yield from self._item(_index(event), _object(event, "item"), moment)
        elif family in ("response.function_call_arguments", "response.custom_tool_call_input"):
            yield from self._arguments(moment, event)
        elif kind in ("response.completed", "response.incomplete"):
            yield from self._end(_object(event, "response"))
        elif kind in ("response.failed", "response.cancelled"):
            raise failure_in(_object(event, "response"))

    def _open(self, response: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        if self._has_role:
            return
        self._head["id"] = str(response.get("id") or "")
        self._head["model"] = str(response.get("model") or "")
        created = response.get("created_at")
        self._head["created"] = int(created) if isinstance(created, int | float) else 0
        self._has_role = True
        yield self._chunk({"role": "assistant", "content": ""})

    def _text(self, family: str, moment: str, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        field, name = _TEXTS[family]
        key = (_index(event), field, _index(event, "content_index"))
        if moment == "delta":
            delta = text_in(event, "delta")
            self._sent[key] = self._sent.get(key, "") + delta
            yield from self._said(field, delta, parts_of(event, "logprobs"))
        elif moment == "done":
            yield from self._said(field, self._missing(key, text_in(event, name)))

    def _said(
        self, field: str, text: str, logprobs: Sequence[Mapping[str, Any]] = ()
    ) -> Iterator[dict[str, Any]]:
        if text:
            yield self._chunk({field: text}, logprobs={"content": logprobs} if logprobs else None)

    def _reason(self, kind: str, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        field, index_name = _REASONING[kind]
        item = _index(event)
        # Of an item that has both a text and a summary, the one that comes first.
        if self._reasoning_field.setdefault(item, field) == field:
            key = (item, field, _index(event, index_name))
            delta = text_in(event, "delta")
            self._sent[key] = self._sent.get(key, "") + delta
            yield from self._thought(key, delta)

    def _thought(self, key: tuple[int, str, int], text: str) -> Iterator[dict[str, Any]]:
        if not text:
            return
        gap = "\n\n" if self._last_reasoning not in (None, key) else ""
        self._last_reasoning = key
        yield self._chunk({"reasoning_content": gap + text})

    def _item(self, index: int, item: Mapping[str, Any], moment: str) -> Iterator[dict[str, Any]]:
        kind = str(item.get("type"))
        if kind in _CALLS and index not in self._calls:
            yield self._named(index, item)
        if moment != "done":
            return
        if kind in _CALLS:
            yield from self._completed(index, call_of(item)[1])
        elif kind == "message":
            for position, part in enumerate(parts_of(item, "content")):
                for field, name, of in (
                    ("content", "text", "output_text"),
                    ("refusal", "refusal", "refusal"),
                ):
                    missing = self._missing((index, field, position), text_in(part, name, of))
                    yield from self._said(field, missing)
        elif kind == "reasoning":
            field = self._reasoning_field.setdefault(
                index, "content" if any(map(_has_text, parts_of(item, "content"))) else "summary"
            )
            texts = [text_in(part, "text") for part in parts_of(item, field)]
            for position, text in enumerate(texts):
                key = (index, field, position)
                yield from self._thought(key, self._missing(key, text))

    def _named(self, index: int, item: Mapping[str, Any]) -> dict[str, Any]:
        position = self._calls[index] = len(self._calls)
        if item.get("type") == "custom_tool_call":
            self._custom.add(index)
        name = text_in(item, "name")
        call_id = text_in(item, "call_id") or f"call_{position}"
        function = {"name": name, "arguments": ""}
        opening = {"index": position, "id": call_id, "type": "function", "function": function}
        return self._chunk({"tool_calls": [opening]})

    def _arguments(self, moment: str, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        index = _index(event)
        if index not in self._calls:
            raise not_a_response("arguments of a call that has not begun")
        if moment == "delta":
            delta = text_in(event, "delta")
            if index in self._custom:
                # The pieces of a free text, inside the JSON of the argument ``input``.
                opening = "" if self._sent.get((index, "arguments", 0)) else '{"input":"'
                delta = opening + orjson.dumps(delta).decode()[1:-1]
            yield from self._fragment(index, delta)
        elif moment == "done" and index not in self._custom:
            yield from self._completed(index, text_in(event, "arguments"))

    def _completed(self, index: int, arguments: str) -> Iterator[dict[str, Any]]:
        missing = self._missing((index, "arguments", 0), arguments, note=False)
        yield from self._fragment(index, missing)

    def _fragment(self, index: int, arguments: str) -> Iterator[dict[str, Any]]:
        if not arguments:
            return
        key = (index, "arguments", 0)
        self._sent[key] = self._sent.get(key, "") + arguments
        fragment = {"index": self._calls[index], "function": {"arguments": arguments}}
        yield self._chunk({"tool_calls": [fragment]})

    def _missing(self, key: tuple[int, str, int], whole: str, *, note: bool = True) -> str:
        """What has not been passed on yet of a text that is now known as a whole."""
        sent = self._sent.get(key, "")
        if not whole.startswith(sent):
            # Some servers write a text anew at its end, in another layout.
            return ""
        if note:
            self._sent[key] = whole
        return whole[len(sent) :]

    def _end(self, response: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self._open(response)
        if response.get("error"):
            raise failure_in(response)
        if not self._sent and not self._calls:
            for index, item in enumerate(checked_output(response)):
                yield from self._item(index, item, "done")
        yield self._chunk({}, finish_reason_of(response, has_calls=bool(self._calls)))
        usage = usage_in(response)
        if usage:
            yield {**self._head, "choices": [], "usage": usage}
        self._done = True

    def _chunk(
        self,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        logprobs: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        if logprobs:
            choice["logprobs"] = logprobs
        return {**self._head, "choices": [choice]}


def _object(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = event.get(name)
    if not isinstance(found, Mapping):
        raise not_a_response(f"{name} of a stream event is no object")
    return found


def _index(event: Mapping[str, Any], name: str = "output_index") -> int:
    found = event.get(name, 0)
    if not isinstance(found, int):
        raise not_a_response(f"{name} of a stream event is no number")
    return found


def _has_text(part: Mapping[str, Any]) -> bool:
    return bool(text_in(part, "text"))
