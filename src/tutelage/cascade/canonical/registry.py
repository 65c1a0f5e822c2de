"""The canonical forms by name."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

from tutelage.cascade.canonical.effects import Effects
from tutelage.cascade.canonical.protocol import Canonicalizer
from tutelage.cascade.canonical.text import HOUSEHOLD_GRAMMAR, TextCanonicalizer
from tutelage.runtime.errors import ConfigError

ENTRY_POINT_GROUP = "tutelage.canonical"


@dataclass(frozen=True, slots=True)
class CanonicalOptions:
    """What a form may need to know; each takes what it can use."""

    order_free: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By tool (``""``: the answer itself), paths of lists without an order."""
    ordered: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By tool (``""``: the answer itself), paths of lists whose order counts in spite of
    ``uniqueItems``."""
    effects: Effects | None = None
    """Which calls only read; ``None``: the order of all calls counts."""
    stateful: bool = True
    """Whether variables of one code answer are seen by the next."""
    tools: Collection[str] = ()
    """Names of the tools of a ReAct agent."""
    schema: object = None
    """JSON schema of a JSON answer."""


CanonicalFactory = Callable[[CanonicalOptions], Canonicalizer]
"""Makes a form for answers that call no tool."""


def _text(options: CanonicalOptions) -> Canonicalizer:
    return TextCanonicalizer()


def _household(options: CanonicalOptions) -> Canonicalizer:
    return TextCanonicalizer(grammar=HOUSEHOLD_GRAMMAR, first_line=True)


def _tools(options: CanonicalOptions) -> Canonicalizer:
    from tutelage.cascade.canonical.tool_canonicalizer import ExactText

    return ExactText()


def _code(options: CanonicalOptions) -> Canonicalizer:
    from tutelage.cascade.canonical.code import CodeCanonicalizer

    return CodeCanonicalizer(stateful=options.stateful)


def _code_fingerprint(options: CanonicalOptions) -> Canonicalizer:
    from tutelage.cascade.canonical.code import CodeCanonicalizer

    return CodeCanonicalizer("calls", stateful=options.stateful)


def _json(options: CanonicalOptions) -> Canonicalizer:
    from tutelage.cascade.canonical.json_answer import JsonCanonicalizer

    return JsonCanonicalizer(
        options.schema,
        order_free=options.order_free.get("", ()),
        ordered=options.ordered.get("", ()),
    )


def _react(options: CanonicalOptions) -> Canonicalizer:
    from tutelage.cascade.canonical.react import ReactCanonicalizer

    return ReactCanonicalizer(options.tools)


CANONICALIZERS: Mapping[str, CanonicalFactory] = MappingProxyType(
    {
        "text": _text,
        "household": _household,
        "tools": _tools,
        "code": _code,
        "code-fingerprint": _code_fingerprint,
        "json": _json,
        "react": _react,
    }
)


def canonicalizer_names() -> tuple[str, ...]:
    """Names of the forms that come with tutelage or with an installed package, sorted."""
    return tuple(sorted({*CANONICALIZERS, *entry_points(group=ENTRY_POINT_GROUP).names}))


def canonicalizer_named(name: str, options: CanonicalOptions | None = None) -> Canonicalizer:
    """The form of a name; whatever it is, tool calls are compared by their tools' schemas.

    Args:
        name: A built-in name, one of the entry-point group ``tutelage.canonical``, or
            ``module:attribute``; the latter two name a ``CanonicalFactory``.
        options: What is declared of tools and answers.

    Raises:
        ConfigError: No form has this name, or it cannot be imported or made.
    """
    from tutelage.cascade.canonical.tool_canonicalizer import ToolCanonicalizer

    options = options or CanonicalOptions()
    factory: Any = CANONICALIZERS.get(name)
    if factory is None and ":" in name:
        factory = _imported(name)
    if factory is None:
        for found in entry_points(group=ENTRY_POINT_GROUP, name=name):
            factory = found.load()
    if factory is None:
        names = canonicalizer_names()
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names)}"
        raise ConfigError(f"canonical = {name!r} is unknown: {hint}")
    if not callable(factory):
        raise ConfigError(f"canonical = {name!r} is no factory: it takes CanonicalOptions")
    return ToolCanonicalizer(
        factory(options),
        order_free={tool: paths for tool, paths in options.order_free.items() if tool},
        ordered={tool: paths for tool, paths in options.ordered.items() if tool},
        effects=options.effects,
    )


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"canonical = {name!r} cannot be imported: {error}") from error
