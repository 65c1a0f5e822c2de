"""Tools and the choice among them, between the Responses API and chat.

A custom tool, whose input is free text, becomes a function with one argument ``input``, so that any
model can call it; what it was is kept for an upstream that knows custom tools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from tutelage.runtime.errors import BadRequest
from tutelage.runtime.wires.fields import check_choice, check_list, check_object, check_text, wrong
from tutelage.runtime.wires.responses_ids import KEPT, kept_in

_CHOICES = frozenset({"auto", "none", "required"})
_INPUT = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
_FUNCTION_FIELDS = ("name", "description", "parameters", "strict")


def chat_tools(tools: Sequence[object]) -> list[dict[str, Any]]:
    """The functions and custom tools as chat tools; hosted tools are left out.

    Raises:
        BadRequest: A tool is malformed.
    """
    made: list[dict[str, Any]] = []
    for index, tool in enumerate(tools):
        path = f"tools.{index}"
        fields = check_object(tool, path)
        kind = check_text(fields.get("type"), f"{path}.type", empty=False)
        if kind == "function":
            made.append({"type": "function", "function": _function(fields, path)})
        elif kind == "custom":
            made.append(_custom(fields, path))
    return made


def hosted_tools(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """The types of the tools that only the Responses API has, in order."""
    found = []
    for tool in tools:
        callers = tool.get("allowed_callers")
        if tool["type"] not in ("function", "custom"):
            found.append(str(tool["type"])[:40])
        elif tool.get("defer_loading") or (isinstance(callers, list) and "programmatic" in callers):
            found.append("defer_loading" if tool.get("defer_loading") else "allowed_callers")
    return found


def has_grammar(tool: Mapping[str, Any]) -> bool:
    """Whether a tool restricts its input to a grammar, which a student cannot promise."""
    return tool.get("type") == "custom" and (tool.get("format") or {}).get("type") == "grammar"


def custom_names(tools: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Names of the custom tools."""
    return frozenset(str(tool["name"]) for tool in tools if tool["type"] == "custom")


def chat_choice(
    choice: object, tools: list[dict[str, Any]]
) -> tuple[str | dict[str, Any] | None, list[dict[str, Any]]]:
    """The choice in chat shape, and the tools that it leaves; ``None`` for a hosted tool's.

    Raises:
        BadRequest: The choice is malformed, or names a tool that is not there.
    """
    if isinstance(choice, str):
        return check_choice(choice, "tool_choice", _CHOICES), tools
    if not isinstance(choice, Mapping):
        raise wrong("tool_choice", choice, "auto, none, required or an object")
    kind = check_text(choice.get("type"), "tool_choice.type", empty=False)
    if kind in ("function", "custom"):
        name = _known(choice.get("name"), "tool_choice.name", tools)
        return {"type": "function", "function": {"name": name}}, tools
    if kind == "allowed_tools":
        path = "tool_choice.tools"
        allowed = check_list(choice.get("tools"), path, empty=False)
        if any(
            check_object(tool, f"{path}.{index}").get("type") not in ("function", "custom")
            for index, tool in enumerate(allowed)
        ):
            return None, tools
        names = {
            _known(tool.get("name"), f"{path}.{index}.name", tools)
            for index, tool in enumerate(allowed)
        }
        left = [tool for tool in tools if tool["function"]["name"] in names]
        mode = check_choice(
            choice.get("mode", "auto"), "tool_choice.mode", frozenset({"auto", "required"})
        )
        return mode, left
    return None, tools


def response_tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Chat tools as tools of a Responses call.

    Raises:
        BadRequest: A tool is no function.
    """
    made = []
    for index, tool in enumerate(tools):
        function = tool.get("function")
        kept = kept_in(tool)
        if kept.get("type") == "custom":
            made.append(dict(kept))
        elif tool.get("type", "function") == "function" and isinstance(function, Mapping):
            # The default of ``strict`` is not the same in the two APIs.
            fields = {"parameters": {"type": "object", "properties": {}}, "strict": False}
            given = {name: value for name, value in function.items() if value is not None}
            made.append({"type": "function", **fields, **given})
        else:
            raise BadRequest(
                f"tools.{index}.type = {str(tool.get('type'))[:40]!r}: the teacher's endpoint takes"
                " only functions",
                param=f"tools.{index}.type",
                code="unsupported_value",
            )
    return made


def response_choice(choice: object, tools: Sequence[Mapping[str, Any]]) -> Any:
    """A chat tool choice as that of a Responses call."""
    if not isinstance(choice, Mapping):
        return choice
    if choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools") or {}
        named = [response_choice(tool, tools) for tool in allowed.get("tools") or ()]
        return {"type": "allowed_tools", "mode": allowed.get("mode", "auto"), "tools": named}
    name = (choice.get("function") or {}).get("name")
    is_custom = name in {
        kept.get("name") for kept in map(kept_in, tools) if kept.get("type") == "custom"
    }
    return {"type": "custom" if is_custom else "function", "name": name}


def custom_arguments(input: str) -> str:
    """The arguments of the function that stands for a custom tool."""
    return orjson.dumps({"input": input}).decode()


def custom_input(arguments: str) -> str:
    """The input of a custom tool, from the arguments of the function that stands for it."""
    try:
        found = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments
    if isinstance(found, dict) and isinstance(found.get("input"), str):
        return str(found["input"])
    return arguments


def _function(tool: Mapping[str, Any], path: str) -> dict[str, Any]:
    check_text(tool.get("name"), f"{path}.name", empty=False)
    if tool.get("parameters") is not None:
        check_object(tool["parameters"], f"{path}.parameters")
    return {name: tool[name] for name in _FUNCTION_FIELDS if tool.get(name) is not None}


def _custom(tool: Mapping[str, Any], path: str) -> dict[str, Any]:
    name = check_text(tool.get("name"), f"{path}.name", empty=False)
    format = check_object(tool.get("format") or {}, f"{path}.format")
    described = [str(tool.get("description") or "").strip()]
    if format.get("type") == "grammar":
        described.append(
            f"The input must match this {format.get('syntax')} grammar:\n{format.get('definition')}"
        )
    function: dict[str, Any] = {"name": name, "parameters": _INPUT}
    description = "\n\n".join(text for text in described if text)
    if description:
        function["description"] = description
    return {"type": "function", "function": function, KEPT: dict(tool)}


def _known(name: object, path: str, tools: list[dict[str, Any]]) -> str:
    text = check_text(name, path, empty=False)
    if all(tool["function"]["name"] != text for tool in tools):
        raise BadRequest(
            f"{path} = {text[:80]!r}: no such tool in tools", param=path, code="invalid_value"
        )
    return text
