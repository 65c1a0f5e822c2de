from __future__ import annotations

import warnings

import pytest

from tutelage.cascade.canonical.code import CodeCanonicalizer

EXACT = CodeCanonicalizer()
PROGRAM = CodeCanonicalizer(stateful=False)
CALLS = CodeCanonicalizer("calls")

MATCHED = (
    "def f(a):\n    match a:\n        case {'k': b, **c}:\n            return b\n"
    "        case [d, *e]:\n            return e"
)


def key(form: CodeCanonicalizer, code: str) -> str | None:
    action = form.past(code)
    return None if action is None else action.key


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        ("x = api.get(1)\napi.put(x, n=2, a=1)", "_r0 = api.get(1)\napi.put(_r0, a=1, n=2)"),
        ("api.put(api.get(1))", "_r0 = api.get(1)\napi.put(_r0)"),
        ("api.get(1).put(2)", "_r0 = api.get(1)\n_r0.put(2)"),
        ("api.get(1).a", "api.get(1)"),
        ("print(api.get(1), *api.more())", "api.get(1)\napi.more()"),
        ("print(api.get(1), sep='')", "_r0 = api.get(1)\nprint(_r0, sep='')"),
        (
            "x = [1, (2, -3), {4}, {'k': None}]\napi.put(x)",
            "api.put([1, (2, -3), {4}, {'k': None}])",
        ),
        ("x = [1]\napi.put(x, x)", "_r0 = [1]\napi.put(_r0, _r0)"),
        ("x: int = 3 * 4\napi.put(x)", "api.put(12)"),
        ("x = 'a'\nx += 'b'\napi.put(x)", "api.put('ab')"),
        ("x = y = 1\napi.put(x, y)", "api.put(1, 1)"),
        ("x = -1\nx *= -2\napi.put(x, -x)", "api.put(2, -2)"),
        ("pass\napi.put(f'{1}-{\"a\"}')", "api.put('1-a')"),
        (
            "api.put(f'{api.get()}!')",
            "_r0 = api.get()\n_r1 = f'{_r0}'\n_r2 = f'{_r1}!'\napi.put(_r2)",
        ),
        ("api.put(f'{1}{api.get()!r:>5}')", None),
        (
            "api.put({'a': api.get(), 'b': 1})",
            "_r0 = api.get()\n_r1 = {'a': _r0, 'b': 1}\napi.put(_r1)",
        ),
        ("api.put([*api.get(), 1])", "_r0 = api.get()\n_r1 = [*_r0, 1]\napi.put(_r1)"),
        ("api.put(api.get()[0])", "_r0 = api.get()\n_r1 = _r0[0]\napi.put(_r1)"),
        ("api.put(api.get() + 1)", "_r0 = api.get()\n_r1 = _r0 + 1\napi.put(_r1)"),
        ("api.put({api.get()})", "_r0 = api.get()\n_r1 = {_r0}\napi.put(_r1)"),
        ("api.put(len(api.get()))", "_r0 = api.get()\n_r1 = len(_r0)\napi.put(_r1)"),
        ("api.put(round(a, ndigits=b))", "_r0 = round(a, ndigits=b)\napi.put(_r0)"),
        ("await api.put(1)", "await api.put(1)"),
        ("x = await api.get()\napi.put(x)", "_r0 = await api.get()\napi.put(_r0)"),
        ("import json\napi.put(json.dumps(1))", "import json\n_r0 = json.dumps(1)\napi.put(_r0)"),
        ("from a import b as c\napi.put(1)", "api.put(1)"),
        ("api.put(**a, k=1)", "api.put(**a, k=1)"),
        (
            "n = 2\napi.put([e.id + n for e in a if e.n > n])",
            "_r0 = [_v0.id + 2 for _v0 in a if _v0.n > 2]\napi.put(_r0)",
        ),
        ("api.put(len, len(len))", "_r0 = len(len)\napi.put(len, _r0)"),
        ("api.put(1 if a else 2)", "_r0 = 1 if a else 2\napi.put(_r0)"),
    ],
)
def test_the_calls_are_told_in_their_order(code: str, asked: str | None) -> None:
    found = key(CALLS, code)
    if asked is not None:
        assert found == asked
    assert found is not None
    assert key(CALLS, found) == found


