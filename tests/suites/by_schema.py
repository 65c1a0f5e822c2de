"""Plausible JSON for a schema, from the words of a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_QUOTED = re.compile(r"'([^']+)'|\"([^\"]+)\"")
_PLACE = re.compile(r"\bin ([A-Z]\w+(?: [A-Z]\w+)*(?:, [A-Z]+)?)")
_LEAST_TEXT = "something"


class Filler:
    """Fills schemas with the numbers, quotations and places of a text, in their order.

    Args:
        text: What the user said.
    """

    def __init__(self, text: str) -> None:
        quoted = [left or right for left, right in _QUOTED.findall(text)]
        self._texts = [*quoted, *_PLACE.findall(text)]
        self._numbers = [float(number) for number in _NUMBER.findall(text)]
        self._words = text

    def value(self, schema: Mapping[str, Any]) -> Any:
        """A value that the schema allows."""
        return self._value(schema, schema.get("$defs") or schema.get("definitions") or {}, "value")

    def _value(self, schema: Mapping[str, Any], known: Mapping[str, Any], name: str) -> Any:
        if "$ref" in schema:
            return self._value(known[schema["$ref"].rsplit("/", 1)[-1]], known, name)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            allowed = schema["enum"]
            spoken = [one for one in allowed if str(one).lower() in self._words.lower()]
            return (spoken or allowed)[0]
        for either in ("anyOf", "oneOf", "allOf"):
            if either in schema:
                ways = [one for one in schema[either] if one.get("type") != "null"]
                return self._value(ways[0], known, name)
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = next(one for one in kind if one != "null")
        if kind == "object":
            properties = schema.get("properties") or {}
            return {key: self._value(inner, known, key) for key, inner in properties.items()}
        if kind == "array":
            return [self._value(schema.get("items") or {}, known, name)]
        if kind in ("integer", "number"):
            return self._number(schema, whole=kind == "integer")
        if kind == "boolean":
            return True
        if kind == "null":
            return None
        return self._texts.pop(0) if self._texts else f"{_LEAST_TEXT} as {name}"

    def _number(self, schema: Mapping[str, Any], *, whole: bool) -> float:
        number = self._numbers.pop(0) if self._numbers else 1.0
        least, most = schema.get("minimum"), schema.get("maximum")
        if least is not None:
            number = max(number, least)
        if most is not None:
            number = min(number, most)
        return int(number) if whole else number
