"""Whether the arguments of a tool call fit the schema that a client gave for them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_MOST_STEPS = 2_000
"""Keywords applied to one call; ordinary tools need some tens of them."""

_Keyword = Callable[[Any, Any, Any, Any], Any]


class ArgumentCheck:
    """Compares arguments with JSON schemas (draft 2020-12) that come from outside.

    Nothing is fetched, no regular expression of a client is run (``pattern`` and ``format`` are
    left unchecked), and the work is bounded. What cannot be checked fits nothing.
    """

    def __init__(self) -> None:
        self._steps = 0

    def prepare(self) -> None:
        """Imports what the first comparison would, which blocks for some tens of milliseconds."""
        self._validator({}, registry=_no_documents()).is_valid(None)

    def fits(self, arguments: object, schema: object) -> bool:
        """Whether arguments fit a schema; all fit where there is none.

        Args:
            arguments: As decoded from JSON.
            schema: As the client sent it; ``None``: there is none.
        """
        if schema is None:
            return True
        from jsonschema.exceptions import UnknownType
        from referencing.exceptions import Unresolvable

        self._steps = 0
        try:
            checker = self._validator(_without_dialects(schema), registry=_no_documents())
            return bool(checker.is_valid(arguments))
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            UnknownType,
            Unresolvable,
            ValueError,
        ):
            return False

    @functools.cached_property
    def _validator(self) -> Any:
        from jsonschema import Draft202012Validator
        from jsonschema.validators import extend

        known: Mapping[str, _Keyword] = Draft202012Validator.VALIDATORS
        keywords: dict[str, _Keyword] = {
            name: self._counted(check) for name, check in known.items()
        }
        for name in ("pattern", "patternProperties", "format"):
            keywords[name] = _unchecked
        # These look which names match the patterns beside them, or further in.
        keywords["additionalProperties"] = self._counted(
            _without_patterns(known["additionalProperties"])
        )
        for name in ("unevaluatedProperties", "unevaluatedItems"):
            keywords[name] = _refused
        return extend(Draft202012Validator, keywords)

    def _counted(self, check: _Keyword) -> _Keyword:
        def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
            self._steps += 1
            if self._steps > _MOST_STEPS:
                raise ValueError("the schema takes too long to check")
            return check(validator, value, instance, schema)

        return counted


def _no_documents() -> Any:
    """An empty registry: references lead nowhere but into the schema itself."""
    from referencing import Registry

    return Registry()


def _unchecked(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    return iter(())


def _refused(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    raise ValueError("this keyword is not checked")


def _without_patterns(check: _Keyword) -> _Keyword:
    def checked(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        if "patternProperties" in schema:
            return _refused(validator, value, instance, schema)
        return check(validator, value, instance, schema)

    return checked


def _without_dialects(schema: Any) -> Any:
    """A copy of a schema in which no part names a dialect: it would be checked by that one's rules.

    A property that is called ``$schema`` has an object or a truth value, and stays.
    """
    if isinstance(schema, Mapping):
        return {
            name: _without_dialects(value)
            for name, value in schema.items()
            if name != "$schema" or isinstance(value, Mapping | bool)
        }
    if isinstance(schema, list):
        return [_without_dialects(value) for value in schema]
    return schema
