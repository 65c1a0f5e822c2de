from __future__ import annotations

import pytest

from tutelage.cascade.canonical.code import CodeCanonicalizer
from tutelage.cascade.canonical.effects import (
    HOUSEHOLD_EFFECTS,
    HOUSEHOLD_MOVES,
    HTTP_EFFECTS,
    Effects,
)
from tutelage.cascade.canonical.react import ReactCanonicalizer
from tutelage.cascade.canonical.tools import tool_action
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Action

CODE = Effects(
    {
        "api.show": "read",
        "api.*.list": "read",
        "api.drop": "write",
        "*.keys": "read",
        "m.look": "read",
    }
)


def test_what_is_not_declared_writes() -> None:
    told = Effects({"get_*": "read", "*delete*": "write", "get_and_mark": "write"})
    assert told.of("get_user") == "read"
    assert told.of("get_deleted") == "write"
    assert told.of("get_and_mark") == "write"
    assert told.of("Get_user") == "write"
    assert told.of("send") == "write"
    assert told.declared("send") is None


def test_an_exact_name_beats_the_patterns() -> None:
    assert Effects({"*": "write", "look": "read"}).of("look") == "read"


def test_one_write_among_calls_makes_them_write() -> None:
    told = Effects({"get": "read"})
    read, write = {"name": "get", "arguments": {}}, {"name": "put", "arguments": {}}
    for calls, mutating in (([read, read], False), ([read, write], True)):
        action = tool_action(calls)
        assert action is not None
        assert told.is_mutating(action) is mutating


@pytest.mark.parametrize(
    ("key", "mutating"),
    [
        ("look", False),
        ("inventory", False),
        ("examine mug 1", False),
        ("go to desk 1", True),
        ("open drawer 1", True),
        ("examine mug 1\ntake mug 1", True),
        ("examine mug 1; take mug 1", True),
        ("examine $(take mug 1)", True),
        ("look around", True),
    ],
)
def test_commands_of_a_household_are_told(key: str, mutating: bool) -> None:
    assert Effects(HOUSEHOLD_EFFECTS).is_mutating(Action("text", key)) is mutating


def test_moves_may_be_declared_harmless() -> None:
    told = Effects({**HOUSEHOLD_EFFECTS, **HOUSEHOLD_MOVES})
    assert not told.is_mutating(Action("text", "go to desk 1"))
    assert told.is_mutating(Action("text", "take mug 1 from desk 1"))


def test_methods_of_http_are_told() -> None:
    told = Effects(HTTP_EFFECTS)
    assert told.of("GET /users/{id}") == "read"
    assert told.of("DELETE /users/{id}") == "write"
    assert told.of("GETALL /users") == "write"


def test_the_tool_of_a_react_text_is_told() -> None:
    told = Effects({"Search": "read", "Final Answer": "read"})
    for text, mutating in (
        ("Action: Search\nAction Input: a;b", False),
        ("Action: Search", False),
        ("Final Answer: yes", False),
        ("Action: Pay\nAction Input: Search", True),
    ):
        action = ReactCanonicalizer().past(text)
        assert action is not None
        assert told.is_mutating(action) is mutating


@pytest.mark.parametrize(
    "code",
    [
        "api.show(1)",
        "print(len(api.show(1)))",
        "x = api.show(1)\nprint(x['a'], x.b)",
        "for m in api.mail.list():\n    print(api.show(m))",
        "[api.show(m) for m in api.mail.list()]",
        "def f(a):\n    return api.show(a)\nf(1)",
        "a = api.mail\na.list()",
        "from api import show\nshow(1)",
        "from api.mail import list as all_of\nall_of()",
        "import m\nm.look()",
        "sorted(api.mail.list(), key=lambda m: m.date)",
        "max(api.mail.list(), key=len)",
        "', '.join(api.show(1))",
        "r = api.show(1)\nr.keys()",
        "api.show(1).keys()",
        "x = 1",
        "lambda: api.show(1)",
    ],
)
def test_code_that_only_calls_declared_reads_reads(code: str) -> None:
    assert not CODE.is_mutating(Action("code", code))


@pytest.mark.parametrize(
    "code",
    [
        "api.drop(1)",
        "api.show(1)\napi.pay(1)",
        "pay(1)",
        "print(api.pay(1))",
        "api.show(api.pay(1))",
        "f = api.drop\nf(1)",
        "api.show(1)(2)",
        "api.show(1).drop()",
        "fs[0](1)",
        "map(api.drop, xs)",
        "api.show(callback=api.drop)",
        "sorted(xs, key=api.drop)",
        "sorted(xs, key=fs[0])",
        "print(1, file=out)",
        "dict(**api.show(1), **xs)",
        "print = api.pay\nprint(1)",
        "from evil import print\nprint(1)",
        "from evil import show as api\napi.show(1)",
        "api = other\napi.show(1)",
        "def f(api):\n    api.show(1)",
        "def print(x):\n    api.pay(x)\nprint(1)",
        "def f():\n    pass\nf = api.pay\nf()",
        "x.a = 1",
        "x['a'] = 1",
        "del x['a']",
        "class A(B): pass",
        "@api.drop\ndef f(): pass",
        "with lock:\n    api.show(1)",
        "exec('x')",
        "import os\nos.remove('x')",
        "global x\nx = 1",
        "try:\n    api.show(1)\nexcept E as api:\n    api.show(2)",
        "match x:\n    case {'a': 1, **api}:\n        api.show(1)",
        "async def show(): pass\nshow = 1\nshow()",
        "not Python at all",
        "```bash\nls\n```",
        "```\napi.show(1)\n```\n```\n(\n```",
    ],
)
def test_code_that_may_do_anything_else_writes(code: str) -> None:
    assert CODE.is_mutating(Action("code", code))


def test_the_form_of_the_calls_tells_the_same_names() -> None:
    action = CodeCanonicalizer("calls").past("x = api.mail.list()\nprint(x)\napi.show(x)")
    assert action is not None
    assert not CODE.is_mutating(action)


def test_many_names_and_programs_are_told_in_bounded_memory() -> None:
    told = Effects({"a*": "read"})
    assert [told.of(f"a{number}") for number in range(9_000)] == ["read"] * 9_000
    assert all(told.is_mutating(Action("code", f"f({number})")) for number in range(600))


def test_another_word_than_read_or_write_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"effects\.look = 'none': give 'read' or 'write'"):
        Effects({"look": "none"})  # type: ignore[dict-item]
