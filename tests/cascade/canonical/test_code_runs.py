"""Programs and their canonical forms are run side by side: they must ask the same of the world."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tutelage.cascade.canonical.code import CodeCanonicalizer
from tutelage.runtime.types import Message

EXACT = CodeCanonicalizer()
PROGRAM = CodeCanonicalizer(stateful=False)
CALLS = CodeCanonicalizer("calls")


class World:
    """Records every call with its arguments as they are then; some calls change an argument."""

    def __init__(self, calls: list[str], path: str = "api") -> None:
        self._calls = calls
        self._path = path

    def __getattr__(self, name: str) -> World:
        if name.startswith("__"):
            raise AttributeError(name)
        return World(self._calls, f"{self._path}.{name}")

    def __deepcopy__(self, memory: object) -> World:
        return self

    def __repr__(self) -> str:
        return self._path

    def __call__(self, *args: Any, **named: Any) -> Any:
        told = ", ".join([*map(repr, args), *(f"{k}={named[k]!r}" for k in sorted(named))])
        self._calls.append(f"{self._path}({told})")
        if self._path.endswith("grow"):
            for value in (*args, *named.values()):
                if isinstance(value, list):
                    value.append(len(self._calls))
        return [len(self._calls), self._path]


def run(code: str) -> tuple[list[str], list[str], dict[str, Any]] | None:
    """Calls, prints and variables of a program; ``None`` if it fails."""
    calls: list[str] = []
    printed: list[str] = []
    names: dict[str, Any] = {
        "api": World(calls),
        "a": [1],
        "b": [2, 3],
        "c": 5,
        "print": lambda *args: printed.append(repr(copy.deepcopy(args))),
    }
    try:
        exec(code, names)
    except (
        AttributeError,
        LookupError,
        NameError,
        RecursionError,
        SyntaxError,
        TypeError,
        ValueError,
    ):
        return None
    names.pop("__builtins__")
    names.pop("print")
    return calls, printed, {name: repr(value) for name, value in names.items()}


NAMES = st.sampled_from(["a", "b", "c", "x", "y", "len", "_v0", "_r0"])
CONSTANTS = st.sampled_from(["1", "-2", "'s'", "True", "1.0", "(1, 2)", "[]", "{'k': 1}", "f's'"])


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, inner)
    return st.one_of(
        pair.map(lambda p: f"api.f({p[0]}, k={p[1]})"),
        pair.map(lambda p: f"api.m.grow(z={p[0]}, k={p[1]})"),
        inner.map(lambda e: f"api.grow({e})"),
        inner.map(lambda e: f"api.f(*[{e}], **{{'q': {e}}})"),
        inner.map(lambda e: f"len([{e}])"),
        inner.map(lambda e: f"str({e})"),
        inner.map(lambda e: f"f'<{{{e!s}}}>'" if "'" not in e else f"str({e})"),
        inner.map(lambda e: f'f"{{{e}!r}}|{{api.grow(a)}}|{{a}}"' if '"' not in e else e),
        pair.map(lambda p: f"[{p[0]}, {p[1]}]"),
        pair.map(lambda p: f"({p[0]} == {p[1]})"),
        pair.map(lambda p: f"({p[0]}, {p[1]})[0]"),
        pair.map(lambda p: f"({p[0]} or {p[1]})"),
        pair.map(lambda p: f"[{p[0]} for x in [{p[1]}]]"),
        pair.map(lambda p: f"[{p[0]} for y in [{p[1]}] for x in [y]]"),
        pair.map(lambda p: f"sorted([{p[0]}], key=lambda y: str({p[1]}))"),
        pair.map(lambda p: f"(lambda x: {p[0]})({p[1]})"),
        inner.map(lambda e: f"(x := {e})"),
        st.sampled_from(["1 + 2", "2 - 5", "'p' + 'q'", "c * 2", "a[0]", "b[-1]", "3 * -1"]),
    )


EXPRESSIONS = st.recursive(st.one_of(NAMES, CONSTANTS), grown, max_leaves=4)
SIMPLE = st.one_of(
    st.tuples(NAMES, EXPRESSIONS).map(lambda p: f"{p[0]} = {p[1]}"),
    st.tuples(NAMES, EXPRESSIONS).map(lambda p: f"{p[0]} += {p[1]}"),
    st.tuples(NAMES, NAMES, EXPRESSIONS, EXPRESSIONS).map(
        lambda p: f"{p[0]}, {p[1]} = {p[2]}, {p[3]}"
    ),
    st.tuples(NAMES, EXPRESSIONS).map(lambda p: f"{p[0]}.append({p[1]})"),
    EXPRESSIONS.map(lambda e: f"api.send({e})"),
    EXPRESSIONS.map(lambda e: f"print({e})"),
    EXPRESSIONS,
)
BLOCKS = st.one_of(
    SIMPLE,
    SIMPLE,
    SIMPLE,
    st.tuples(NAMES, EXPRESSIONS, SIMPLE).map(lambda p: f"for {p[0]} in [{p[1]}]:\n    {p[2]}"),
    st.tuples(EXPRESSIONS, SIMPLE).map(lambda p: f"if {p[0]}:\n    {p[1]}"),
    st.tuples(NAMES, SIMPLE, SIMPLE, EXPRESSIONS).map(
        lambda p: f"def g({p[0]}):\n    {p[1]}\n    {p[2]}\n    return {p[0]}\ng({p[3]})"
    ),
    st.tuples(SIMPLE, NAMES, SIMPLE).map(
        lambda p: f"try:\n    {p[0]}\nexcept Exception as {p[1]}:\n    {p[2]}"
    ),
)
PROGRAMS = st.lists(BLOCKS, min_size=1, max_size=5).map("\n".join)


def key(form: CodeCanonicalizer, code: str) -> str | None:
    action = form.action(Message(role="assistant", content=code))
    return None if action is None else action.key


@settings(max_examples=120, deadline=None)
@given(code=PROGRAMS)
def test_the_exact_form_does_what_the_program_does(code: str) -> None:
    ran = run(code)
    form = key(EXACT, code)
    assume(ran is not None and form is not None)
    assert form is not None
    again = run(form)
    assert again is not None
    assert again[:2] == (ran or ())[:2]
    # Addresses of functions differ, what is bound does not.
    assert {n: v for n, v in again[2].items() if "0x" not in v} == {
        n: v for n, v in (ran or ([], [], {}))[2].items() if "0x" not in v
    }


@settings(max_examples=120, deadline=None)
@given(code=PROGRAMS)
def test_a_program_without_its_names_does_the_same(code: str) -> None:
    ran = run(code)
    form = key(PROGRAM, code)
    assume(ran is not None and form is not None)
    assert form is not None
    again = run(form)
    assert again is not None
    assert again[:2] == (ran or ())[:2]


@settings(max_examples=120, deadline=None)
@given(code=PROGRAMS)
def test_the_calls_of_a_program_are_those_that_it_makes(code: str) -> None:
    ran = run(code)
    form = key(CALLS, code)
    assume(ran is not None and form is not None)
    assert form is not None
    again = run(form)
    assert again is not None
    assert again[0] == (ran or ([],))[0]


@settings(max_examples=120, deadline=None)
@given(code=PROGRAMS)
def test_every_form_is_its_own_form(code: str) -> None:
    for form in (EXACT, PROGRAM, CALLS):
        first = key(form, code)
        if first is not None:
            assert key(form, first) == first
