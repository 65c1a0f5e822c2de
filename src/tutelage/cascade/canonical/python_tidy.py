"""What a Python tree says twice or in several ways, once and in one way."""

from __future__ import annotations

import ast

from tutelage.cascade.canonical.python_source import nodes_of

_ACTS = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)
_DOCUMENTED = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def tidied(tree: ast.Module, *, docstrings: bool) -> ast.Module:
    """The tree, changed in place: docstrings out, plain f-strings as text, keywords sorted.

    Keyword arguments are only sorted where their values may be computed in any order. Comments,
    quotes, escapes and the spelling of numbers are gone already: the tree has none.

    Args:
        tree: Of one snippet.
        docstrings: Whether docstrings are kept.

    Raises:
        RecursionError: The tree is nested too deeply.
    """
    nodes = nodes_of(tree)
    for node in nodes:
        if isinstance(node, ast.Constant):
            node.kind = None
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, ast.JoinedStr) and name != "format_spec":
                setattr(node, name, _plain(value))
            elif isinstance(value, list):
                value[:] = [
                    _plain(part) if isinstance(part, ast.JoinedStr) else part for part in value
                ]
    # Only now: a plain f-string is as good as a text.
    for node in nodes:
        if isinstance(node, _DOCUMENTED) and not docstrings:
            _undocument(node)
        elif isinstance(node, ast.Call):
            _sort_keywords(node)
    return tree


def acts(node: ast.AST) -> bool:
    """Whether computing an expression may do something: it calls, awaits, yields or assigns."""
    return any(isinstance(part, _ACTS) for part in nodes_of(node))


def _undocument(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
    count = 0
    for statement in node.body:
        value = statement.value if isinstance(statement, ast.Expr) else None
        if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
            break
        count += 1
    del node.body[:count]
    if not node.body and not isinstance(node, ast.Module):
        node.body.append(ast.Pass())


def _sort_keywords(call: ast.Call) -> None:
    keywords = call.keywords
    if len(keywords) < 2 or any(keyword.arg is None for keyword in keywords):
        return
    if any(acts(keyword.value) for keyword in keywords):
        others = [keyword for keyword in keywords if not isinstance(keyword.value, ast.Constant)]
        if len(others) > 1:
            return
    keywords.sort(key=lambda keyword: keyword.arg or "")


def _plain(text: ast.JoinedStr) -> ast.expr:
    parts = [part.value for part in text.values if isinstance(part, ast.Constant)]
    if len(parts) < len(text.values):
        return text
    return ast.Constant("".join(str(part) for part in parts))
