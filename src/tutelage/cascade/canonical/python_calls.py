"""The calls that a Python snippet makes, in order, with their arguments."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass

from tutelage.cascade.canonical.python_constants import folded, is_constant, is_literal
from tutelage.cascade.canonical.python_source import nodes_of
from tutelage.cascade.canonical.python_tidy import acts

_RESULT = re.compile(r"_r[0-9]+")
_MOST_LINES = 500
# They read their arguments and nothing else, and their result is new.
PURE = frozenset(
    ("abs", "bool", "float", "int", "isinstance", "len", "range", "repr", "round", "str")
)


class Unresolved(Exception):
    """The calls of a snippet cannot be told without running it."""


@dataclass(slots=True)
class _Line:
    """One call, value or import; later lines use its result by number."""

    node: ast.expr | ast.stmt
    number: int | None
    dropped: bool = False
    """Whether it goes where nobody uses it: only what has no effect."""


def calls(tree: ast.Module) -> ast.Module:
    """The calls of a straight-line snippet as a snippet: ``_r0 = first()``, ``_r1 = second(_r0)``.

    Variables are replaced by what they stand for, constants are folded, and every value that is
    read from somewhere is read where the snippet reads it. What no call uses is left out, and so is
    what is printed: the calls are told as if nothing fails in between. The result of a snippet that
    comes from here is that snippet again.

    Args:
        tree: Tidied (``python_tidy``), with numbered local names (``python_scopes``).

    Raises:
        Unresolved: There is a branch, a loop, a definition, a change of an object's part, something
            lazy that calls, or no call at all.
        RecursionError: The tree is nested too deeply.
    """
    reading = _Reading()
    for statement in tree.body:
        reading.statement(statement)
    return _written(reading.lines)


class _Reading:
    """What is known while the statements are read in order."""

    def __init__(self) -> None:
        self.lines: list[_Line] = []
        self._values: dict[str, ast.expr] = {}
        self._free: set[str] = set()
        self._imported: set[str] = set()
        self._statements: dict[type[ast.stmt], Callable[..., None]] = {
            ast.Expr: self._expression,
            ast.Assign: self._assign,
            ast.AnnAssign: self._annotated,
            ast.AugAssign: self._augmented,
            ast.Import: self._import,
            ast.ImportFrom: self._import,
            ast.Pass: lambda statement: None,
        }

    def statement(self, statement: ast.stmt) -> None:
        read = self._statements.get(type(statement))
        if read is None or len(self.lines) > _MOST_LINES:
            raise Unresolved
        read(statement)

    def _expression(self, statement: ast.Expr) -> None:
        value = statement.value
        if not (
            isinstance(value, ast.Call)
            and self._is_builtin(value.func, frozenset(("print",)))
            and not value.keywords
        ):
            self._atom(value)
            return
        for argument in value.args:
            self._atom(argument.value if isinstance(argument, ast.Starred) else argument)

    def _assign(self, statement: ast.Assign) -> None:
        value = statement.value
        for target in statement.targets:
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                self._unpack(target, value)
                if len(statement.targets) > 1:
                    raise Unresolved
                return
        atom = self._atom(value)
        for target in statement.targets:
            self._set(target, atom)

    def _unpack(self, target: ast.Tuple, value: ast.Tuple) -> None:
        parts = [*target.elts, *value.elts]
        if len(target.elts) != len(value.elts) or any(isinstance(p, ast.Starred) for p in parts):
            raise Unresolved
        atoms = [self._atom(part) for part in value.elts]
        for name, atom in zip(target.elts, atoms, strict=True):
            self._set(name, atom)

    def _annotated(self, statement: ast.AnnAssign) -> None:
        if statement.value is None or acts(statement.annotation):
            raise Unresolved
        self._set(statement.target, self._atom(statement.value))

    def _augmented(self, statement: ast.AugAssign) -> None:
        if not isinstance(statement.target, ast.Name):
            raise Unresolved
        before = self._values.get(statement.target.id)
        after = self._atom(statement.value)
        # A list would be changed for everyone who holds it.
        if before is None or not is_constant(before) or not is_constant(after):
            raise Unresolved
        self._set(statement.target, self._atom(ast.BinOp(before, statement.op, after)))

    def _import(self, statement: ast.Import | ast.ImportFrom) -> None:
        for alias in statement.names:
            name = (alias.asname or alias.name).partition(".")[0]
            if name in self._free or name in self._values or name == "*":
                raise Unresolved
            self._free.add(name)
            self._imported.add(name)
        self.lines.append(_Line(statement, None, dropped=True))

    def _set(self, target: ast.expr, atom: ast.expr) -> None:
        if not isinstance(target, ast.Name):
            raise Unresolved
        self._values[target.id] = atom

    def _atom(self, node: ast.expr) -> ast.expr:
        """A constant or name that stands for the value of an expression computed now."""
        if isinstance(node, ast.Name):
            return self._named(node)
        if self._is_pure(node):
            return self._value(_Substitution(self._named).visit(_copied(node)))
        if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
            return self._line(ast.Await(self._call(node.value)))
        if isinstance(node, ast.Call):
            plain = not any(isinstance(argument, ast.Starred) for argument in node.args)
            pure = plain and self._is_builtin(node.func, PURE)
            return self._line(self._call(node), dropped=pure)
        return self._value(self._computed(node))

    def _value(self, node: ast.expr) -> ast.expr:
        node = folded(node)
        return node if is_constant(node) else self._line(node, dropped=True)

    def _named(self, node: ast.Name) -> ast.expr:
        found = self._values.get(node.id)
        if found is not None:
            return found
        if _RESULT.fullmatch(node.id):
            raise Unresolved
        self._free.add(node.id)
        return ast.Name(node.id, ast.Load())

    def _computed(self, node: ast.expr) -> ast.expr:
        """An expression with a call inside, its parts in the order in which they are computed."""
        if isinstance(node, ast.Attribute):
            node = ast.Attribute(self._atom(node.value), node.attr, ast.Load())
        elif isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice):
            base = self._atom(node.value)
            node = ast.Subscript(base, self._atom(node.slice), ast.Load())
        elif isinstance(node, ast.BinOp):
            left = self._atom(node.left)
            node = ast.BinOp(left, node.op, self._atom(node.right))
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            parts = [self._starred(part) for part in node.elts]
            node = ast.Set(parts) if isinstance(node, ast.Set) else type(node)(parts, ast.Load())
        elif isinstance(node, ast.Dict):
            if None in node.keys:
                raise Unresolved
            pairs = [
                (self._atom(key), self._atom(value))
                for key, value in zip(node.keys, node.values, strict=True)
                if key is not None
            ]
            node = ast.Dict([key for key, _ in pairs], [value for _, value in pairs])
        elif isinstance(node, ast.JoinedStr):
            node = ast.JoinedStr([self._formatted(part) for part in node.values])
        else:
            raise Unresolved
        return node

    def _formatted(self, part: ast.expr) -> ast.expr:
        if not isinstance(part, ast.FormattedValue):
            return part
        if part.format_spec is not None and not _is_plain_text(part.format_spec):
            raise Unresolved
        made = self._atom(part.value)
        if is_constant(made) and part.conversion == -1 and part.format_spec is None:
            return ast.FormattedValue(made, -1, None)
        # Its text is made before the next part is computed.
        text = ast.JoinedStr([ast.FormattedValue(made, part.conversion, part.format_spec)])
        return ast.FormattedValue(self._line(text, dropped=True), -1, None)

    def _starred(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Starred):
            return ast.Starred(self._atom(node.value), ast.Load())
        return self._atom(node)

    def _call(self, node: ast.Call) -> ast.Call:
        function = self._function(node.func)
        args = [self._starred(argument) for argument in node.args]
        keywords = [ast.keyword(part.arg, self._atom(part.value)) for part in node.keywords]
        if all(part.arg is not None for part in keywords):
            keywords.sort(key=lambda part: part.arg or "")
        return ast.Call(function, args, keywords)

    def _function(self, node: ast.expr) -> ast.expr:
        """What is called: a dotted name stays together, so that it can be told which one it is."""
        if isinstance(node, ast.Attribute):
            return ast.Attribute(self._function(node.value), node.attr, ast.Load())
        return self._atom(node)

    def _line(self, node: ast.expr, *, dropped: bool = False) -> ast.expr:
        self.lines.append(_Line(node, len(self.lines), dropped))
        return ast.Name(f"_r{len(self.lines) - 1}", ast.Load())

    def _is_pure(self, node: ast.expr) -> bool:
        queue: list[ast.AST] = [node]
        while queue:
            part = queue.pop()
            if isinstance(part, ast.Call):
                if not self._is_builtin(part.func, PURE):
                    return False
            elif isinstance(part, ast.Lambda | ast.GeneratorExp | ast.Starred) or _acts_itself(
                part
            ):
                return False
            queue += ast.iter_child_nodes(part)
        return True

    def _is_builtin(self, node: ast.expr, names: frozenset[str]) -> bool:
        if not isinstance(node, ast.Name) or node.id not in names:
            return False
        return node.id not in self._values and node.id not in self._imported


class _Substitution(ast.NodeTransformer):
    def __init__(self, named: Callable[[ast.Name], ast.expr]) -> None:
        self._named = named
        self._bound: set[str] = set()

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self._bound or not isinstance(node.ctx, ast.Load):
            return node
        found = self._named(node)
        if isinstance(found, ast.Name) and found.id in self._bound:
            raise Unresolved
        return found

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        return folded(node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if all(part.arg is not None for part in node.keywords):
            node.keywords.sort(key=lambda part: part.arg or "")
        return node

    def _comprehension(self, node: ast.expr) -> ast.expr:
        bound = {
            part.id
            for part in nodes_of(node)
            if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load)
        }
        first = node.generators[0].iter  # type: ignore[attr-defined]
        reads = {part.id for part in nodes_of(first) if isinstance(part, ast.Name)}
        if bound & reads or bound & self._bound:
            # One name for two things: the snippet looked at its own names and was not renumbered.
            raise Unresolved
        self._bound |= bound
        try:
            self.generic_visit(node)
        finally:
            self._bound -= bound
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = _comprehension


def _copied(node: ast.expr) -> ast.expr:
    """A tree of its own; what ``copy.deepcopy`` gives, several times as fast."""

    def part(value: object) -> object:
        if isinstance(value, ast.AST):
            return type(value)(*[part(getattr(value, name)) for name in value._fields])
        return [part(one) for one in value] if isinstance(value, list) else value

    copied = part(node)
    assert isinstance(copied, ast.expr)
    return copied


def _is_plain_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) and all(
        isinstance(part, ast.Constant) for part in node.values
    )


def _acts_itself(node: ast.AST) -> bool:
    """Whether a node, apart from its parts, may do something other than call."""
    return isinstance(node, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr)


def _uses(node: ast.AST) -> list[str]:
    return [part.id for part in nodes_of(node) if isinstance(part, ast.Name)]


def _written(lines: list[_Line]) -> ast.Module:
    used: set[str] = set()
    counts: dict[str, int] = {}
    kept: list[_Line] = []
    for line in reversed(lines):
        if line.dropped and not _names_of(line) & used:
            continue
        kept.append(line)
        for name in _uses(line.node):
            used.add(name)
            counts[name] = counts.get(name, 0) + 1
    kept.reverse()
    if all(line.dropped for line in kept):
        raise Unresolved
    body: list[ast.stmt] = []
    named: dict[str, ast.expr] = {}
    for line in kept:
        if isinstance(line.node, ast.stmt):
            body.append(line.node)
            continue
        node = _Substitution(lambda name: named.get(name.id, name)).visit(line.node)
        old = f"_r{line.number}"
        if line.dropped and counts[old] == 1 and is_literal(node):
            named[old] = node
            continue
        if counts.get(old):
            new = f"_r{len([part for part in body if isinstance(part, ast.Assign)])}"
            named[old] = ast.Name(new, ast.Load())
            body.append(ast.Assign([ast.Name(new, ast.Store())], node, lineno=1))
        else:
            body.append(ast.Expr(node))
    return ast.Module(body, [])


def _names_of(line: _Line) -> set[str]:
    if isinstance(line.node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in line.node.names}
    return {f"_r{line.number}"}
