from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.config import LimitConfig
from tutelage.runtime.errors import BadRequest
from tutelage.runtime.gateway.limits import (
    MOST_CHOICES,
    TooLarge,
    check_depth,
    check_headers,
    check_shape,
    check_size,
)
from tutelage.runtime.wires.failure import Failure

LIMITS = LimitConfig(messages=3, tools=2, output_tokens=100, body_bytes=2000, header_bytes=1024)

texts = st.text(alphabet=st.sampled_from('[]{}",:\\ab\n\u00e9'), max_size=8)
trees = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=40,
)


def depth_of(value: object) -> int:
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    else:
        return 0
    return 1 + max((depth_of(one) for one in inner), default=0)


def deepest_prefix(raw: bytes) -> int:
    """What a parser has nested when it comes to the end, or to what it cannot read."""
    deepest = depth = 0
    quoted = escaped = False
    for byte in raw.decode("latin-1"):
        if quoted:
            if escaped:
                escaped = False
            elif byte == "\\":
                escaped = True
            elif byte == '"':
                quoted = False
        elif byte == '"':
            quoted = True
        elif byte in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in "]}":
            depth -= 1
            if depth < 0:
                return deepest
        elif byte == "\\":
            return deepest
    return deepest


def is_refused(raw: bytes, limit: int) -> bool:
    try:
        check_depth(raw, limit)
    except BadRequest:
        return True
    return False


@given(trees, st.integers(0, 6), st.integers(0, 200))
def test_json_is_refused_exactly_where_it_nests_deeper_than_the_limit(
    tree: object, limit: int, copies: int
) -> None:
    # Copies make bodies that take the vectorised way.
    value = [tree] * copies if copies else tree
    raw = json.dumps(value, ensure_ascii=False).encode()

    assert is_refused(raw, limit) == (depth_of(value) > limit)


@given(st.lists(st.sampled_from(list(b'[]{}"\\,a'))), st.integers(0, 4), st.sampled_from([1, 60]))
def test_no_prefix_that_a_parser_reads_nests_deeper_than_what_passes(
    values: list[int], limit: int, copies: int
) -> None:
    raw = bytes(values) * copies

    if not is_refused(raw, limit):
        assert deepest_prefix(raw) <= limit


def test_a_body_nested_ten_thousand_deep_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(BadRequest, match="deeper than 64 levels") as caught:
        check_depth(b'{"messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}", 64)

    assert caught.value.code == "nesting_too_deep"


def test_brackets_in_texts_are_not_counted() -> None:
    text = '[{"' * 100 + "\\" * 7
    check_depth(json.dumps({"messages": [{"role": "user", "content": text}]}).encode(), 3)

    with pytest.raises(BadRequest):
        check_depth(json.dumps({"messages": [{"role": "user", "content": text}]}).encode(), 2)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 4_000_000,
        b'"",' * 1_300_000 + b"[" * 65,
        b'"[",' * 1_000_000 + b"[" * 65,
        b'["' + b"\\" * 4_000_000 + b'"]' + b"[" * 65,
        (b"[" * 60 + b"]" * 60 + b",") * 33_000 + b"[" * 65,
    ],
    ids=["brackets", "quotes", "quoted-brackets", "backslashes", "nests"],
)
def test_no_body_makes_the_scan_slower_than_a_plain_loop_over_it(raw: bytes) -> None:
    check_depth(b"[]" * 1000, 64)  # loads what large bodies need
    loops_s, scans_s = [], []
    # In turns, and the best of each: other processes slow single ones down.
    for _ in range(3):
        started_s = time.perf_counter()
        loop = 0
        for byte in raw:
            loop += byte == 91
        loops_s.append(time.perf_counter() - started_s)

        started_s = time.perf_counter()
        assert is_refused(raw, 64)
        scans_s.append(time.perf_counter() - started_s)

    assert min(scans_s) < min(loops_s)


def test_a_body_is_refused_above_its_limit_and_the_client_is_told_so() -> None:
    check_size(2000, LIMITS)

    with pytest.raises(TooLarge, match=r"2000 bytes.*gateway\.limits\.body_bytes") as caught:
        check_size(2001, LIMITS)

    assert caught.value.failure == Failure(
        413, "too_large", str(caught.value), code="request_too_large"
    )


def test_headers_are_refused_above_their_limit_together() -> None:
    pair = (b"a" * 8, b"b" * 500)
    check_headers([pair, pair], LIMITS)

    with pytest.raises(TooLarge, match="1024") as caught:
        check_headers([pair, pair, pair], LIMITS)

    assert caught.value.failure.status == 431


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"messages": [{}] * 4}, "messages", "too_many_messages"),
        ({"input": [{}] * 4}, "input", "too_many_messages"),
        ({"tools": [{}] * 3}, "tools", "too_many_tools"),
        ({"functions": [{}] * 3}, "functions", "too_many_tools"),
        ({"max_tokens": 101}, "max_tokens", "too_many_output_tokens"),
        ({"max_completion_tokens": 101}, "max_completion_tokens", "too_many_output_tokens"),
        ({"max_output_tokens": 1e300}, "max_output_tokens", "too_many_output_tokens"),
        ({"n": 0}, "n", "invalid_n"),
        ({"n": -(10**30)}, "n", "invalid_n"),
        ({"n": MOST_CHOICES + 1}, "n", "invalid_n"),
        ([], None, "invalid_body"),
        ("text", None, "invalid_body"),
        (None, None, "invalid_body"),
    ],
)
def test_what_a_body_counts_and_asks_for_is_limited(
    body: object, param: str | None, code: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        check_shape(body, LIMITS)

    assert (caught.value.param, caught.value.code) == (param, code)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{}] * 3, "tools": [{}] * 2, "max_tokens": 100, "n": MOST_CHOICES},
        {"messages": "a text", "tools": None, "max_tokens": "many", "n": True},
        {"input": [1] * 500},
        {"input": ["a text to embed"] * 500},
        {"input": "text"},
        {},
    ],
)
def test_a_body_within_the_limits_is_given_back(body: dict[str, Any]) -> None:
    assert check_shape(body, LIMITS) is body
