"""Our key in what an endpoint writes."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.runtime.errors import BadRequest, BadResponse, ModelTimeout, RateLimited
from tutelage.runtime.models.deadlines import Deadlines, Timeouts
from tutelage.runtime.models.failures import log_line
from tutelage.runtime.models.reply import masked_headers
from tutelage.runtime.models.transport import Reply, Transport
from tutelage.runtime.secret import Secret, shown_variable


@given(
    parts=st.lists(st.sampled_from(["sk-", "sk-aabs", "sk-aabsk-aab", "a", "b\n", "", "é"])),
    cuts=st.lists(st.integers(0, 60)),
)
@settings(max_examples=200, deadline=None)
def test_a_key_is_masked_however_an_answer_is_cut_up_and_nothing_else_is_changed(
    parts: list[str], cuts: list[int]
) -> None:
    """The key repeats its own beginning, so that half of one may be the start of the next."""
    key = "sk-aabsk-aab"
    content = "".join(parts).encode()
    bounds = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    pieces = [content[a:b] for a, b in itertools.pairwise(bounds)]
    transport = Transport("http://127.0.0.1:9/v1", secret=Secret(key))
    got: list[bytes] = []

    async def read() -> None:
        reply = Reply(
            "x",
            Cut(pieces),  # type: ignore[arg-type]
            b"",
            Deadlines("x", Timeouts(), lambda: 0.0),
            transport.redacted,
            None,
            transport._unfinished,
        )
        reply._first = None
        got.extend([piece async for piece in reply.pieces()])

    asyncio.run(read())
    assert b"".join(got) == content.replace(key.encode(), b"***")
    assert all(got)


class Cut:
    """An answer that arrives in given pieces."""

    status, content_type = 200, "text/plain"

    def __init__(self, pieces: list[bytes]) -> None:
        self.headers: dict[str, str] = {}
        self.content = self
        self._pieces = [piece for piece in pieces if piece]

    def read_nowait(self, size: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def at_eof(self) -> bool:
        return not self._pieces

    def close(self) -> None:
        self._pieces.clear()


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (BadResponse("x answered 500: the prompt", status=500, body={}), "BadResponse, status 500"),
        (RateLimited("x answered 429: the prompt", body={"message": "the prompt"}),
         "RateLimited, status 429"),
        (BadResponse("x failed in mid-stream: the prompt", body={}), "BadResponse"),
        (ModelTimeout("x passed first_byte_s"), "ModelTimeout: x passed first_byte_s"),
        (BadRequest("n = 0: give 1 to 128"), "BadRequest: n = 0: give 1 to 128"),
        (KeyError("the prompt"), "KeyError"),
        (ValueError("the prompt"), "ValueError"),
    ],
)  # fmt: skip
def test_the_log_quotes_us_and_nobody_else(error: Exception, shown: str) -> None:
    assert log_line(error) == shown


def test_headers_without_our_key_are_left_as_they_are() -> None:
    transport = Transport("http://127.0.0.1:9/v1", secret=Secret("sk-0123456789"))
    headers = {"x-request-id": "1", "retry-after": "2"}
    assert masked_headers(headers, transport.redacted) is headers
    masked = masked_headers({**headers, "X-Echo": "a sk-0123456789 b"}, transport.redacted)
    assert (masked["x-echo"], masked["Retry-After"]) == ("a *** b", "2")


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "TUTELAGE_PEPPER", "key", "_k1"])
def test_the_name_of_a_variable_is_told(name: str) -> None:
    assert shown_variable(name) == name


@pytest.mark.parametrize("text", ["sk-proj-abc", "AIzaSyA1b2", "Bearer x", "", "1KEY", "KEY "])
def test_what_is_no_name_of_a_variable_may_be_a_key(text: str) -> None:
    assert shown_variable(text) == "***"
