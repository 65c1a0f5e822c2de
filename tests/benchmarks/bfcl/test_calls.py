from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.benchmarks.bfcl.calls import Call, NotCalls, action_of, read_action, read_python

names = st.from_regex(r"[a-z_]{1,8}x", fullmatch=True)
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
calls = st.builds(Call, names, st.dictionaries(names, values, max_size=3))


@given(st.lists(calls, min_size=1, max_size=3))
def test_an_action_reads_back_as_its_calls(made: list[Call]) -> None:
    assert list(read_action(action_of(made))) == made


@given(calls)
def test_a_call_in_python_reads_back_as_itself(call: Call) -> None:
    assert read_python(call.python, {}) == call


def test_positional_arguments_get_the_names_of_the_documentation() -> None:
    call = read_python("mean([1, 2], round=True)", {"mean": ("numbers", "round")})
    assert call == Call("mean", {"numbers": [1, 2], "round": True})


@pytest.mark.parametrize("text", ["x", "a.b(1)", "f(**{'a': 1})", "f(a=open('x'))", "f("])
def test_what_is_no_call_of_literals_is_refused(text: str) -> None:
    with pytest.raises((ValueError, SyntaxError)):
        read_python(text, {})


def test_plain_words_name_no_calls() -> None:
    assert read_action("Done.") == ()
    assert read_action('{"tool_calls":[]}') == ()


def test_arguments_may_be_an_object_or_text_and_stand_in_function() -> None:
    wanted = (Call("cd", {"folder": "a"}),)
    assert read_action('{"tool_calls": [{"name": "cd", "arguments": {"folder": "a"}}]}') == wanted
    wired = '{"tool_calls":[{"function":{"name":"cd","arguments":"{\\"folder\\": \\"a\\"}"}}]}'
    assert read_action(wired) == wanted
    assert read_action('{"tool_calls":[{"name":"ls","arguments":""}]}') == (Call("ls", {}),)


@pytest.mark.parametrize(
    "text",
    [
        '{"tool_calls": oops',
        "[1]",
        '{"name": "ls"}',
        '{"tool_calls":[{"name":3}]}',
        '{"tool_calls":[{"name":"ls","arguments":"[1]"}]}',
        '{"tool_calls":[7]}',
        'I call {"tool_calls":[]} now',
    ],
)
def test_what_is_meant_as_calls_and_is_none_is_refused(text: str) -> None:
    with pytest.raises(NotCalls, match="a call is"):
        read_action(text)


@pytest.mark.parametrize("call", [Call("os.system", {}), Call("ls", {"a b": 1}), Call("if", {})])
def test_names_that_are_no_python_names_never_reach_the_package(call: Call) -> None:
    with pytest.raises(NotCalls, match="cannot be the name"):
        _ = call.python
