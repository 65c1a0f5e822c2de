from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tutelage.benchmarks.office.app import ApiRefused
from tutelage.benchmarks.office.shell import shell as shell_module
from tutelage.benchmarks.office.shell.child import ApiError, Session, serve
from tutelage.benchmarks.office.shell.namespace import warm_up
from tutelage.benchmarks.office.shell.shell import Ran, Shell
from tutelage.runtime.errors import WorkerDied

APIS = {"mail": ["show", "fail"]}


def answer(app: str, api: str, positional: Sequence[object], named: Mapping[str, object]) -> object:
    if api == "fail":
        raise ApiRefused(404, "there is nothing")
    return {"app": app, "given": [*positional, *named.values()]}


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    with Shell(APIS, step_s=2) as started:
        yield started


@pytest.fixture
def fresh(shell: Shell) -> Shell:
    shell.reset()
    return shell


def test_variables_stay_from_step_to_step_and_go_with_a_reset(fresh: Shell) -> None:
    assert fresh.run("x = 40\nprint('set')", answer) == Ran("set\n", None)
    assert fresh.run("x + 2", answer) == Ran("42\n", None)
    fresh.reset()
    assert "NameError" in fresh.run("x", answer).output


def test_apis_are_answered_by_the_other_side(fresh: Shell) -> None:
    assert fresh.run("apis.mail.show(1, b=[2])['given']", answer) == Ran("[1, [2]]\n", None)
    refused = fresh.run("apis.mail.fail()", answer)
    assert refused.failure == "failed"
    assert "mail.fail refused (404): there is nothing" in refused.output


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("open('/etc/passwd')", "NameError"),
        ("open('out.txt', 'w')", "NameError"),
        ("import os\nos.system('id')", "ImportError"),
        ("import socket", "ImportError"),
        ("import subprocess", "ImportError"),
        ("import ctypes", "ImportError"),
        ("import importlib", "ImportError"),
        ("from os import environ", "ImportError"),
        ("__import__('os')", "NotAllowed"),
        ("__builtins__", "NotAllowed"),
        ("().__class__.__bases__[0].__subclasses__()", "NotAllowed"),
        ("type(1).mro()", "NotAllowed"),
        ("(i for i in [1]).gi_frame.f_globals", "NotAllowed"),
        ("match apis:\n    case object(__dict__=x): pass", "NotAllowed"),
        ("print.__globals__", "NotAllowed"),
        ("apis.mail.show.__closure__", "NotAllowed"),
        ("from json import __loader__", "NotAllowed"),
        ("class A: pass", "NotAllowed"),
        ("import json\njson.dumps = print", "NotAllowed"),
        ("import json\ndel json.dumps", "NotAllowed"),
        ("import json\njson.codecs", "AttributeError"),
        ("import re\nre.enum", "AttributeError"),
        ("import datetime\ndatetime.sys", "AttributeError"),
        ("eval('1')", "NameError"),
        ("exec('1')", "NameError"),
        ("compile('1', 'x', 'eval')", "NameError"),
        ("getattr(1, 'real')", "NameError"),
        ("vars()", "NameError"),
        ("globals()", "NameError"),
        ("breakpoint()", "NameError"),
        ("print('x', file=1)", "TypeError"),
        ("import time", "ImportError"),
    ],
)
def test_no_way_leads_out_of_the_shell(fresh: Shell, code: str, says: str) -> None:
    ran = fresh.run(code, answer)
    assert ran.failure in ("failed", "not run")
    assert says in ran.output
    assert fresh.run("1 + 1", answer) == Ran("2\n", None)


def test_an_endless_loop_is_stopped_and_the_shell_starts_anew() -> None:
    with Shell(APIS, step_s=0.5) as shell:
        shell.run("x = 1", answer)
        before = shell.pid
        for code in (
            "while True: pass",
            "while True:\n    try: 1 / 0\n    except BaseException: 1",
        ):
            ran = shell.run(code, answer)
            assert ran.failure == "lost"
            assert "longer than 0.5 s" in ran.output
        assert "NameError" in shell.run("x", answer).output
        assert shell.pid not in (None, before)


def test_an_endless_loop_of_calls_is_stopped() -> None:
    with Shell(APIS, step_s=0.5) as shell:
        assert shell.run("while True: apis.mail.show()", answer).failure == "lost"


def test_memory_has_a_limit(fresh: Shell) -> None:
    for code in ("'a' * 10**12", "x = []\nwhile True: x.append(' ' * 10**6)", "10 ** 10 ** 9"):
        fresh.reset()
        ran = fresh.run(code, answer)
        assert ran.failure in ("failed", "lost")
        assert "MemoryError" in ran.output or ran.failure == "lost"
    fresh.reset()
    assert fresh.run("1", answer) == Ran("1\n", None)


