from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.models.sse import Event, EventParser

LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"",
                b"data",
                b"data:",
                b"data: x",
                b"event: e",
                b"event:",
                b": note",
                b"id: 7",
                b"x: y",
            ]
        ),
        st.text(alphabet="data: é\u2028{}", max_size=12).map(lambda text: text.encode()),
    ),
    max_size=30,
)
LINE_ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    lines = draw(LINES)
    ends = draw(st.lists(LINE_ENDS, min_size=len(lines), max_size=len(lines)))
    mark = b"\xef\xbb\xbf" if draw(st.booleans()) else b""
    return mark + b"".join(line + end for line, end in zip(lines, ends, strict=True))


def parsed(*pieces: bytes) -> list[Event]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)]


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(stream)) for cut in cuts})
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]


@given(streams(), st.lists(st.integers(0, 200), max_size=20))
def test_any_split_of_the_bytes_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    pieces = split(stream, cuts)

    assert b"".join(pieces) == stream
    assert parsed(*pieces) == parsed(stream)
    assert parsed(*(bytes([byte]) for byte in stream)) == parsed(stream)


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), min_size=1))
def test_what_was_written_as_data_lines_is_read_back(lines: list[str]) -> None:
    stream = "".join(f"data: {line}\n" for line in lines) + "\n"

    assert parsed(stream.encode()) == [Event("\n".join(lines).encode())]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=10))
def test_bytes_that_are_no_events_never_fail(stream: bytes, cuts: list[int]) -> None:
    assert parsed(*split(stream, cuts)) == parsed(stream)


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [Event(b"a"), Event(b"b")]),
        (b"data: a\ndata: b\n\n", [Event(b"a\nb")]),
        (b"event: error\ndata: a\n\n", [Event(b"a", b"error")]),
        (b"event: ping\n\ndata: a\n\n", [Event(b"a")]),
        (b"data:a\n\n", [Event(b"a")]),
        (b"data:  a\n\n", [Event(b" a")]),
        (b"data\n\n", [Event(b"")]),
        (b": keep-alive\n\n", []),
        (b"id: 7\nretry: 3\ndata: a\n\n", [Event(b"a")]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [Event(b"a"), Event(b"b"), Event(b"c")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Event(b"a")]),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"\n\n\n", []),
    ],
)
def test_streams_are_read_as_the_standard_says(stream: bytes, events: list[Event]) -> None:
    assert parsed(stream) == events
