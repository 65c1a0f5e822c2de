"""What all canonical forms promise, whatever a model writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.cascade.canonical.code import CodeCanonicalizer
from tutelage.cascade.canonical.effects import Effects
from tutelage.cascade.canonical.registry import (
    CANONICALIZERS,
    CanonicalOptions,
    canonicalizer_named,
)
from tutelage.runtime.types import Choice, Message

FORMS = {name: canonicalizer_named(name) for name in CANONICALIZERS}
TOLD = Effects({"look": "read", "get_*": "read", "*.show": "read"})

PIECES = st.sampled_from(
    [
        *("Action:", "Action Input:", "Final Answer:", "Thought:", "Observation:", "```", "~~~"),
        *("```python", "```json", "```bash", '{"a": 1}', "[1.0]", '"', "'", "{", "}", "(", ")"),
        *("def f(x):", "return x", "    ", "\n", "\r\n", "x = 1", "x.y(1)", "lambda z: z", ":"),
        *("class A: pass", "global x", "match x:", "case [a, *b]:", "case {'k': v, **r}: pass"),
        *("import a.b as c", "from . import d", "async def g(): await h()", "[i for i in j]"),
        *("\\d", "1if x else 2", "\x00", "\ud800", "\u2028", "İ", "f'{x!r:>{w}}'", "b'x'", "\t"),
        *("try:", "except* E as e:", "with a as b, c: pass", "del x", "x: int = 1", "-1", "1e999"),
    ]
)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(PIECES, max_size=10).map(" ".join),
    st.lists(PIECES, max_size=10).map("".join),
    st.lists(PIECES, max_size=8).map("\n".join),
)


@pytest.mark.parametrize("name", CANONICALIZERS)
@settings(deadline=None)
@given(text=TEXTS)
def test_any_text_has_a_form_that_is_its_own_or_none(name: str, text: str) -> None:
    form = FORMS[name]
    action = form.action(Message(role="assistant", content=text))
    assert action == form.past(text) or text.startswith('{"tool_calls":')
    if action is not None:
        assert action.key
        assert form.action(Message(role="assistant", content=action.key)) == action
        assert TOLD.is_mutating(action) in (True, False)


@pytest.mark.parametrize("name", CANONICALIZERS)
@pytest.mark.parametrize(
    "text",
    [
        "(" * 15_000,
        "[" * 90 + "]" * 90,
        "-" * 15_000 + "1",
        "a." * 9_000 + "b",
        "a(" * 1_500 + ")" * 1_500,
        "[" * 60_000,
        '{"a":' * 30_000 + "1" + "}" * 30_000,
        "x = 1\n" * 3_000,
        "0x" + "f" * 15_000,
        "9" * 10_000,
        "f(" + "a=1," * 4_000 + ")",
        "Action: " * 5_000,
        "\\" * 10_000,
        "if x:\n" + " " * 5_000 + "y",
        "x if y else " * 1_500 + "z",
    ],
    ids=lambda text: f"{text[:6]}-{len(text)}",
)
def test_hostile_texts_end_in_a_form_or_none(name: str, text: str) -> None:
    action = FORMS[name].action(Message(role="assistant", content=text))
    assert action is None or action.key


@pytest.mark.parametrize("name", ["tools", "code", "code-fingerprint", "json", "react"])
def test_an_answer_that_was_cut_names_no_action(name: str) -> None:
    text = {"json": "1", "react": "Action: a[b]"}.get(name, "f(1)")
    whole = Choice(index=0, message=Message(role="assistant", content=text), finish_reason="stop")
    cut = whole.model_copy(update={"finish_reason": "length"})
    assert FORMS[name].action(whole) is not None
    assert FORMS[name].action(cut) is None


@pytest.mark.parametrize("name", CANONICALIZERS)
def test_tool_calls_are_compared_as_such_by_every_form(name: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"b":1,"a":2}'}}
    message = Message(role="assistant", tool_calls=[call])
    for form in (FORMS[name], CANONICALIZERS[name](CanonicalOptions())):
        action = form.action(message)
        assert action is not None
        assert (action.kind, action.key) == (
            "tool",
            '{"tool_calls":[{"arguments":{"a":2,"b":1},"name":"f"}]}',
        )
        assert form.past(action.key) == action


_WORDS = {
    *("and", "as", "assert", "async", "await", "break", "class", "def", "del", "elif", "else"),
    *("except", "for", "from", "global", "if", "import", "in", "is", "lambda", "not", "or"),
    *("pass", "raise", "return", "try", "while", "with", "yield", "dir", "vars", "eval", "exec"),
    *("api", "locals", "inspect", "match", "case"),
}


def _usable(name: str) -> bool:
    return name.isidentifier() and name not in _WORDS


NAMES = st.lists(
    st.from_regex(r"[a-z]{2,6}", fullmatch=True).filter(_usable),
    min_size=2,
    max_size=2,
    unique=True,
)


@settings(deadline=None)
@given(ours=NAMES, others=NAMES)
def test_names_of_locals_never_matter(ours: list[str], others: list[str]) -> None:
    template = (
        "def run(api):\n"
        "    {0} = api.first()\n"
        "    for {1} in {0}:\n"
        "        api.second({1}, [{0} for {0} in {1}])\n"
        "    return {0}\n"
        "run(api)"
    )
    code = CodeCanonicalizer()
    assert code.past(template.format(*ours)) == code.past(template.format(*others))
    ends = "{0} = api.first()\n{1} = api.second({0})\napi.third({1}, {0})"
    assert code.past(ends.format(*ours)) != code.past(ends.format(ours[0], ours[0]))
    for form in (CodeCanonicalizer(stateful=False), CodeCanonicalizer("calls")):
        first = form.past(ends.format(*_free(ours)))
        assert first is not None
        assert first == form.past(ends.format(*_free(others)))


def _free(names: list[str]) -> list[str]:
    """The names, none of which is one of Python's own."""
    return [f"{name}_" for name in names]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(value=VALUES, data=st.data())
def test_equal_json_is_one_action_and_other_json_another(value: Any, data: st.DataObject) -> None:
    form = FORMS["json"]
    text = json.dumps(value, indent=data.draw(st.sampled_from([None, 1])), ensure_ascii=True)
    action = form.past(json.dumps(value, ensure_ascii=False, sort_keys=True))
    other = data.draw(VALUES)
    if text.startswith('{"tool_calls":'):
        return
    assert form.past(text) == action
    same = json.dumps(other, sort_keys=True) == json.dumps(value, sort_keys=True)
    assert (form.past(json.dumps(other)) == action) == same
