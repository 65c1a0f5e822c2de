"""Values in one form, as their JSON schema allows."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from tutelage.cascade.canonical.strict_json import compact_json, exact_float, whole_number

_MOST_VALUES = 10_000
_MOST_REFERENCES = 16
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_TRUTH = {"true": True, "false": False}
# Beside these a property that is absent is not the same as one at its default.
_CONDITIONS = frozenset(
    (
        "allOf",
        "anyOf",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "if",
        "maxProperties",
        "minProperties",
        "not",
        "oneOf",
        "then",
        "unevaluatedProperties",
    )
)


class SchemaForm:
    """Brings values that mean the same under a JSON schema to one value.

    Absent optional properties get their default, text that spells a number or truth value becomes
    one where the schema allows no text, whole floats become integers where it says ``integer`` or
    ``number``, and lists without an order are sorted. Nothing is lost on the way, and what the
    schema does not settle stays as it is; its validity is not checked here.

    Args:
        schema: JSON schema; anything but an object says nothing.
        order_free: Paths of lists without an order, as in ``to`` or ``orders.*.tags``. A list with
            ``uniqueItems: true`` has none either.
        ordered: Paths of lists whose order counts in spite of ``uniqueItems``.
        coerce: Whether types are adapted.
        fill: Whether defaults are filled in.
    """

    def __init__(
        self,
        schema: object,
        *,
        order_free: Collection[str] = (),
        ordered: Collection[str] = (),
        coerce: bool = True,
        fill: bool = True,
    ) -> None:
        self._schema = schema
        self._order_free = frozenset(order_free)
        self._ordered = frozenset(ordered)
        self._coerce = coerce
        self._fill = fill
        self._left = 0

    def of(self, value: Any) -> Any:
        """The form of a value as decoded from JSON; the value itself is left alone.

        Raises:
            ValueError: It has too many parts.
            RecursionError: It is nested too deeply.
        """
        self._left = _MOST_VALUES
        return self._form(value, self._schema, "")

    def _form(self, value: Any, schema: object, path: str) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError("the value has too many parts")
        found = self._resolved(schema)
        if isinstance(value, dict):
            return self._object(value, self._branch(found, "object"), path)
        if isinstance(value, list):
            return self._list(value, self._branch(found, "array"), path)
        return self._scalar(value, found) if self._coerce else value

    def _object(self, value: dict[str, Any], schema: Mapping[str, Any], path: str) -> Any:
        properties = _mapping(schema.get("properties"))
        others = None if "patternProperties" in schema else schema.get("additionalProperties")
        formed = {
            name: self._form(part, properties.get(name, others), _below(path, name))
            for name, part in value.items()
        }
        if self._fill and not _CONDITIONS & schema.keys():
            required = schema.get("required")
            required = required if isinstance(required, list) else []
            for name, part in properties.items():
                if name in formed or name in required:
                    continue
                found = self._resolved(part)
                if "default" in found and self._fits(found["default"], found):
                    formed[name] = self._form(found["default"], part, _below(path, name))
        return formed

    def _list(self, value: list[Any], schema: Mapping[str, Any], path: str) -> list[Any]:
        # The schema of an item depends on its place if there are prefix items.
        items = None if "prefixItems" in schema else schema.get("items")
        below = _below(path, "*")
        formed = [self._form(item, items, below) for item in value]
        unordered = schema.get("uniqueItems") is True and path not in self._ordered
        if unordered or path in self._order_free:
            formed.sort(key=compact_json)
        return formed

    def _scalar(self, value: Any, schema: Mapping[str, Any]) -> Any:
        types = self._types(schema)
        if not types or value is None or isinstance(value, bool):
            return value
        if isinstance(value, float):
            return whole_number(value) if types & {"integer", "number"} else value
        if isinstance(value, str) and "string" not in types:
            named = schema.get("enum")
            if isinstance(named, list) and value in named:
                return value
            return _adapted(value, types)
        return value

    def _resolved(self, schema: object) -> Mapping[str, Any]:
        """The schema that a reference leads to in the same document, with what stands beside."""
        found = _mapping(schema)
        for _ in range(_MOST_REFERENCES):
            around = {name: part for name, part in found.items() if name not in ("$ref", "allOf")}
            if "$ref" in found:
                found = {**self._target(found["$ref"]), **around}
            elif isinstance(parts := found.get("allOf"), list) and len(parts) == 1:
                found = {**_mapping(parts[0]), **around}
            else:
                return found
        return {}

    def _target(self, reference: object) -> Mapping[str, Any]:
        if not isinstance(reference, str) or not reference.startswith("#"):
            return {}
        found: object = self._schema
        for name in reference[1:].split("/")[1:]:
            found = _mapping(found).get(name.replace("~1", "/").replace("~0", "~"))
        return _mapping(found)

    def _branch(self, schema: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
        """The only alternative of a union that a value of this kind can be meant for."""
        for keyword in ("anyOf", "oneOf"):
            parts = schema.get(keyword)
            if isinstance(parts, list) and "properties" not in schema and "items" not in schema:
                known = [(part, self._types(part)) for part in map(self._resolved, parts)]
                fitting = [part for part, types in known if types is None or kind in types]
                return fitting[0] if len(fitting) == 1 else {}
        return schema

    def _types(self, schema: Mapping[str, Any], depth: int = 0) -> frozenset[str] | None:
        """Types that a schema allows; ``None`` where it does not tell."""
        named = schema.get("type")
        if isinstance(named, str):
            return frozenset((named,))
        if isinstance(named, list):
            return frozenset(name for name in named if isinstance(name, str))
        union: frozenset[str] = frozenset()
        parts = schema.get("anyOf") or schema.get("oneOf")
        if not isinstance(parts, list) or depth > _MOST_REFERENCES:
            return None
        for part in parts:
            types = self._types(self._resolved(part), depth + 1)
            if types is None:
                return None
            union |= types
        return union

    def _fits(self, value: Any, schema: Mapping[str, Any]) -> bool:
        named = schema.get("enum")
        if isinstance(named, list) and not any(
            value == one and type(value) is type(one) for one in named
        ):
            return False
        types = self._types(schema)
        return types is None or bool(types & _TYPES_OF.get(type(value), frozenset()))


_TYPES_OF: Mapping[type, frozenset[str]] = {
    bool: frozenset(("boolean",)),
    int: frozenset(("integer", "number")),
    float: frozenset(("number",)),
    str: frozenset(("string",)),
    list: frozenset(("array",)),
    dict: frozenset(("object",)),
    type(None): frozenset(("null",)),
}


def _adapted(text: str, types: frozenset[str]) -> Any:
    """The number or truth value that a text spells in JSON, where the types allow one."""
    if "boolean" in types and text in _TRUTH:
        return _TRUTH[text]
    if types & {"integer", "number"} and text != "-0" and _INTEGER.fullmatch(text):
        return int(text)
    if "number" in types and len(text) < 40 and _NUMBER.fullmatch(text):
        try:
            return whole_number(exact_float(text))
        except ValueError:
            return text
    return text


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
