"""ReAct answers in one comparable form."""

from __future__ import annotations

import re
from collections.abc import Collection

from tutelage.cascade.canonical.json_answer import unfenced
from tutelage.cascade.canonical.labels import (
    ACTION,
    ACTION_INPUT,
    FINAL_ANSWER,
    before_next_turn,
)
from tutelage.cascade.canonical.strict_json import compact_json, strict_json, whole_numbers
from tutelage.cascade.canonical.tools import past_tool_action, tool_action
from tutelage.runtime.types import Action, Choice, Message

FINISH = "Final Answer"
"""The name of the action that ends an episode."""

_CALL = re.compile(r"([\w.-]+)\[(.*)\]", re.DOTALL)
_AROUND = "*`_ \t"
_QUOTES = ("'", '"')


class ReactCanonicalizer:
    """The tool and the input of ``Action:`` and ``Action Input:`` lines.

    Thoughts, markup of labels and space around the parts do not count. An input that is a JSON
    object or list counts as its value, any other as its text, case and quotes included.
    ``search[cats]`` is the tool ``search`` with the input ``cats``. An answer with two actions, or
    with an action and a final answer, names none: frameworks differ in which one they run.

    Source: the format of ReAct (arXiv 2210.03629) and of the agents written after it.

    Args:
        tools: Names of the tools; a name that differs from exactly one of them only in case or
            in ``_``, ``-`` and space is that one. Empty: names count as they are.
    """

    def __init__(self, tools: Collection[str] = ()) -> None:
        self._tools: dict[str, str] = {}
        folded = [_folded(name) for name in tools]
        for name, key in zip(tools, folded, strict=True):
            if folded.count(key) == 1:
                self._tools[key] = name

    def action(self, answer: Choice | Message) -> Action | None:
        """The action that an answer names; ``None`` if it names none or was cut."""
        message = answer.message if isinstance(answer, Choice) else answer
        if isinstance(answer, Choice) and answer.finish_reason == "length":
            return None
        if message.tool_calls:
            return tool_action(message.tool_calls)
        return self._react_action(message.text)

    def past(self, action: str) -> Action | None:
        """The action of a past turn, where it stands as text (tool calls as JSON)."""
        return past_tool_action(action) or self._react_action(action)

    def _react_action(self, text: str) -> Action | None:
        text = text.replace("\r\n", "\n")
        labels = [*ACTION.finditer(text), *FINAL_ANSWER.finditer(text)]
        if len(labels) != 1:
            return None
        part = before_next_turn(text[labels[0].end() :])
        if labels[0].re is FINAL_ANSWER:
            return _action(FINISH, part.strip())
        name, given, put = _parted(part)
        name = name.strip().strip(_AROUND)
        if len(name) > 1 and name[0] in _QUOTES and name[0] == name[-1]:
            name = name[1:-1].strip()
        call = None if given else _CALL.fullmatch(name)
        if call:
            name, put = call.groups()
        name = self._tools.get(_folded(name), name)
        if not name or "\n" in name:
            return None
        return _action(name, put.strip())


def _parted(text: str) -> tuple[str, bool, str]:
    """The tool, whether an input is given, and the input."""
    found = ACTION_INPUT.search(text)
    return (text[: found.start()], True, text[found.end() :]) if found else (text, False, "")


def _action(name: str, put: str) -> Action | None:
    inner = unfenced(put)
    if inner[:1] in ("{", "["):
        try:
            put = compact_json(whole_numbers(strict_json(inner)))
        except (ValueError, RecursionError):
            # It may be text that only begins like JSON; a key that stands twice is no such text.
            if inner[:1] == "{" and inner[-1:] == "}":
                return None
    if name == FINISH:
        return Action(kind="text", key=f"{FINISH}: {put}") if put else None
    return Action(
        kind="text", key=f"Action: {name}\nAction Input: {put}" if put else f"Action: {name}"
    )


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()
