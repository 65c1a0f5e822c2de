"""Server-sent events, read incrementally from bytes (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

from typing import NamedTuple

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DATA = b"data: "


class Event(NamedTuple):
    """One dispatched event; a tuple, since a stream makes one for every few characters."""

    data: bytes
    """The ``data`` lines, joined by line feeds; UTF-8 if the endpoint keeps to the standard."""
    name: bytes | None = None
    """The ``event`` field, if the event had one."""


class EventParser:
    """Turns bytes, split anywhere, into events.

    Lines end with LF, CR or CRLF; comments and unknown fields are skipped; an event that the end of
    the stream cuts off is never dispatched.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._first_line = True
        self._after_carriage_return = False
        self._data: list[bytes] = []
        self._name: bytes | None = None
        self.is_clear = True
        """Whether no event has begun that is not complete."""

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that the chunk completes, oldest first."""
        if self.is_clear and chunk.startswith(_DATA) and chunk.endswith(b"\n\n"):
            plain = _plain_events(chunk)
            if plain is not None:
                self._first_line = False
                return plain
        first, *rest = self._with_line_feeds(chunk).split(b"\n")
        self._pieces.append(first)
        events: list[Event] = []
        for following in rest:
            event = self._take(b"".join(self._pieces))
            if event is not None:
                events.append(event)
            self._pieces = [following]
        self.is_clear = self._is_between_events
        return events

    @property
    def _is_between_events(self) -> bool:
        is_clear = not self._data and self._name is None and not self._after_carriage_return
        return is_clear and not any(self._pieces)

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        """The chunk with every line end as one LF, also where a CRLF is split over two chunks."""
        if not chunk:
            return chunk
        if self._after_carriage_return:
            chunk = chunk.removeprefix(b"\n")
            self._after_carriage_return = False
        if b"\r" in chunk:
            self._after_carriage_return = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk

    def _take(self, line: bytes) -> Event | None:
        """The event that a line completes; a blank line dispatches what came before it."""
        if self._first_line:
            line = line.removeprefix(BYTE_ORDER_MARK)
            self._first_line = False
        if not line:
            data, name = self._data, self._name
            self._data, self._name = [], None
            if not data:
                return None
            return Event(b"\n".join(data), name or None)
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value
        return None


def _plain_events(chunk: bytes) -> list[Event] | None:
    """Whole events of one line of data each, as most are; ``None`` if one is another kind."""
    if chunk.count(b"\n") == 2 and b"\r" not in chunk:
        return [Event(chunk[len(_DATA) : -2])]
    lines = chunk[len(_DATA) : -2].split(b"\n\n" + _DATA)
    if chunk.count(b"\n") != 2 * len(lines) or b"\r" in chunk:
        return None
    return [Event(line) for line in lines]
