"""Code answers in one comparable form."""

from __future__ import annotations

import ast
from typing import Literal

from tutelage.cascade.canonical.python_calls import Unresolved, calls
from tutelage.cascade.canonical.python_scopes import renumbered
from tutelage.cascade.canonical.python_source import fenced, nodes_of, parsed, snippets
from tutelage.cascade.canonical.python_tidy import tidied
from tutelage.cascade.canonical.tools import past_tool_action, tool_action
from tutelage.runtime.types import Action, Choice, Message

_MOST_KNOWN = 256


class CodeCanonicalizer:
    """Python that does the same gets equal keys.

    ``exact`` compares whole programs: comments, docstrings, layout, quotes, the order of keyword
    arguments and the names of local variables do not count. ``calls`` compares what the world is
    asked: the calls in their order with their arguments; variables, prints and values that no call
    uses do not count. A snippet whose calls cannot be told without running it is compared exactly.

    The code of an answer is that of its fences, or all of it where there is none; an answer that is
    no Python, or longer than 20,000 characters, names no action. The key is Python again, and its
    own action.

    Args:
        compare: What counts.
        stateful: Whether the variables of one answer are seen by the next, as in a shell. Their
            names count then in ``exact``: a later step may use them.
    """

    def __init__(
        self, compare: Literal["exact", "calls"] = "exact", *, stateful: bool = True
    ) -> None:
        self._compare = compare
        self._stateful = stateful
        self._known: dict[str, Action | None] = {}

    def action(self, answer: Choice | Message) -> Action | None:
        """The action that an answer names; ``None`` if it names none or was cut."""
        message = answer.message if isinstance(answer, Choice) else answer
        if isinstance(answer, Choice) and answer.finish_reason == "length":
            return None
        if message.tool_calls:
            return tool_action(message.tool_calls)
        return self._code_action(message.text)

    def past(self, action: str) -> Action | None:
        """The action of a past turn, where it stands as text (tool calls as JSON)."""
        return past_tool_action(action) or self._code_action(action)

    def _code_action(self, text: str) -> Action | None:
        if text in self._known:
            return self._known[text]
        action = self._read(text)
        # The samples of a step are each read several times, and many are equal.
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[text] = action
        return action

    def _read(self, text: str) -> Action | None:
        found = snippets(text)
        if found is None:
            return None
        # Several snippets see each other's names, whatever comes after them.
        stateful = self._stateful or len(found) > 1
        codes = [self._form(snippet, stateful) for snippet in found]
        written = [code for code in codes if code]
        if None in codes or not written:
            return None
        return Action(kind="code", key=fenced(written))

    def _form(self, source: str, stateful: bool) -> str | None:
        try:
            tree = _exact(source, stateful=stateful or self._compare == "calls")
            if tree is None:
                return None
            if self._compare == "exact":
                return _text(tree)
            try:
                # What is left out takes its numbers with it.
                return _text(renumbered(calls(tree), stateful=True))
            except Unresolved:
                return _text(renumbered(tree, stateful=stateful))
        except (RecursionError, MemoryError, ValueError):
            return None


def _exact(source: str, *, stateful: bool) -> ast.Module | None:
    tree = parsed(source)
    if tree is None:
        return None
    # A program that reads docstrings may do something else without them.
    return renumbered(tidied(tree, docstrings="__doc__" in source), stateful=stateful)


def _text(tree: ast.Module) -> str:
    """The source of a tree; empty where nothing is left of it.

    Raises:
        ValueError: Python cannot write it down without changing it.
    """
    text = ast.unparse(tree)
    if any(isinstance(node, ast.JoinedStr) for node in nodes_of(tree)) or "__doc__" in text:
        # Nested quotes and braces of f-strings have been written wrongly by some releases.
        again = parsed(text)
        if again is None or ast.dump(again) != ast.dump(tree):
            raise ValueError("the code cannot be written down")
    return text