@pytest.mark.parametrize(
    "code",
    [
        "if a:\n    api.put(1)",
        "for x in a:\n    api.put(x)",
        "while a:\n    api.put(1)",
        "try:\n    api.put(1)\nfinally:\n    pass",
        "with a as b:\n    api.put(1)",
        "def f():\n    api.put(1)\nf()",
        "class A:\n    x = api.put(1)",
        "a.b = api.put(1)",
        "a['b'] = api.put(1)",
        "a, b = api.get()",
        "a, *b = 1, api.get()",
        "x = a, b = 1, api.get()",
        "(a, b), c = api.get(), 1",
        "x: api.put(1) = 1",
        "x: int\napi.put(1)",
        "a += api.get()",
        "x = api.get()\nx += 1",
        "x = 1\nx += api.get()",
        "a.n += api.get()",
        "api.put(a and api.get())",
        "api.put(api.get() if a else 1)",
        "api.put(api.get() < 1)",
        "api.put(not api.get())",
        "api.put(api.get()[1:2])",
        "api.put({**api.get()})",
        "api.put([api.get(x) for x in a])",
        "api.put(x for x in a)",
        "api.put(lambda: 1)",
        "api.put(f'{a:{api.get()}}', api.get())",
        "api.put(f'{a:{b}}{api.get()}')",
        "(x := api.get())",
        "yield api.get()",
        "from m import *\napi.put(1)",
        "b = a\nimport a\nb.put(1)",
        "x = 1\nfrom m import x\napi.put(x)",
        "api.put(_r0)",
        "x = 1",
        "print(a)",
        "assert api.get()",
        "raise api.get()",
        "del a\napi.put(1)",
    ],
)
def test_a_program_whose_calls_cannot_be_told_is_compared_exactly(code: str) -> None:
    assert key(CALLS, code) is not None
    assert key(CALLS, code) == key(EXACT, code)


def test_a_long_program_is_compared_exactly() -> None:
    code = "\n".join(f"api.put({number})" for number in range(600))
    assert key(CALLS, code) == key(EXACT, code)


def test_one_name_for_two_things_is_not_resolved() -> None:
    code = "x = 1\ny = [x for x in x]\napi.put(locals(), y, x)"
    assert key(CALLS, code) == key(EXACT, code)
    outer = "x = a\na = 1\ny = [x for a in b]\napi.put(locals(), y)"
    assert key(CALLS, outer) == key(EXACT, outer)


@pytest.mark.parametrize(
    ("code", "form"),
    [
        ("def f(a):\n    b = a\n    return b", "def f(a):\n    _v0 = a\n    return _v0"),
        ("def f(a=b):\n    b = 1", "def f(a=b):\n    _v0 = 1"),
        ("def f(*, a=b, **c):\n    d = c", "def f(*, a=b, **c):\n    _v0 = c"),
        ("def f(a: b) -> c:\n    b = 1", "def f(a: b) -> c:\n    b = 1"),
        ("def f():\n    import a as b\n    c = b", "def f():\n    import a as b\n    _v0 = b"),
        ("def f():\n    def g(): pass\n    g()", "def f():\n\n    def g():\n        pass\n    g()"),
        (
            "def f():\n    a = 1\n    return lambda b=a: a",
            "def f():\n    _v0 = 1\n    return lambda b=_v0: _v0",
        ),
        (
            "def f():\n    return [a for b in c if (a := b)]",
            "def f():\n    return [_v1 for _v0 in c if (_v1 := _v0)]",
        ),
        (
            "def f():\n    try:\n        g()\n    except E as e:\n        h(e)",
            "def f():\n    try:\n        g()\n    except E as _v0:\n        h(_v0)",
        ),
        (
            MATCHED,
            MATCHED,
        ),
        (
            "async def f():\n    async for a in b:\n        pass",
            "async def f():\n    async for _v0 in b:\n        pass",
        ),
        ("map(lambda a, *b, c=d: a, e)", "map(lambda _v0, *_v1, _v2=d: _v0, e)"),
        ("f(key=g)", "f(key=g)"),
        ("{a: b for a, b in c}", "{_v0: _v1 for _v0, _v1 in c}"),
        ("_v0 = 1\n[x for x in a]", "_v0 = 1\n[x for x in a]"),
        ("def f(_v0):\n    x = 1", "def f(_v0):\n    x = 1"),
        (
            "match a:\n    case {**_v0}:\n        [x for x in a]",
            "match a:\n    case {**_v0}:\n        [x for x in a]",
        ),
        ("class A:\n    def f(self):\n        'D'", "class A:\n\n    def f(self):\n        pass"),
        (
            "class A:\n    def f(self):\n        x = 1",
            "class A:\n\n    def f(self):\n        x = 1",
        ),
        (
            "def f():\n    x = 1\n    return a.__dict__",
            "def f():\n    x = 1\n    return a.__dict__",
        ),
        ("f(b=1, **c, a=2)", "f(b=1, **c, a=2)"),
        ("f(b=x.y, a=g())", "f(b=x.y, a=g())"),
        ("f(b=1, a=g())", "f(a=g(), b=1)"),
        ("f(b=f'x', a=g())", "f(a=g(), b='x')"),
        ("'a'\nf'b'\n'c'\nf()", "f()"),
    ],
)
def test_the_exact_form_renames_what_nobody_else_sees(code: str, form: str) -> None:
    assert key(EXACT, code) == form
    assert key(EXACT, form) == form


