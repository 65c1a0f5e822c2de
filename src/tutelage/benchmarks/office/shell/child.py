"""The program in the shell's process: runs code, and asks the other side for APIs.

It speaks JSON lines over its standard streams. In: ``["reset", apps]`` with the APIs of each app,
``["run", code]``, and, while code runs, ``["answer", value]`` or ``["refused", text]``. Out:
``["ready"]``, ``["call", app, api, positional, named]`` and ``["done", output, failure, names]``.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from tutelage.benchmarks.office.shell.confinement import (
    close_other_files,
    filter_system_calls,
    limit_resources,
    refuse_events,
)
from tutelage.benchmarks.office.shell.namespace import new_namespace, warm_up
from tutelage.benchmarks.office.shell.rules import NotAllowed, checked

FILE_NAME = "<shell>"


class ApiError(Exception):
    """An API did not do what was asked."""


class _App:
    """``apis.mail``: its attributes are functions."""

    __slots__ = ("__dict__",)

    def __init__(self, functions: Mapping[str, Callable[..., object]]) -> None:
        self.__dict__.update(functions)


Ask = Callable[[str, str, Sequence[object], Mapping[str, object]], object]


class Session:
    """A namespace, and code run in it one piece after another.

    Args:
        ask: Calls an API; raises ``ApiError``.
        apps: Names of the APIs of each app.
        output_limit: Characters of output that are kept of one piece.
    """

    def __init__(
        self, ask: Ask, apps: Mapping[str, Sequence[str]], output_limit: int = 4_000
    ) -> None:
        self._written: list[str] = []
        self._length = 0
        self._limit = output_limit
        proxies = {
            app: _App({name: _function(ask, app, name) for name in names})
            for app, names in apps.items()
        }
        self._names = new_namespace(_App(cast(Any, proxies)), self._write)

    def run(self, source: str) -> tuple[str, str | None]:
        """Runs code; the value of a last expression is shown as in a REPL.

        Returns:
            Its output with any error at the end, and what kind of failure it was: ``not run``,
            ``failed``, or ``None`` for none.
        """
        self._written, self._length = [], 0
        try:
            tree = checked(source)
            program = _compiled(tree)
        except NotAllowed as refusal:
            return f"NotAllowed: {refusal}", "not run"
        except SyntaxError as error:
            return f"SyntaxError: {error.msg} (line {error.lineno})", "not run"
        except (ValueError, RecursionError, MemoryError) as error:
            return f"{type(error).__name__}: the code cannot be read", "not run"
        failure = None
        try:
            self._execute(*program)
        except BaseException as error:  # noqa: BLE001 - whatever the code raises is shown
            failure = "failed"
            self._write(_told(error))
        # Half a surrogate pair is no text for anyone who reads it.
        return "".join(self._written).encode(errors="replace").decode(), failure

    def _execute(self, statements: Any, last: Any) -> None:
        exec(statements, self._names)
        if last is not None:
            value = eval(last, self._names)
            if value is not None:
                self._write(f"{value!r}\n")

    def _write(self, text: str) -> None:
        room = self._limit - self._length
        self._length += len(text)
        if len(text) <= room:
            self._written.append(text)
        elif room > 0:
            mark = f"\n... (output is cut at {self._limit} characters)\n"
            self._written.append(text[:room] + mark)
        elif room == 0:
            self._written.append(f"\n... (output is cut at {self._limit} characters)\n")


def main() -> None:
    """Locks the process down and serves until the other side is gone."""
    memory_bytes, cpu_s = int(sys.argv[1]), int(sys.argv[2])
    warm_up()
    close_other_files()
    limit_resources(memory_bytes, cpu_s)
    filter_system_calls()
    refuse_events()
    serve(_lines(), _say)


def serve(incoming: Iterator[list[Any]], say: Callable[..., None]) -> None:
    """Answers messages until there are no more.

    Args:
        incoming: Messages of the other side.
        say: Sends one.
    """
    say("ready")
    session: Session | None = None

    def ask(app: str, api: str, positional: Sequence[object], named: Mapping[str, object]) -> Any:
        try:
            say("call", app, api, list(positional), dict(named))
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"{app}.{api}: arguments must be plain values: {error}") from None
        kind, value = next(incoming)
        if kind == "refused":
            raise ApiError(f"{app}.{api} {value}")
        return value

    for message in incoming:
        if message[0] == "reset":
            session = Session(ask, message[1])
            say("ready")
        elif session is not None:
            say("done", *session.run(message[1]))


def _say(*message: object) -> None:
    # NaN is no JSON, and lone surrogates must survive: escapes keep both sides in step.
    line = json.dumps(message, allow_nan=False).encode() + b"\n"
    while line:
        line = line[os.write(1, line) :]


def _lines() -> Iterator[list[Any]]:
    rest = b""
    while True:
        end = rest.find(b"\n")
        if end >= 0:
            line, rest = rest[:end], rest[end + 1 :]
            yield json.loads(line)
            continue
        more = os.read(0, 1 << 16)
        if not more:
            return
        rest += more


def _function(ask: Ask, app: str, name: str) -> Callable[..., object]:
    def function(*positional: object, **named: object) -> object:
        return ask(app, name, positional, named)

    return function


def _compiled(tree: ast.Module) -> tuple[Any, Any]:
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        value = tree.body.pop()
        assert isinstance(value, ast.Expr)
        last = compile(ast.Expression(value.value), FILE_NAME, "eval")
    return compile(tree, FILE_NAME, "exec"), last


def _told(error: BaseException) -> str:
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILE_NAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - an error may hold anything
        text = ""
    return f"Traceback: line {line}\n{type(error).__name__}: {text}\n"
