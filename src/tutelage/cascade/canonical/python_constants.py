"""Constants of a Python tree: what they are made of, and what operations on them give."""

from __future__ import annotations

import ast

_LONGEST_TEXT = 10_000
_LARGEST = 2**63


def is_constant(node: ast.AST) -> bool:
    """Whether a node is a constant, or a negative number: an operation in Python's grammar."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
        return isinstance(node, ast.Constant) and type(node.value) in (int, float)
    return isinstance(node, ast.Constant)


def is_literal(node: ast.AST) -> bool:
    """Whether an expression is made of constants alone, so that it may be computed at any time."""
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return all(is_literal(part) for part in node.elts)
    if isinstance(node, ast.Dict):
        parts = [*node.keys, *node.values]
        return all(part is not None and is_literal(part) for part in parts)
    return is_constant(node)


def folded(node: ast.expr) -> ast.expr:
    """The constant that an operation on constants gives; else the node.

    Sums, differences and products of integers below 2**63, joined texts, and f-strings without a
    format are computed.
    """
    if isinstance(node, ast.BinOp):
        left, right = folded(node.left), folded(node.right)
        made = _operated(_value(left), node.op, _value(right))
        return ast.BinOp(left, node.op, right) if made is None else made
    if isinstance(node, ast.JoinedStr):
        texts = [_text(part) for part in node.values]
        known = [text for text in texts if text is not None]
        if len(known) == len(texts):
            return ast.Constant("".join(known))
    return node


def _value(node: ast.expr) -> int | str | None:
    if isinstance(node, ast.Constant) and type(node.value) in (int, str):
        value: int | str = node.value  # type: ignore[assignment]
        return value
    if isinstance(node, ast.UnaryOp) and is_constant(node):
        inner = _value(node.operand)
        return -inner if isinstance(inner, int) else None
    return None


def _operated(
    left: int | str | None, operator: ast.operator, right: int | str | None
) -> ast.expr | None:
    if isinstance(left, str) and isinstance(right, str) and isinstance(operator, ast.Add):
        return ast.Constant(left + right) if len(left) + len(right) < _LONGEST_TEXT else None
    if not isinstance(left, int) or not isinstance(right, int):
        return None
    if max(abs(left), abs(right)) >= _LARGEST:
        return None
    if isinstance(operator, ast.Add):
        value = left + right
    elif isinstance(operator, ast.Sub):
        value = left - right
    elif isinstance(operator, ast.Mult):
        value = left * right
    else:
        return None
    if abs(value) >= _LARGEST:
        return None
    return ast.Constant(value) if value >= 0 else ast.UnaryOp(ast.USub(), ast.Constant(-value))


def _text(part: ast.expr) -> str | None:
    if isinstance(part, ast.Constant) and isinstance(part.value, str):
        return part.value
    if isinstance(part, ast.FormattedValue) and part.conversion == -1 and part.format_spec is None:
        value = _value(folded(part.value))
        return None if value is None else str(value)
    return None