def test_output_is_cut_at_a_limit(fresh: Shell) -> None:
    long = fresh.run("for i in range(9): print('x' * 1000)", answer).output
    assert len(long) < 4100
    assert long.endswith("(output is cut at 4000 characters)\n")
    exact = fresh.run("print('x' * 3999)\nprint('more')\nprint('again')", answer).output
    assert exact.count("output is cut") == 1


def test_errors_come_back_as_in_a_repl(fresh: Shell) -> None:
    assert fresh.run("x = 1\n1 / 0", answer).output == (
        "Traceback: line 2\nZeroDivisionError: division by zero\n"
    )
    assert fresh.run("print(1", answer).output.startswith("SyntaxError: '(' was never closed")
    assert "RecursionError" in fresh.run("def f(): return f()\nf()", answer).output
    assert fresh.run("x = '\\0'\nx\0", answer).failure == "not run"
    assert fresh.run("#" * 30_000, answer).failure == "not run"
    assert fresh.run("-" * 9_000 + "1", answer).failure == "not run"


def test_arguments_must_be_plain_values(fresh: Shell) -> None:
    for code in ("apis.mail.show({1})", "apis.mail.show(float('nan'))", "apis.mail.show(print)"):
        assert "arguments must be plain values" in fresh.run(code, answer).output


def test_what_an_agent_needs_is_there(fresh: Shell) -> None:
    code = """
from collections import Counter
import datetime, itertools, json, math, re, statistics
day = datetime.datetime.strptime("2026-03-04", "%Y-%m-%d")
print(day.strftime("%A"), Counter("aab").most_common(1), statistics.mean([1, 2]))
print(json.loads(json.dumps({"a": 1})), math.ceil(1.2), re.findall("[0-9]", "a1b2"), type(1))
"""
    assert fresh.run(code, answer).output == (
        "Wednesday [('a', 2)] 1.5\n{'a': 1} 2 ['1', '2'] <class 'int'>\n"
    )


def test_the_order_of_a_set_is_the_same_in_every_process() -> None:
    outputs = []
    for _ in range(2):
        with Shell(APIS) as shell:
            outputs.append(shell.run("{'pear', 'fig', 'lime', 'kiwi', 'plum'}", answer).output)
    assert outputs[0] == outputs[1]


def test_half_a_surrogate_pair_does_not_leave_the_shell(fresh: Shell) -> None:
    assert fresh.run("print('\\ud800')", answer) == Ran("?\n", None)


def test_nothing_of_this_environment_reaches_the_process(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFICE_SECRET", "tell-nobody")
    with Shell(APIS) as started:
        started.run("1", answer)
        environment = Path(f"/proc/{started.pid}/environ").read_bytes()
    assert environment == b"PYTHONHASHSEED=0\0"


def test_a_process_that_dies_between_steps_is_started_again() -> None:
    with Shell(APIS) as shell:
        shell.run("1", answer)
        assert shell.pid is not None
        os.kill(shell.pid, 9)
        assert shell.run("x = 1", answer).failure == "lost"
        assert shell.run("2", answer) == Ran("2\n", None)
        os.kill(shell.pid, 9)
        shell.reset()
        assert shell.run("3", answer) == Ran("3\n", None)


def test_a_shell_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_module, "_PROGRAM", "raise SystemExit(1)")
    with Shell(APIS) as shell, pytest.raises(WorkerDied, match="does not start"):
        shell.run("1", answer)


