from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.gateway.splicing import with_model, with_usage

TEXT = '{"role":"user","content":"say \\"model\\":\\"old\\"  please"}'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"model":"old","n" : 1}', '{"model":"new","n" : 1}'),
        ('{ "n":1.0,"model"  :\n "old" }', '{ "n":1.0,"model":"new" }'),
        (f'{{"messages":[{TEXT}],"model":"old"}}', f'{{"messages":[{TEXT}],"model":"new"}}'),
        (
            '{"metadata":{"model":"old"},"model":"old","x":1e3}',
            '{"metadata":{"model":"old"},"model":"new","x":1e3}',
        ),
        (
            '{"model":"old","tools":[{"model":"old"},{"model":"old"}]}',
            '{"model":"new","tools":[{"model":"old"},{"model":"old"}]}',
        ),
        ('{"text":"\\u00fc","model":"old"}', '{"text":"\\u00fc","model":"new"}'),
    ],
)
def test_nothing_but_the_name_of_the_model_changes(before: str, after: str) -> None:
    raw = before.encode()
    assert with_model(raw, json.loads(raw), "new") == after.encode()


@pytest.mark.parametrize(
    "raw",
    [
        b'{"mo\\u0064el":"old"}',
        b'{"model":"o\\u006cd"}',
        b'{"metadata":{"model":"old"},"mo\\u0064el":"old"}',
        b'{"metadata":{"model":"a/b"},"model":"a\\/b"}',
        b'{"metadata":[' + b'{"model":"old"},' * 9 + b'{}],"model":"old"}',
    ],
)
def test_a_name_that_is_not_found_is_written_anew(raw: bytes) -> None:
    body = json.loads(raw)
    assert json.loads(with_model(raw, body, "new")) == {**body, "model": "new"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"model":"m"} ', '{"model":"m","stream_options":{"include_usage":true}}'),
        (
            '{"stream_options" : {"include_usage": false}, "x" : 1.0}',
            '{"stream_options":{"include_usage":true}, "x" : 1.0}',
        ),
        (
            '{"x":[{"stream_options":{}}],"stream_options":null, "y" :1}',
            '{"x":[{"stream_options":{}}],"stream_options":{"include_usage":true}, "y" :1}',
        ),
    ],
)
def test_nothing_but_the_wish_for_the_usage_changes(before: str, after: str) -> None:
    raw = before.encode()
    assert with_usage(raw, json.loads(raw)) == after.encode()


@pytest.mark.parametrize("options", [{"include_usage": False, "odd": {"a": {}}}, [], "x", 1])
def test_odd_options_are_written_anew(options: Any) -> None:
    raw = json.dumps({"model": "m", "stream_options": options}).encode()
    kept = options if isinstance(options, dict) else {}
    wanted = {"model": "m", "stream_options": {**kept, "include_usage": True}}
    assert json.loads(with_usage(raw, json.loads(raw))) == wanted


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["model", "stream_options", "include_usage", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(
    body=st.dictionaries(st.sampled_from(["stream_options", "x", "y"]), JSON, max_size=3),
    name=st.sampled_from(["old", "a/b", "ü", "\\u0064", '"', "x" * 30]),
    at=st.integers(0, 3),
    ascii_only=st.booleans(),
    space=st.sampled_from([None, 1]),
)
def test_any_body_says_the_same_but_for_the_one_field(
    body: dict[str, Any], name: str, at: int, ascii_only: bool, space: int | None
) -> None:
    items = list(body.items())
    items.insert(at, ("model", name))
    whole = dict(items)
    raw = json.dumps(whole, ensure_ascii=ascii_only, indent=space).encode("utf-8", "surrogatepass")
    try:
        raw.decode()
    except UnicodeDecodeError:
        return
    assert json.loads(with_model(raw, whole, "new")) == {**whole, "model": "new"}
    options = whole.get("stream_options")
    kept = options if isinstance(options, dict) else {}
    asked = {**whole, "stream_options": {**kept, "include_usage": True}}
    assert json.loads(with_usage(raw, whole)) == asked


def test_a_brace_within_a_string_is_not_the_end_of_a_field() -> None:
    body = {"model": "m", "stream_options": {"x": "}"}}

    asked = json.loads(with_usage(json.dumps(body).encode(), body))

    assert asked == {"model": "m", "stream_options": {"x": "}", "include_usage": True}}
