"""What a Python snippet calls and changes, as far as its text tells."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass

from tutelage.cascade.canonical.python_source import nodes_of, parsed, snippets

# They read their arguments and call none of them, but for a ``key``.
_HARMLESS = frozenset(
    (
        *("abs", "all", "any", "bool", "chr", "dict", "divmod", "enumerate", "float", "frozenset"),
        *("int", "isinstance", "len", "list", "max", "min", "ord", "print", "range", "repr"),
        *("reversed", "round", "set", "sorted", "str", "sum", "tuple", "zip"),
    )
)
_ODD_KEYWORDS = frozenset(("file", None))
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class CodeCalls:
    """The calls of a program and what else it may do."""

    called: frozenset[tuple[str, bool]]
    """Dotted names that are called, and whether each begins with a variable of the program."""
    mentioned: frozenset[str]
    """Dotted names that are read but not called: functions may be among them."""
    changes: bool
    """Whether it may change something without a call that can be named."""


def code_calls(text: str) -> CodeCalls | None:
    """What the Python of a text calls; ``None`` if it is no Python."""
    found = snippets(text)
    trees = [parsed(snippet) for snippet in found or ()]
    if not trees:
        return None
    nodes: list[ast.AST] = []
    for tree in trees:
        if tree is None:
            return None
        nodes += nodes_of(tree)
    return _read(nodes)


def _read(nodes: list[ast.AST]) -> CodeCalls:
    stored = Counter(_stored(nodes))
    functions = {node.name for node in nodes if isinstance(node, _FUNCTIONS)}
    aliases = _aliases(nodes, stored)
    called: set[tuple[str, bool]] = set()
    seen: set[int] = set()
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        seen |= _chain(node.func)
        name = dotted(node.func)
        if name is None:
            if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Constant):
                continue
            # A method of what another call gave, or something computed.
            name = f"*.{node.func.attr}" if isinstance(node.func, ast.Attribute) else "*"
            called.add((name, True))
            continue
        if name in functions and stored[name] == 1:
            continue
        if name in _HARMLESS and not stored[name]:
            called |= _called_by_key(node, aliases, stored)
        else:
            called.add(_resolved(name, aliases, stored))
    mentioned = {
        _resolved(name, aliases, stored)[0]
        for node in nodes
        if isinstance(node, ast.Attribute | ast.Name) and id(node) not in seen
        if (name := dotted(node)) is not None
    }
    changes = any(_changes(node) for node in nodes)
    return CodeCalls(frozenset(called), frozenset(mentioned), changes)


def _chain(node: ast.expr) -> set[int]:
    """The nodes of a dotted name."""
    found = {id(node)}
    while isinstance(node, ast.Attribute):
        node = node.value
        found.add(id(node))
    return found


def _called_by_key(
    node: ast.Call, aliases: dict[str, str], stored: Counter[str]
) -> set[tuple[str, bool]]:
    """What a harmless function calls all the same."""
    found: set[tuple[str, bool]] = set()
    for keyword in node.keywords:
        if keyword.arg in _ODD_KEYWORDS:
            found.add(("*", True))
        elif keyword.arg == "key" and not isinstance(keyword.value, ast.Lambda | ast.Constant):
            name = dotted(keyword.value)
            if name not in _HARMLESS or stored[name]:
                found.add(_resolved(name, aliases, stored) if name else ("*", True))
    return found


def _resolved(name: str, aliases: dict[str, str], stored: Counter[str]) -> tuple[str, bool]:
    """A dotted name with the alias at its beginning replaced, and whether a variable begins it."""
    root, dot, rest = name.partition(".")
    if root in aliases:
        root = aliases[root]
        return f"{root}{dot}{rest}", False
    return name, stored[root] > 0


def dotted(node: ast.expr) -> str | None:
    """The dotted name that an expression is; ``None`` for another one."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join((node.id, *reversed(parts)))


def _aliases(nodes: list[ast.AST], stored: Counter[str]) -> dict[str, str]:
    """Names that are set once: to a dotted name, or by an import."""
    found: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, name = node.targets[0], dotted(node.value)
            if isinstance(target, ast.Name) and name and not stored[name.partition(".")[0]]:
                found[target.id] = name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                path = f"{'.' * node.level}{node.module or ''}.{alias.name}"
                found[alias.asname or alias.name] = path
        elif isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                found[alias.asname or root] = alias.name if alias.asname else root
    return {name: path for name, path in found.items() if stored[name] == 1}


def _changes(node: ast.AST) -> bool:
    if isinstance(node, ast.ClassDef | ast.Global | ast.Nonlocal):
        return True
    if isinstance(node, _FUNCTIONS):
        return bool(node.decorator_list)
    if isinstance(node, ast.With | ast.AsyncWith):
        # Entering and leaving something that is no call cannot be named.
        return not all(isinstance(item.context_expr, ast.Call) for item in node.items)
    part = isinstance(node, ast.Attribute | ast.Subscript)
    return part and not isinstance(node.ctx, ast.Load)  # type: ignore[attr-defined]


def _stored(nodes: list[ast.AST]) -> list[str]:
    names: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.append(node.id)
        elif isinstance(node, ast.arg):
            names.append(node.arg)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar | ast.FunctionDef):
            names += [node.name] if node.name else []
        elif isinstance(node, ast.AsyncFunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.alias):
            names.append((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.MatchMapping) and node.rest:
            names.append(node.rest)
    return names
