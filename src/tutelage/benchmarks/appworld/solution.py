"""A published solution as the steps of an agent."""

from __future__ import annotations

import ast


def solution_steps(code: str) -> list[str]:
    """Blocks of code that do one after the other what ``solution(apis, requester)`` does.

    Every block ends with a statement that calls an API. A solution that returns early stays whole.

    Args:
        code: A module with a function ``solution``.

    Raises:
        ValueError: It has no such function, or is no Python.
    """
    module = ast.parse(code)
    solution = next(
        (
            node
            for node in module.body
            if isinstance(node, ast.FunctionDef) and node.name == "solution"
        ),
        None,
    )
    if solution is None:
        raise ValueError("no function named solution")
    if any(isinstance(node, ast.Return) for node in _own(solution)):
        return [f"{code.strip()}\nsolution(apis, requester)"]
    body = solution.body[1:] if ast.get_docstring(solution) is not None else solution.body
    steps: list[str] = []
    waiting: list[str] = []
    for statement in (*(node for node in module.body if node is not solution), *body):
        waiting.append(ast.unparse(statement))
        if _calls_api(statement):
            steps.append("\n".join(waiting))
            waiting = []
    return [*steps, "\n".join(waiting)] if waiting else steps


def _own(function: ast.FunctionDef) -> list[ast.AST]:
    """Nodes of a function without those of functions inside it."""
    found: list[ast.AST] = []
    left: list[ast.AST] = list(function.body)
    while left:
        node = left.pop()
        found.append(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            left += ast.iter_child_nodes(node)
    return found


def _calls_api(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.FunctionDef):
        return False
    return any(
        isinstance(node, ast.Name) and node.id in {"apis", "requester"}
        for node in ast.walk(statement)
    )
