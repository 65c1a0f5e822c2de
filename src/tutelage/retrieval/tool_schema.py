"""What the tools of a step look like, so that demonstrations of a changed tool are noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.retrieval.window import imitable_steps
from tutelage.runtime.steps import tool_calls
from tutelage.runtime.types import Trajectory


def tool_hashes(tools: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Hash of the parameters of each tool by its name; descriptions do not count."""
    hashes = {}
    for tool in tools:
        function = tool.get("function")
        shape = function if isinstance(function, Mapping) else tool
        name = shape.get("name")
        if isinstance(name, str):
            parameters = shape.get("parameters", shape.get("input_schema"))
            hashes[name] = _sha256(_without_descriptions(parameters))
    return hashes


def tool_set_sha256(hashes: Mapping[str, str]) -> str:
    """Hash of all tools of a step."""
    return _sha256(dict(hashes))


def called_tools(trajectory: Trajectory) -> set[str]:
    """Names of the tools that the steps to imitate call."""
    names = set()
    for index in imitable_steps(trajectory):
        for call in tool_calls(trajectory.turns[index].action) or ():
            names.add(str(call["function"]["name"]))
    return names


def _without_descriptions(schema: object) -> object:
    if isinstance(schema, Mapping):
        # A property may be called "description"; then its value is a schema, not a text.
        return {
            key: _without_descriptions(value)
            for key, value in schema.items()
            if not (key in ("description", "title") and isinstance(value, str))
        }
    if isinstance(schema, list):
        return [_without_descriptions(item) for item in schema]
    return schema


def _sha256(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
