"""Local names of a Python tree by number: programs that differ in them alone become one."""

from __future__ import annotations

import ast
import builtins
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tutelage.cascade.canonical.python_source import nodes_of

_NEW = re.compile(r"_v[0-9]+")
_BUILTINS = frozenset(dir(builtins))
# These see names as text, or give names another scope.
_TELLING = frozenset(
    ("__code__", "__dict__", "dir", "eval", "exec", "globals", "inspect", "locals", "vars")
)
_BY_POSITION = frozenset(("filter", "map", "max", "min", "reduce", "sorted"))

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_NAMED = (*_FUNCTIONS, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(slots=True)
class _Scope:
    renamed: set[str]
    kept: set[str]
    numbers: dict[str, str] = field(default_factory=dict)


def renumbered(tree: ast.Module, *, stateful: bool) -> ast.Module:
    """The tree with its local names replaced by ``_v0``, ``_v1``, … in order of appearance.

    Local are the variables of functions and comprehensions, and the parameters of a lambda that is
    called by position (``key=``, ``map``, ``filter``, …). Names of functions, classes, parameters
    and imports stay: others may use them. A snippet that looks at its own names, or moves them
    between scopes, is left as it is.

    Args:
        tree: Of one snippet; changed in place.
        stateful: Whether later snippets see the variables of the top level; they keep their names
            then. Otherwise those that are surely set before they are read are local as well.

    Raises:
        RecursionError: The tree is nested too deeply.
    """
    looks_new = False
    for node in nodes_of(tree):
        if isinstance(node, ast.ClassDef | ast.Global | ast.Nonlocal):
            return tree
        looks_new = looks_new or any(name.startswith("_v") for name in _names_of(node))
        if isinstance(node, ast.Name) and node.id in _TELLING:
            return tree
        if isinstance(node, ast.Attribute) and node.attr in _TELLING:
            return tree
    top = set() if stateful else _set_before_read(tree)
    every = _Scope(top, set())
    # A name that looks like a new one keeps its meaning only if none is given.
    if looks_new and any(_NEW.fullmatch(name) for name in _kept_names(tree, every)):
        return tree
    _Renaming().walk(tree, (every,))
    return tree


class _Renaming:
    """Walks a tree with the scopes that surround each node."""

    def __init__(self) -> None:
        self._count = 0

    def walk(self, node: ast.AST, scopes: tuple[_Scope, ...]) -> None:
        for part, around in _scoped(node, scopes):
            if isinstance(part, ast.Name):
                part.id = self._name(part.id, around)
            elif isinstance(part, ast.arg):
                part.arg = self._name(part.arg, around)
                if part.annotation is not None:
                    self.walk(part.annotation, around)
            elif isinstance(part, ast.ExceptHandler):
                if part.name is not None:
                    part.name = self._name(part.name, around)
                self.walk(part, around)
            else:
                self.walk(part, around)

    def _name(self, name: str, scopes: tuple[_Scope, ...]) -> str:
        for scope in reversed(scopes):
            if name in scope.kept:
                return name
            if name in scope.renamed:
                new = scope.numbers.get(name)
                if new is None:
                    new = scope.numbers[name] = f"_v{self._count}"
                    self._count += 1
                return new
        return name


def _kept_names(node: ast.AST, top: _Scope) -> set[str]:
    kept: set[str] = set()

    def look(node: ast.AST, scopes: tuple[_Scope, ...]) -> None:
        for part, around in _scoped(node, scopes):
            for name in _names_of(part):
                scope = next((s for s in reversed(around) if name in s.kept | s.renamed), None)
                if scope is None or name in scope.kept:
                    kept.add(name)
            look(part, around)

    look(node, (top,))
    return kept


def _names_of(node: ast.AST) -> tuple[str, ...]:
    """Names that a node itself binds or reads."""
    name = None
    if isinstance(node, ast.Name):
        name = node.id
    elif isinstance(node, ast.arg):
        name = node.arg
    elif isinstance(node, ast.alias):
        name = node.asname or node.name
    elif isinstance(node, _NAMED):
        name = node.name
    elif isinstance(node, ast.MatchMapping):
        name = node.rest
    return (name,) if name else ()


def _scoped(
    node: ast.AST, scopes: tuple[_Scope, ...]
) -> Iterator[tuple[ast.AST, tuple[_Scope, ...]]]:
    """The children of a node in source order of their fields, each with its scopes."""
    if isinstance(node, _FUNCTIONS):
        inner = (*scopes, _function_scope(node.args, node.body))
        yield from ((part, scopes) for part in node.decorator_list)
        yield from _arguments(node.args, scopes, inner)
        if node.returns is not None:
            yield node.returns, scopes
        yield from ((part, inner) for part in node.body)
    elif isinstance(node, ast.Call):
        named = isinstance(node.func, ast.Name) and node.func.id in _BY_POSITION
        for part in ast.iter_child_nodes(node):
            plain = named and isinstance(part, ast.Lambda)
            yield from _lambda(part, scopes) if plain else [(part, scopes)]
    elif isinstance(node, ast.keyword) and node.arg == "key":
        yield from _lambda(node.value, scopes)
    elif isinstance(node, ast.Lambda):
        inner = (*scopes, _function_scope(node.args, [node.body]))
        yield from _arguments(node.args, scopes, inner)
        yield node.body, inner
    elif isinstance(node, _COMPREHENSIONS):
        stored = {name for part in node.generators for name in _stored([part.target])}
        inner = (*scopes, _Scope(stored, set()))
        first = node.generators[0]
        yield first.iter, scopes
        for part in node.generators:
            yield part.target, inner
            if part is not first:
                yield part.iter, inner
            yield from ((condition, inner) for condition in part.ifs)
        parts = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
        yield from ((part, inner) for part in parts)
    else:
        yield from ((part, scopes) for part in ast.iter_child_nodes(node))


def _lambda(
    node: ast.AST, scopes: tuple[_Scope, ...]
) -> Iterator[tuple[ast.AST, tuple[_Scope, ...]]]:
    """A lambda whose parameters are nobody's business; anything else as it is."""
    if not isinstance(node, ast.Lambda):
        yield node, scopes
        return
    names = {part.arg for part in _parameters(node.args)}
    walrus = _stored([node.body])
    inner = (*scopes, _Scope(names | walrus, set()))
    yield from _arguments(node.args, scopes, inner)
    yield node.body, inner


def _arguments(
    found: ast.arguments, outer: tuple[_Scope, ...], inner: tuple[_Scope, ...]
) -> Iterator[tuple[ast.AST, tuple[_Scope, ...]]]:
    for part in _parameters(found):
        # An annotation is read outside, a parameter bound inside; both must name the same.
        yield part, inner
    defaults = [*found.defaults, *(part for part in found.kw_defaults if part is not None)]
    yield from ((part, outer) for part in defaults)


def _parameters(found: ast.arguments) -> list[ast.arg]:
    parts = [*found.posonlyargs, *found.args, found.vararg, *found.kwonlyargs, found.kwarg]
    return [part for part in parts if part is not None]


def _function_scope(parameters: ast.arguments, body: Sequence[ast.AST]) -> _Scope:
    kept = {part.arg for part in _parameters(parameters)}
    for part in _parameters(parameters):
        if part.annotation is not None:
            # Read in the scope outside, where such a name must not be taken for a local one.
            kept |= {node.id for node in nodes_of(part.annotation) if isinstance(node, ast.Name)}
    kept |= _defined(body)
    return _Scope(_stored(body) - kept, kept)


def _own(nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """All nodes that bind names in the scope of these, comprehensions only for their walruses."""
    queue = list(nodes)
    while queue:
        node = queue.pop()
        yield node
        if isinstance(node, _FUNCTIONS):
            queue += [*node.decorator_list, *node.args.defaults]
            queue += [part for part in node.args.kw_defaults if part is not None]
        elif isinstance(node, ast.Lambda):
            queue += [*node.args.defaults]
            queue += [part for part in node.args.kw_defaults if part is not None]
        elif isinstance(node, _COMPREHENSIONS):
            queue += [part.target for part in nodes_of(node) if isinstance(part, ast.NamedExpr)]
        else:
            queue += ast.iter_child_nodes(node)


def _stored(nodes: Sequence[ast.AST]) -> set[str]:
    names: set[str] = set()
    for node in _own(nodes):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name is not None:
            names.add(node.name)
    return names


def _defined(nodes: Sequence[ast.AST]) -> set[str]:
    """Names that the scope of these nodes binds otherwise than as a variable."""
    names: set[str] = set()
    for node in _own(nodes):
        if isinstance(node, _FUNCTIONS):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            names.add(node.rest)
    return names


def _set_before_read(tree: ast.Module) -> set[str]:
    """Variables of the top level that are set, unconditionally, before anything reads them.

    Others may be somebody else's: of the host that runs the snippet, or of Python itself.
    """
    kept = set(_BUILTINS) | _defined(tree.body)
    sure: set[str] = set()
    total = Counter(_every_name(tree))

    def read(*nodes: ast.AST | None) -> None:
        for node in nodes:
            if node is not None:
                kept.update(name for name in _every_name(node) if name not in sure)

    def bind(target: ast.AST) -> None:
        read(*(part for part in nodes_of(target) if isinstance(part, ast.Attribute)))
        read(*(part for part in nodes_of(target) if isinstance(part, ast.Subscript)))
        sure.update(_stored([target]) - kept)

    def visit(statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            if isinstance(statement, ast.Assign):
                read(statement.value)
                for target in statement.targets:
                    bind(target)
            elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
                read(statement.value, statement.annotation)
                bind(statement.target)
            elif isinstance(statement, ast.With | ast.AsyncWith):
                for item in statement.items:
                    read(item.context_expr)
                    if item.optional_vars is not None:
                        bind(item.optional_vars)
                # It may swallow an error of its body, and with it what the body would have set.
                read(*statement.body)
            elif isinstance(statement, ast.For | ast.AsyncFor):
                read(statement.iter)
                inside = Counter(
                    name
                    for part in (statement.target, *statement.body)
                    for name in _every_name(part)
                )
                names = _stored([statement.target]) - kept
                # An empty loop sets nothing, so nobody outside may look.
                sure.update(name for name in names if inside[name] == total[name])
                read(statement.target, *statement.body, *statement.orelse)
            elif isinstance(statement, ast.Delete):
                kept.update(_stored([statement]))
            else:
                read(statement)

    visit(tree.body)
    deleted = {
        node.id
        for node in nodes_of(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del)
    }
    return {name for name in sure - kept - deleted if not name.startswith("__")}


def _every_name(node: ast.AST) -> Iterator[str]:
    """Names of the top level in a part of it, each as often as it stands there."""

    def look(part: ast.AST, scopes: tuple[_Scope, ...]) -> Iterator[str]:
        for name in _names_of(part):
            if not any(name in scope.renamed or name in scope.kept for scope in scopes):
                yield name
        for below, around in _scoped(part, scopes):
            yield from look(below, around)

    return look(node, ())