@pytest.mark.parametrize("line", ['"text"', '["nonsense", 1]', "no json", "x" * 4_100_000])
def test_a_process_that_speaks_nonsense_is_ended(
    monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    written = f"'x' * {len(line)}" if len(line) > 1000 else repr(line)
    ready = "print('[\"ready\"]', flush=True)"
    heard = "sys.stdin.readline()"
    said = f"import sys; {ready}; {heard}; {ready}; {heard}; print({written}, flush=True)"
    monkeypatch.setattr(shell_module, "_PROGRAM", said)
    with Shell(APIS) as shell:
        assert shell.run("1", answer).failure == "lost"


def test_the_session_speaks_with_the_other_side() -> None:
    said: list[tuple[Any, ...]] = []
    incoming: list[list[Any]] = [
        ["run", "1"],
        ["reset", {"mail": ["show"]}],
        ["run", "apis.mail.show(a=1)"],
        ["answer", 5],
        ["run", "apis.mail.show()"],
        ["refused", "refused (404): no"],
    ]
    serve(iter(incoming), lambda *message: said.append(message))
    assert said == [
        ("ready",),
        ("ready",),
        ("call", "mail", "show", [], {"a": 1}),
        ("done", "5\n", None),
        ("call", "mail", "show", [], {}),
        ("done", "Traceback: line 1\nApiError: mail.show refused (404): no\n", "failed"),
    ]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("x = 1\nx.__class__", "NotAllowed: line 2: attribute '__class__'"),
        ("x.y = 1", "NotAllowed: line 1: attributes cannot be set"),
        ("class A: pass", "NotAllowed: line 1: classes"),
        ("match 1:\n    case int(real=x): print('ok')", "ok"),
        ("match 1:\n    case int(__doc__=x): print('ok')", "NotAllowed: line 2: attribute"),
        ("match {}:\n    case {**__rest}: print('ok')", "NotAllowed: line 2: name '__rest'"),
        ("match [1]:\n    case [*__rest]: print('ok')", "NotAllowed: line 2: name '__rest'"),
        ("def f(__x): pass", "NotAllowed: line 1: name '__x'"),
        ("def __f(): pass", "NotAllowed: line 1: name '__f'"),
        ("import json as __x", "NotAllowed: line 1: name '__x'"),
        ("def f():\n    global __builtins__", "NotAllowed: line 2: name"),
        ("try: 1\nexcept KeyError as __x: 1", "NotAllowed: line 2: name"),
        ("__name__", "NotAllowed: line 1: name '__name__'"),
        ("#" * 20_001, "NotAllowed: code is longer than 20000 characters"),
        ("import os", "ImportError: module 'os' is not available"),
        ("import json\njson.dumps(1)", "'1'"),
        ("type([])", "<class 'list'>"),
        ("print(1, end='', file=2)", "TypeError: print takes only"),
        ("print('x' * 5000)\nprint(1)\nprint(2)", "... (output is cut at 4000 characters)\n"),
        ("print('x' * 3999)\nprint(1)\nprint(2)", "... (output is cut at 4000 characters)\n"),
        ("x = 'a\0'", "null bytes"),
        ("-" * 9_000 + "1", "the code cannot be read"),
        ("print(1", "SyntaxError"),
    ],
)
def test_the_session_takes_only_code_that_stays_inside(code: str, says: str) -> None:
    output, _ = Session(answer, APIS).run(code)
    assert says in output


def test_warm_modules_need_no_import_later() -> None:
    warm_up()
    output, failure = Session(answer, APIS).run(
        "from datetime import datetime\ndatetime.strptime('2026', '%Y').year"
    )
    assert (output, failure) == ("2026\n", None)


def test_an_error_without_words_is_told_all_the_same() -> None:
    class Mute(ApiError):
        def __str__(self) -> str:
            raise ValueError

    def ask(*call: object) -> object:
        raise Mute

    session = Session(ask, {"mail": ["show"]})
    assert session.run("apis.mail.show()") == ("Traceback: line 1\nMute: \n", "failed")


_ATTEMPTS = {
    "open a file": "os.open('/etc/passwd', os.O_RDONLY)",
    "write a file": "os.open('/tmp/out', os.O_WRONLY | os.O_CREAT)",
    "fork": "os.fork()",
    "start a program": "os.execv('/bin/true', ['true'])",
    "connect": "socket.socket()",
    "signal": "os.kill(os.getppid(), 0)",
    "read the environment": "os.open(f'/proc/{parent}/environ', os.O_RDONLY)",
    "load code": "ctypes.CDLL(None).fork()",
}


def _confined(walls: str, attempt: str) -> str:
    program = f"""
import ctypes, os, socket
from tutelage.benchmarks.office.shell.confinement import *
parent = os.getppid()
call = lambda: {attempt}
{walls}
try:
    print("done", call())
except OSError as error:
    print("refused", error)
"""
    source = str(Path(shell_module.__file__).parents[4])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize("attempt", [*_ATTEMPTS])
def test_the_interpreter_alone_refuses(attempt: str) -> None:
    assert _confined("refuse_events()", _ATTEMPTS[attempt]).startswith("refused")


@pytest.mark.parametrize("attempt", [name for name in _ATTEMPTS if name != "load code"])
def test_the_kernel_alone_refuses(attempt: str) -> None:
    walls = "assert filter_system_calls()"
    if sys.platform != "linux":
        pytest.skip("only Linux filters system calls")
    assert _confined(walls, _ATTEMPTS[attempt]).startswith("refused")


def test_a_fork_by_c_code_is_refused_by_the_kernel() -> None:
    said = _confined("assert filter_system_calls()", _ATTEMPTS["load code"])
    assert said == "done -1\n"


def test_resources_are_limited() -> None:
    walls = "close_other_files(); limit_resources(2**28, 60)"
    assert _confined(walls, "os.open('/dev/null', os.O_RDONLY)").startswith("refused")


def test_a_machine_without_a_known_filter_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from tutelage.benchmarks.office.shell import confinement

    monkeypatch.setattr("platform.machine", lambda: "vax")
    assert not confinement.filter_system_calls()
