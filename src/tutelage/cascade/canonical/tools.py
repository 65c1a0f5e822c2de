"""Tool calls in one comparable form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.runtime.types import Action


def tool_action(calls: Sequence[Mapping[str, Any]]) -> Action | None:
    """The action of a message's tool calls: names and JSON arguments with sorted keys, in order.

    Call ids do not count. Schema defaults, coercions and the order of independent calls are not
    resolved: calls that differ there are different actions.

    Returns:
        ``None`` if there is no call, or one has no name or no JSON object as its arguments.
    """
    try:
        plain = [_plain(call) for call in calls]
        key = json.dumps(
            {"tool_calls": plain}, sort_keys=True, separators=(",", ":"), allow_nan=False
        )
    except (ValueError, RecursionError):
        return None
    return Action(kind="tool", key=key) if plain else None


def past_tool_action(text: str) -> Action | None:
    """The action of ``{"tool_calls": [...]}`` as a history holds it, else ``None``."""
    if not text.startswith('{"tool_calls":'):
        return None
    try:
        calls = json.loads(text)["tool_calls"]
    except (ValueError, RecursionError):
        return None
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        return None
    return tool_action(calls)


def _plain(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function", call)
    if not isinstance(function, Mapping):
        raise ValueError("a tool call without a function")
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name:
        raise ValueError("a tool call without a name")
    if isinstance(arguments, str):
        # Some endpoints send an empty string for a call without arguments.
        arguments = json.loads(arguments) if arguments.strip() else {}
    if not isinstance(arguments, dict):
        raise ValueError("the arguments of a tool call are not a JSON object")
    return {"name": name, "arguments": arguments}
