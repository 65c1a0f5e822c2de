from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.canonical.tools import past_tool_action, tool_action
from tutelage.runtime.steps import action_text
from tutelage.runtime.types import Action, Message

FORM = TextCanonicalizer()


def call(name: Any, arguments: Any, identity: str = "call_1") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": identity, "type": "function", "function": function}


def calling(*calls: dict[str, Any]) -> Message:
    return Message(role="assistant", content="I will call.", tool_calls=list(calls))


def test_ids_key_order_and_spaces_of_calls_do_not_count() -> None:
    one = FORM.action(calling(call("send", '{"to": "a", "n": 1}', "x")))
    other = FORM.action(calling(call("send", '{"n":1,"to":"a"}', "y")))
    assert one == other
    assert one == Action("tool", '{"tool_calls":[{"arguments":{"n":1,"to":"a"},"name":"send"}]}')


def test_values_names_and_order_of_calls_count() -> None:
    forms = [
        FORM.action(calling(call("send", '{"n": 1}'))),
        FORM.action(calling(call("send", '{"n": 2}'))),
        FORM.action(calling(call("send", '{"n": "1"}'))),
        FORM.action(calling(call("Send", '{"n": 1}'))),
        FORM.action(calling(call("send", '{"n": 1}'), call("stop", "{}"))),
        FORM.action(calling(call("stop", "{}"), call("send", '{"n": 1}'))),
    ]
    assert None not in forms
    assert len(set(forms)) == len(forms)


@pytest.mark.parametrize(
    "broken",
    [
        call("send", '{"n": '),
        call("send", "5"),
        call("send", "[1]"),
        call("send", None),
        call("send", '{"n": NaN}'),
        call("send", '{"n": 1e999}'),
        call("send", "[" * 100_000),
        call("", "{}"),
        call(None, "{}"),
        {"id": "x", "type": "function", "function": "send"},
        {"id": "x", "type": "custom", "custom": {"name": "send", "input": "hi"}},
    ],
)
def test_a_malformed_call_is_unusable(broken: dict[str, Any]) -> None:
    assert FORM.action(calling(broken)) is None
    assert FORM.action(calling(call("send", "{}"), broken)) is None


def test_empty_arguments_are_an_empty_object() -> None:
    assert FORM.action(calling(call("stop", ""))) == FORM.action(calling(call("stop", "{}")))
    assert tool_action([]) is None


@pytest.mark.parametrize(
    "text",
    [
        "look",
        "{",
        '{"tool_calls":',
        '{"tool_calls":5}',
        '{"tool_calls":[1]}',
        '{"tool_calls":[]}',
        '{"tool_calls":' + "[" * 100_000,
    ],
)
def test_other_texts_are_no_past_tool_calls(text: str) -> None:
    assert past_tool_action(text) is None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(arguments=st.dictionaries(st.text(), JSON, max_size=4), name=st.text(min_size=1))
def test_a_history_tells_the_same_call_as_the_answer(arguments: dict[str, Any], name: str) -> None:
    message = calling(call(name, json.dumps(arguments)))
    action = FORM.action(message)
    assert action is not None
    assert FORM.past(action_text(message)) == action
    assert FORM.past(action.key) == action
