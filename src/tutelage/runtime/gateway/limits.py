"""What a request may be at most, checked before it costs anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from tutelage.runtime.config import LimitConfig
from tutelage.runtime.errors import BadRequest
from tutelage.runtime.wires.failure import Failure

MOST_CHOICES: Final = 128
"""Largest ``n``, as in the OpenAI API."""

_LISTS: Final = (
    ("messages", "messages"),
    ("input", "messages"),
    ("tools", "tools"),
    ("functions", "tools"),
)
_OUTPUT_TOKENS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_STRUCTURAL: Final = b'[]{}"'
_OTHERS: Final = bytes(set(range(256)) - set(_STRUCTURAL))
# As signed bytes: what opens is 1, what closes is -1, a quote is 0.
_STEPS: Final = bytes.maketrans(_STRUCTURAL, b"\x01\xff\x01\xff\x00")
# Above so many brackets and quotes numpy is faster than a loop.
_LOOPED: Final = 256


class TooLarge(BadRequest):
    """The request is larger than this gateway reads.

    Args:
        message: One line for a person.
        status: 413 for a body, 431 for headers.
    """

    def __init__(self, message: str, *, status: int = 413) -> None:
        super().__init__(message, code="request_too_large")
        self.status = status

    @property
    def failure(self) -> Failure:
        """What the client is told."""
        return Failure(self.status, "too_large", str(self), code=self.code)


def check_size(size_bytes: int, limits: LimitConfig) -> None:
    """Refuses a body, by its declared length or by what of it has arrived.

    Raises:
        TooLarge: It has more than ``body_bytes``.
    """
    if size_bytes > limits.body_bytes:
        raise TooLarge(
            f"the body has more than {limits.body_bytes} bytes: send less, or raise "
            "gateway.limits.body_bytes"
        )


def check_headers(headers: Iterable[tuple[bytes, bytes]], limits: LimitConfig) -> None:
    """Refuses headers that are too large together.

    Raises:
        TooLarge: They have more than ``header_bytes``, separators included.
    """
    if sum(len(name) + len(value) + 4 for name, value in headers) > limits.header_bytes:
        raise TooLarge(f"the headers have more than {limits.header_bytes} bytes", status=431)


def check_depth(raw: bytes, limit: int) -> None:
    """Refuses JSON that nests deeper than ``limit``, by a linear scan and before it is parsed.

    What is no JSON passes or not, but never with a prefix that a parser would nest deeper.

    Raises:
        BadRequest: It nests deeper.
    """
    if raw.count(b"[") + raw.count(b"{") <= limit:
        return
    if _is_deeper(_steps(raw), limit):
        raise BadRequest(
            f"the JSON nests deeper than {limit} levels: flatten it", code="nesting_too_deep"
        )


def check_shape(body: object, limits: LimitConfig) -> Mapping[str, Any]:
    """The body as an object, if what it counts and asks for is within the limits.

    Fields of a wrong type are left to the wire, which knows what they should be.

    Raises:
        BadRequest: It is no object, or beyond a limit; ``param`` names the field.
    """
    if not isinstance(body, Mapping):
        raise BadRequest("the body is not a JSON object", code="invalid_body")
    for name, limited in _LISTS:
        value = body.get(name)
        if not isinstance(value, list) or (name == "input" and not _are_items(value)):
            continue
        most = limits.messages if limited == "messages" else limits.tools
        if len(value) > most:
            raise BadRequest(
                f"{name} has {len(value)} items, more than {most}: send fewer",
                param=name,
                code=f"too_many_{limited}",
            )
    for name in _OUTPUT_TOKENS:
        tokens = _number(body.get(name))
        if tokens is not None and tokens > limits.output_tokens:
            raise BadRequest(
                f"{name} = {_shown(tokens)}, more than {limits.output_tokens}: ask for fewer",
                param=name,
                code="too_many_output_tokens",
            )
    choices = _number(body.get("n"))
    if choices is not None and not 1 <= choices <= MOST_CHOICES:
        raise BadRequest(
            f"n = {_shown(choices)}: give 1 to {MOST_CHOICES}", param="n", code="invalid_n"
        )
    return body


def _steps(raw: bytes) -> bytes:
    """The brackets outside and inside strings as signed steps, a zero for every quote."""
    if b"\\" in raw:
        # Whole pairs first: of a run of backslashes only an odd one escapes the quote after it.
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    steps = raw.translate(_STEPS, _OTHERS)
    # Two quotes side by side change nothing for what follows them.
    return steps.replace(b"\x00\x00", b"")


def _is_deeper(steps: bytes, limit: int) -> bool:
    if len(steps) > _LOOPED:
        return _deepest(steps) > limit
    depth = 0
    for position, part in enumerate(steps.split(b"\x00")):
        if position % 2:
            continue
        for step in part:
            depth += 1 if step == 1 else -1
            if depth > limit:
                return True
    return False


def _deepest(steps: bytes) -> int:
    import numpy as np

    signed = np.frombuffer(steps, np.int8)
    quotes = np.cumsum(signed == 0, dtype=np.uint8)  # its parity survives the overflow
    outside = np.where(quotes & 1, np.int8(0), signed)
    return int(np.cumsum(outside, dtype=np.int32).max())


def _are_items(values: list[Any]) -> bool:
    """Whether an ``input`` holds items of a conversation, not texts or tokens to embed."""
    return any(isinstance(value, Mapping) for value in values[:1])


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _shown(number: float) -> str:
    """A number at a length that fits a line."""
    return repr(number) if abs(number) < 1e15 else "a huge number"
