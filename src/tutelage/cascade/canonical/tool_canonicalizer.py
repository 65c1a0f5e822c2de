"""A canonical form that knows the tools of a step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from tutelage.cascade.canonical.effects import Effects
from tutelage.cascade.canonical.protocol import Canonicalizer
from tutelage.cascade.canonical.tools import ToolForm, past_tool_action, tool_action
from tutelage.runtime.types import Action, Choice, Message

_MOST_FORMS = 64


class ExactText:
    """Texts that are equal but for the space around them; a cut one names no action."""

    def action(self, answer: Choice | Message) -> Action | None:
        """The action that an answer names; ``None`` if it names none or was cut."""
        message = answer.message if isinstance(answer, Choice) else answer
        if isinstance(answer, Choice) and answer.finish_reason == "length":
            return None
        return tool_action(message.tool_calls) if message.tool_calls else _text(message.text)

    def past(self, action: str) -> Action | None:
        """The action of a past turn, where it stands as text (tool calls as JSON)."""
        return past_tool_action(action) or _text(action)


def _text(text: str) -> Action | None:
    text = text.strip()
    return Action(kind="text", key=text) if text else None


class ToolCanonicalizer:
    """Compares tool calls by the schemas of their step, and other answers as another form does.

    ``for_tools`` gives the form for one step. Without it no schema is known: argument keys are
    sorted, and the declarations below hold.

    Args:
        inner: Compares answers that call no tool.
        order_free: By tool, paths of arguments that are lists without an order.
        ordered: By tool, paths of lists whose order counts in spite of ``uniqueItems``.
        effects: Which calls only read; ``None``: the order of calls counts.
    """

    def __init__(
        self,
        inner: Canonicalizer | None = None,
        *,
        order_free: Mapping[str, Collection[str]] | None = None,
        ordered: Mapping[str, Collection[str]] | None = None,
        effects: Effects | None = None,
    ) -> None:
        self._inner = inner or ExactText()
        self._order_free = order_free
        self._ordered = ordered
        self._effects = effects
        self._forms: dict[bytes, _StepForm] = {}
        self._last: tuple[object, _StepForm | None] = (None, None)
        self._untold = self._made(())

    def action(self, answer: Choice | Message) -> Action | None:
        """The action that an answer names; ``None`` if it names none."""
        return self._untold.action(answer)

    def past(self, action: str) -> Action | None:
        """The action of a past turn, where it stands as text (tool calls as JSON)."""
        return self._untold.past(action)

    def for_tools(self, tools: Sequence[Mapping[str, Any]]) -> Canonicalizer:
        """The form for a step that offers these OpenAI tools; made once for equal tools."""
        if not tools:
            return self._untold
        # One step asks several times for the same object; it need not be written out each time.
        last, form = self._last
        if last is tools and form is not None:
            return form
        form = self._form(tools)
        self._last = (tools, form)
        return form

    def _form(self, tools: Sequence[Mapping[str, Any]]) -> _StepForm:
        try:
            key = orjson.dumps(tools)
        except TypeError:
            return self._made(tools)
        form = self._forms.get(key)
        if form is None:
            if len(self._forms) >= _MOST_FORMS:
                self._forms.pop(next(iter(self._forms)))
            form = self._forms[key] = self._made(tools)
        return form

    def _made(self, tools: Sequence[Mapping[str, Any]]) -> _StepForm:
        form = ToolForm(
            tools, order_free=self._order_free, ordered=self._ordered, effects=self._effects
        )
        return _StepForm(self._inner, form)


class _StepForm:
    def __init__(self, inner: Canonicalizer, form: ToolForm) -> None:
        self._inner = inner
        self._form = form

    def action(self, answer: Choice | Message) -> Action | None:
        """The action that an answer names; ``None`` if it names none or was cut."""
        message = answer.message if isinstance(answer, Choice) else answer
        if not message.tool_calls:
            return self._inner.action(answer)
        if isinstance(answer, Choice) and answer.finish_reason == "length":
            # Another call may have been about to follow.
            return None
        return self._form.action(message.tool_calls)

    def past(self, action: str) -> Action | None:
        """The action of a past turn."""
        return self._form.past(action) or self._inner.past(action)


def canonicalizer_for(form: Canonicalizer, tools: Sequence[Mapping[str, Any]]) -> Canonicalizer:
    """The form for a step's tools, where a canonicalizer knows tools; else itself."""
    for_tools = getattr(form, "for_tools", None)
    if for_tools is None or not tools:
        return form
    found: Canonicalizer = for_tools(tools)
    return found
