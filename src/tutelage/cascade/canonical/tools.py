"""Tool calls in one comparable form."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tutelage.cascade.canonical.schema_form import SchemaForm
from tutelage.cascade.canonical.strict_json import compact_json, strict_json
from tutelage.runtime.types import Action

if TYPE_CHECKING:
    from tutelage.cascade.canonical.effects import Effects


class ToolForm:
    """The form of calls to the tools of one request.

    Names count as they are. The arguments of a tool take the form that its schema allows (see
    ``SchemaForm``); those of a tool that is not offered, or twice, only get sorted keys. With
    ``effects``, neighbouring calls that only read are sorted: they do not depend on each other.

    Args:
        tools: The OpenAI ``tools`` of the request.
        order_free: By tool, paths of arguments that are lists without an order.
        ordered: By tool, paths of lists whose order counts in spite of ``uniqueItems``.
        effects: Which calls only read; ``None``: the order of calls counts.
    """

    def __init__(
        self,
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        order_free: Mapping[str, Collection[str]] | None = None,
        ordered: Mapping[str, Collection[str]] | None = None,
        effects: Effects | None = None,
    ) -> None:
        order_free, ordered = order_free or {}, ordered or {}
        schemas: dict[str, object] = {}
        for name, schema in offered(tools):
            # Of two schemas neither is known to be the one that counts.
            schemas[name] = None if name in schemas else schema
        self._forms = {
            name: SchemaForm(
                schemas.get(name),
                order_free=order_free.get(name, ()),
                ordered=ordered.get(name, ()),
            )
            for name in (*schemas, *order_free)
        }
        self._effects = effects

    def action(self, calls: Sequence[Mapping[str, Any]]) -> Action | None:
        """The action of a message's tool calls; ``None`` if one of them is malformed."""
        try:
            plain = [self._formed(_plain(call)) for call in calls]
            if self._effects is not None:
                plain = _reads_sorted(plain, self._effects)
            key = compact_json({"tool_calls": plain})
        except (ValueError, TypeError, RecursionError):
            return None
        return Action(kind="tool", key=key) if plain else None

    def past(self, text: str) -> Action | None:
        """The action of ``{"tool_calls": [...]}`` as a history holds it, else ``None``."""
        if not text.startswith('{"tool_calls":'):
            return None
        try:
            calls = strict_json(text)["tool_calls"]
        except (ValueError, RecursionError):
            return None
        if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
            return None
        return self.action(calls)

    def _formed(self, call: dict[str, Any]) -> dict[str, Any]:
        form = self._forms.get(call["name"])
        return call if form is None else {**call, "arguments": form.of(call["arguments"])}


def tool_action(calls: Sequence[Mapping[str, Any]]) -> Action | None:
    """The action of tool calls whose schemas are not known: sorted keys, everything else counts.

    Call ids do not count.

    Returns:
        ``None`` if there is no call, or one has no name or no JSON object as its arguments.
    """
    return _WITHOUT_SCHEMAS.action(calls)


def past_tool_action(text: str) -> Action | None:
    """The action of ``{"tool_calls": [...]}`` as a history holds it, else ``None``."""
    return _WITHOUT_SCHEMAS.past(text)


def offered(tools: Sequence[Mapping[str, Any]]) -> list[tuple[str, object]]:
    """Names and argument schemas of the functions that a request offers."""
    functions = [tool.get("function") for tool in tools]
    return [
        (str(function.get("name")), function.get("parameters"))
        for function in functions
        if isinstance(function, Mapping)
    ]


def _plain(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function", call)
    if not isinstance(function, Mapping):
        raise ValueError("a tool call without a function")
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name:
        raise ValueError("a tool call without a name")
    if isinstance(arguments, str):
        # Some endpoints send an empty string for a call without arguments.
        arguments = strict_json(arguments) if arguments.strip() else {}
    if not isinstance(arguments, dict):
        raise ValueError("the arguments of a tool call are not a JSON object")
    return {"name": name, "arguments": arguments}


def _reads_sorted(calls: list[dict[str, Any]], effects: Effects) -> list[dict[str, Any]]:
    """Calls with every run of reads in the order of their texts; no read passes a write."""
    ordered: list[dict[str, Any]] = []
    run: list[dict[str, Any]] = []
    for call in calls:
        if effects.of(call["name"]) == "read":
            run.append(call)
        else:
            ordered += [*sorted(run, key=compact_json), call]
            run = []
    return ordered + sorted(run, key=compact_json)


_WITHOUT_SCHEMAS = ToolForm()
