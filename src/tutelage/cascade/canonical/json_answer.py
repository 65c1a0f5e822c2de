"""JSON answers in one comparable form."""

from __future__ import annotations

import re
from collections.abc import Collection

from tutelage.cascade.canonical.schema_form import SchemaForm
from tutelage.cascade.canonical.strict_json import compact_json, strict_json, whole_numbers
from tutelage.cascade.canonical.tools import past_tool_action, tool_action
from tutelage.runtime.types import Action, Choice, Message

_MOST_CHARACTERS = 200_000
_FENCED = re.compile(r"(```+|~~~+)[ \t]*(?:json)?[ \t]*\r?\n(.*)\n[ \t]*\1", re.DOTALL | re.I)


class JsonCanonicalizer:
    """JSON values that are equal get equal keys.

    The answer is JSON as a whole, or one fence that holds it. Key order, layout, escapes and the
    spelling of numbers do not count (1.0 is 1); types do (1 is not true, "1" is not 1). An answer
    with a key twice in one object names no action.

    Args:
        schema: Its ``uniqueItems: true`` says which lists have no order; nothing else of it counts.
        order_free: Paths of lists without an order, as in ``tags`` or ``items.*.tags``.
        ordered: Paths of lists whose order counts in spite of ``uniqueItems``.
    """

    def __init__(
        self,
        schema: object = None,
        *,
        order_free: Collection[str] = (),
        ordered: Collection[str] = (),
    ) -> None:
        self._form = SchemaForm(
            schema, order_free=order_free, ordered=ordered, coerce=False, fill=False
        )

    def action(self, answer: Choice | Message) -> Action | None:
        """The action that an answer names; ``None`` if it names none or was cut."""
        message = answer.message if isinstance(answer, Choice) else answer
        if isinstance(answer, Choice) and answer.finish_reason == "length":
            return None
        if message.tool_calls:
            return tool_action(message.tool_calls)
        return self._json_action(message.text)

    def past(self, action: str) -> Action | None:
        """The action of a past turn, where it stands as text (tool calls as JSON)."""
        return past_tool_action(action) or self._json_action(action)

    def _json_action(self, text: str) -> Action | None:
        if len(text) > _MOST_CHARACTERS:
            return None
        text = unfenced(text)
        try:
            return Action(
                kind="text", key=compact_json(self._form.of(whole_numbers(strict_json(text))))
            )
        except (ValueError, RecursionError):
            return None


def unfenced(text: str) -> str:
    """The content of the one fence that a text is, else the text; without space around it."""
    text = text.strip()
    fence = _FENCED.fullmatch(text)
    return fence[2].strip() if fence else text
