"""Small changes to a client's own bytes that leave all others as they are."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

from tutelage.runtime.models.sse import Event

# LF and CRLF may be mixed: the line before the blank one ends in its own way.
_EVENT_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
# By these we decide what a call may do and cost.
_DECISIVE = (
    "model", "stream", "n", "max_tokens", "max_completion_tokens", "max_output_tokens", "messages",
    "input", "prompt", "previous_response_id",
)  # fmt: skip
_ESCAPED_LETTER = re.compile(rb"\\u00(?:5[fF]|6[1-9a-fA-F]|7[0-9aA])")
_MOST_PLACES = 8
_USAGE = b',"stream_options":{"include_usage":true}}'


def unambiguous(raw: bytes, body: Mapping[str, Any]) -> bytes:
    """The body as another reader reads it, too: written anew if a field stands in it twice.

    Of two values some readers take the first, so that what was checked would not be what is served.

    Args:
        raw: The client's bytes.
        body: The same, decoded.
    """
    escaped = b"\\u00" in raw and _ESCAPED_LETTER.search(raw) is not None
    suspicious = escaped or any(
        name in body and raw.count(b'"%s"' % name.encode()) > 1 for name in _DECISIVE
    )
    return orjson.dumps(body) if suspicious and _repeats(raw) else raw


def _repeats(raw: bytes) -> bool:
    """Whether a name stands twice in the outermost object."""
    names: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        # Called for the outermost object last.
        names[:] = [name for name, _ in pairs]

    json.loads(raw, object_pairs_hook=note)
    return len(set(names)) < len(names)


def with_model(raw: bytes, body: Mapping[str, Any], model: str) -> bytes:
    """The body with another value of ``model``.

    Prompt caches are keyed by bytes, so nothing else is written anew.

    Args:
        raw: The client's bytes.
        body: The same, decoded.
        model: The new value.
    """
    field = rb'"model"\s*:\s*' + re.escape(orjson.dumps(body["model"]))
    new = b'"model":' + orjson.dumps(model)
    places = list(itertools.islice(re.finditer(field, raw), 2))
    if len(places) == 1 and b"\\u" not in raw and b"\\/" not in raw:
        # Without escapes the field is written in this one way, so this is the place.
        return raw[: places[0].start()] + new + raw[places[0].end() :]
    return _spliced(raw, field, new, {**body, "model": model})


def with_usage(raw: bytes, body: Mapping[str, Any]) -> bytes:
    """The body of a streamed chat call that asks for its usage at the end."""
    options = body.get("stream_options")
    if options is None and "stream_options" not in body:
        trimmed = raw.rstrip()
        return trimmed[:-1] + _USAGE
    kept = options if isinstance(options, Mapping) else {}
    asked = {**kept, "include_usage": True}
    field = rb'"stream_options"\s*:\s*(?:null|\{[^{}]*\})'
    new = b'"stream_options":' + orjson.dumps(asked)
    return _spliced(raw, field, new, {**body, "stream_options": asked})


def _spliced(raw: bytes, field: bytes, new: bytes, wanted: Mapping[str, Any]) -> bytes:
    """The body with one field changed; written anew if the field cannot be found in it.

    Args:
        raw: The body.
        field: A pattern of the field, which may also stand somewhere deeper.
        new: What takes its place.
        wanted: What the result is to say.
    """
    for found in itertools.islice(re.finditer(field, raw), _MOST_PLACES):
        changed = raw[: found.start()] + new + raw[found.end() :]
        try:
            says = orjson.loads(changed)
        except orjson.JSONDecodeError:
            # A brace within a string looked like the end of the field.
            continue
        if says == wanted:
            return changed
    return orjson.dumps(wanted)


def renamed(
    answer: dict[str, Any],
    model: str | None,
    answer_id: str | None = None,
    previous_id: str | None = None,
) -> dict[str, Any]:
    """An answer or event of any wire, changed in place.

    Args:
        answer: The object.
        model: What it is to say that it comes from; ``None`` leaves it.
        answer_id: The id of the response in it; ``None`` leaves it.
        previous_id: The response that it goes on from; ``None`` leaves it.
    """
    for holder in (answer, answer.get("message"), answer.get("response")):
        if not isinstance(holder, dict):
            continue
        if model is not None and isinstance(holder.get("model"), str):
            holder["model"] = model
        if holder.get("object") != "response":
            continue
        if answer_id is not None:
            holder["id"] = answer_id
        if previous_id is not None:
            holder["previous_response_id"] = previous_id
    return answer


def without_previous(body: Mapping[str, Any]) -> dict[str, Any]:
    """The call for an upstream that does not know what it goes on from: its items stand in it."""
    return {name: value for name, value in body.items() if name != "previous_response_id"}


def is_usage_only(chunk: Mapping[str, Any]) -> bool:
    """Whether a chat chunk carries the usage and nothing else."""
    return chunk.get("choices") == [] and bool(chunk.get("usage"))


def written(event: Event, data: bytes) -> bytes:
    """An event with other data."""
    name = b"event: " + event.name + b"\n" if event.name else b""
    return name + b"data: " + data + b"\n\n"


class WholeEvents:
    """Passes a stream on byte by byte, but never a part of an event without the rest of it."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    @property
    def rest(self) -> bytes:
        """What has not been passed on."""
        return b"".join(self._held)

    @property
    def is_clear(self) -> bool:
        """Whether all has been passed on."""
        return not self._held

    def feed(self, piece: bytes, *, ends_event: bool) -> bytes:
        """What may be passed on.

        Args:
            piece: What has arrived.
            ends_event: Whether it completes an event; of a large event most pieces do not.
        """
        is_whole = piece.endswith(_EVENT_ENDS)
        if is_whole and not self._held:
            return piece
        self._held.append(piece)
        if not is_whole and not ends_event:
            return b""
        arrived = self.rest
        end = max(_end_of_last(mark, arrived) for mark in _EVENT_ENDS)
        self._held = [arrived[end:]] if end < len(arrived) else []
        return arrived[:end]


def _end_of_last(mark: bytes, text: bytes) -> int:
    start = text.rfind(mark)
    return 0 if start < 0 else start + len(mark)