@pytest.mark.parametrize(
    ("code", "form"),
    [
        ("x = a\nb(x)", "_v0 = a\nb(_v0)"),
        ("x: int = a\nb(x)", "_v0: int = a\nb(_v0)"),
        ("x.y = 1\nx = 2", "x.y = 1\nx = 2"),
        ("y = 1\nz = 0\nx[y] = z", "_v0 = 1\n_v1 = 0\nx[_v0] = _v1"),
        ("x += 1", "x += 1"),
        ("x = 1\nx += 1", "_v0 = 1\n_v0 += 1"),
        ("__all__ = 1", "__all__ = 1"),
        ("try:\n    x = 1\nexcept E as e:\n    b(e)", "try:\n    x = 1\nexcept E as e:\n    b(e)"),
        ("with a as x, b(x) as y:\n    c(y)", "with a as _v0, b(_v0) as _v1:\n    c(_v1)"),
        ("with a:\n    x = 1\nb(x)", "with a:\n    x = 1\nb(x)"),
        ("def f():\n    x = 1\nx = 2\nb(x)", "def f():\n    _v0 = 1\n_v1 = 2\nb(_v1)"),
    ],
)
def test_a_program_that_ends_keeps_no_names(code: str, form: str) -> None:
    assert key(PROGRAM, code) == form
    assert key(PROGRAM, form) == form


def test_names_of_several_snippets_count() -> None:
    text = "First\n```python\nx = a\n```\nthen\n~~~\nb(x)\n~~~"
    assert key(PROGRAM, text) == "```python\nx = a\n```\n```python\nb(x)\n```"
    assert key(PROGRAM, text) != key(PROGRAM, "x = a\nb(x)")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I will pay now.",
        "```python\nf(\n```",
        "```python\nf(1)\n```\n```python\nf(\n```",
        "```json\n{}\n```",
        "```python\n```",
        "'Only words.'",
        "# f(1)",
        "f(\x00)",
        "f('\ud800')",
        "f(" + "a" * 20_001 + ")",
    ],
)
def test_a_text_without_python_names_no_action(text: str) -> None:
    for form in (EXACT, PROGRAM, CALLS):
        assert form.past(text) is None


def test_an_open_fence_ends_with_the_text() -> None:
    assert key(EXACT, "So:\n```python\nf( 1 )") == "f(1)"


def test_what_the_parser_warns_of_stays_unsaid() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert key(EXACT, "f('\\d', 1if x else 2)") == "f('\\\\d', 1 if x else 2)"


def test_a_form_remembers_in_bounded_memory() -> None:
    form = CodeCanonicalizer()
    for _ in range(2):
        assert [key(form, f"f( {number} )") for number in range(600)] == [
            f"f({number})" for number in range(600)
        ]
