"""Which Python the shell takes: no way from a value to the interpreter behind it."""

from __future__ import annotations

import ast

MOST_CHARACTERS = 20_000

_FRAMES = ("gi_", "cr_", "ag_", "f_", "tb_", "co_", "func_", "im_")
"""Attributes of generators, frames, tracebacks and code objects: they lead to all globals."""


class NotAllowed(Exception):
    """The shell does not run such code; nothing of it was run."""


def checked(source: str) -> ast.Module:
    """The syntax tree of code that may be run.

    Raises:
        NotAllowed: Something in it could lead out of the shell, or it is too long.
        SyntaxError: It is no Python.
        ValueError: It cannot be read, e.g. as it holds null characters.
        RecursionError: It is nested too deeply.
        MemoryError: Likewise.
    """
    if len(source) > MOST_CHARACTERS:
        raise NotAllowed(f"code is longer than {MOST_CHARACTERS} characters")
    tree = ast.parse(source)
    for node in ast.walk(tree):
        _check(node)
    return tree


def _check(node: ast.AST) -> None:
    line = getattr(node, "lineno", 0)
    if isinstance(node, ast.ClassDef):
        raise NotAllowed(f"line {line}: classes cannot be defined here")
    if isinstance(node, ast.Attribute):
        _check_attribute(node.attr, line)
        if not isinstance(node.ctx, ast.Load):
            # Types outlive an episode: what is set on them would be seen by the next.
            raise NotAllowed(f"line {line}: attributes cannot be set or deleted here")
    elif isinstance(node, ast.MatchClass):
        for name in node.kwd_attrs:
            _check_attribute(name, line)
    elif isinstance(node, ast.Name):
        _check_name(node.id, line)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        _check_name(node.name, line)
    elif isinstance(node, ast.arg):
        _check_name(node.arg, line)
    elif isinstance(node, ast.alias):
        for part in (*node.name.split("."), node.asname or ""):
            _check_name(part, line)
    elif isinstance(node, ast.Global | ast.Nonlocal):
        for part in node.names:
            _check_name(part, line)
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        _check_name(node.name or "", line)
    elif isinstance(node, ast.MatchMapping):
        _check_name(node.rest or "", line)


def _check_attribute(name: str, line: int) -> None:
    if name.startswith(("_", *_FRAMES)) or name == "mro":
        raise NotAllowed(f"line {line}: attribute {name!r} cannot be used here")


def _check_name(name: str, line: int) -> None:
    if name.startswith("__"):
        raise NotAllowed(f"line {line}: name {name!r} cannot be used here")
