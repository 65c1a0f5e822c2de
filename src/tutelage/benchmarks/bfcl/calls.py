"""Function calls as agents write them (JSON) and as the package runs them (Python)."""

from __future__ import annotations

import ast
import json
import keyword
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class NotCalls(Exception):
    """An answer is meant as function calls and is none."""


@dataclass(frozen=True, slots=True)
class Call:
    """One function call."""

    name: str
    arguments: Mapping[str, Any]

    @property
    def python(self) -> str:
        """The call as a Python expression of literals only.

        Raises:
            NotCalls: A name is no Python name.
        """
        for name in (self.name, *self.arguments):
            if not name.isidentifier() or keyword.iskeyword(name):
                raise NotCalls(f"{name!r} cannot be the name of a function or argument")
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.name}({arguments})"


def action_of(calls: Sequence[Call]) -> str:
    """Calls as an action, in the form in which tool calls stand in histories."""
    # Arguments are text inside the text, as on the wire.
    shown = [
        {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
        for call in calls
    ]
    return json.dumps({"tool_calls": shown}, separators=(",", ":"), ensure_ascii=False)


def read_python(text: str, parameters: Mapping[str, Sequence[str]]) -> Call:
    """A call that is written in Python, as ground truths are.

    Args:
        text: E.g. ``mean([1, 2])`` or ``cd(folder='documents')``.
        parameters: Names of arguments by function, in their order.

    Raises:
        ValueError: It is no call of literals.
    """
    expression = ast.parse(text, mode="eval").body
    if not isinstance(expression, ast.Call) or not isinstance(expression.func, ast.Name):
        raise ValueError(f"not a function call: {text}")
    name = expression.func.id
    arguments = {
        place: ast.literal_eval(value)
        for place, value in zip(parameters.get(name, ()), expression.args, strict=False)
    }
    for given in expression.keywords:
        if given.arg is None:
            raise ValueError(f"not a call with plain arguments: {text}")
        arguments[given.arg] = ast.literal_eval(given.value)
    return Call(name, arguments)


def read_action(action: str) -> tuple[Call, ...]:
    """The calls of an action; none where it is plain words.

    Args:
        action: ``{"tool_calls": [{"name", "arguments"}]}``; arguments are an object or its JSON,
            and may stand in ``function`` as on the wire.

    Raises:
        NotCalls: It is JSON, or was meant to be, but names no calls.
    """
    text = action.strip()
    if not text.startswith(("{", "[")) and '"tool_calls"' not in text:
        return ()
    try:
        return tuple(_call(one) for one in json.loads(text)["tool_calls"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NotCalls('a call is {"tool_calls":[{"name":...,"arguments":"{...}"}]}') from error


def _call(one: Mapping[str, Any]) -> Call:
    function = one.get("function", one)
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not isinstance(function["name"], str) or not isinstance(arguments, Mapping):
        raise TypeError("a call has a name and an object of arguments")
    return Call(function["name"], dict(arguments))
