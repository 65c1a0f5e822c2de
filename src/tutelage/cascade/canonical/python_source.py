"""Python in an answer: the snippets of its fences, and their syntax trees."""

from __future__ import annotations

import ast
import re
import warnings

MOST_CHARACTERS = 20_000
"""Longer answers are not read: one answer must not hold up the others."""

_OPENS = re.compile(r"[ \t]{0,3}(```+|~~~+)[ \t]*([\w+.-]*)[ \t]*")
_PYTHON = frozenset(("", "py", "py3", "python", "python3", "ipython", "pycon"))
# What the parser may warn of: escapes, and digits that touch a word.
_WARNS = re.compile(r"\\|[0-9][A-Za-z_]")


def snippets(text: str) -> tuple[str, ...] | None:
    """The Python of an answer: the content of its fences, or all of it where there is none.

    The last fence may be left open, as where a stop sequence has cut it.

    Returns:
        ``None`` if there is none, if a fence holds another language, or the text is too long.
    """
    if len(text) > MOST_CHARACTERS:
        return None
    found: list[str] = []
    inside: list[str] | None = None
    mark = ""
    for line in text.split("\n"):
        if inside is None:
            opened = _OPENS.fullmatch(line.rstrip("\r"))
            if opened:
                mark, language = opened.groups()
                if language.lower() not in _PYTHON:
                    return None
                inside = []
        elif line.strip() == mark:
            found.append("\n".join(inside))
            inside = None
        else:
            inside.append(line)
    if inside is not None:
        found.append("\n".join(inside))
    if not found:
        found = [text]
    found = [snippet for snippet in found if snippet.strip()]
    return tuple(found) or None


def fenced(codes: list[str]) -> str:
    """Snippets as one text that ``snippets`` takes apart again."""
    if len(codes) == 1:
        return codes[0]
    return "\n".join(f"```python\n{code}\n```" for code in codes)


def parsed(source: str) -> ast.Module | None:
    """The syntax tree of a snippet; ``None`` if it is not Python, empty, or nested too deeply."""
    try:
        # The warning filters belong to the whole process, so they are touched only where needed.
        if _WARNS.search(source):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source.strip())
        else:
            tree = ast.parse(source.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None
    return tree if tree.body else None


def nodes_of(tree: ast.AST) -> list[ast.AST]:
    """All nodes of a tree, itself first, contexts and operators left out; fast."""
    nodes = [tree]
    for node in nodes:
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, list):
                nodes += [part for part in value if isinstance(part, ast.AST)]
            elif isinstance(value, ast.AST) and value._fields:
                nodes.append(value)
    return nodes
