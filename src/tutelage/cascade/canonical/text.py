"""Text answers in one comparable form."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tutelage.cascade.canonical.labels import (
    ACTION,
    ACTION_INPUT,
    ACTION_INSIDE,
    FENCE,
    THOUGHT,
    before_next_turn,
)
from tutelage.cascade.canonical.tools import past_tool_action, tool_action
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Action, Choice, Message

HOUSEHOLD_SYNONYMS: tuple[tuple[str, str], ...] = (
    (r"^put (.+?) (?:in ?/ ?on|into|onto|in|on) (.+)$", r"move \1 to \2"),
    (r"^goto (.+)$", r"go to \1"),
)
"""Rules ``(pattern, replacement)`` for the commands of household worlds."""

HOUSEHOLD_GRAMMAR: tuple[str, ...] = (
    r"(?:go to|open|close|use|examine) \S.*",
    r"take \S.* from \S.*",
    r"move \S.* to \S.*",
    r"(?:clean|heat|cool|slice) \S.* with \S.*",
    r"look|inventory",
)
"""The canonical commands of household worlds."""

_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»"}
_PROMPT_MARK = re.compile(r"^>+\s*")
_SAID = re.compile(r'"[^"]*"')
_HELD = "\ue000"
"""Stands for quoted words while the command around them is simplified."""
_TAIL = ".,;:!? \t"
_MOST_PASSES = 64


class TextCanonicalizer:
    """Commands that do the same get equal keys: case, articles, spaces, labels and synonyms go.

    Words in double quotes inside a command stay as they are: they may be written somewhere.
    A ReAct text (arXiv 2210.03629) counts by its last ``Action:`` line; thoughts do not count. An
    answer of several lines is no command: it is compared as it stands, so that two programs or two
    letters are never called equal because they begin alike. Tool calls are compared as ``tools.py``
    says. The form is a fixed point: the key of an action is the text of an equal action.

    Args:
        synonyms: Rules ``(pattern, replacement)``, applied in order to the simplified command. A
            command that the rules keep changing is unusable.
        grammar: Patterns of allowed canonical commands; a text that matches none as a whole is
            unusable. ``None`` allows all.
        articles: Words that are left out before another word.
        first_line: Whether only the first line of an answer is the command, as where the world
            reads one line.
        fold_case: Whether case is ignored.

    Raises:
        ConfigError: A pattern is not a regular expression.
    """

    def __init__(
        self,
        synonyms: Sequence[tuple[str, str]] = HOUSEHOLD_SYNONYMS,
        grammar: Sequence[str] | None = None,
        *,
        articles: Sequence[str] = ("a", "an", "the"),
        first_line: bool = False,
        fold_case: bool = True,
    ) -> None:
        self._synonyms = [(_compiled(pattern), by) for pattern, by in synonyms]
        self._grammar = None if grammar is None else [_compiled(pattern) for pattern in grammar]
        words = "|".join(re.escape(word) for word in articles)
        # Only before another word: a bare "A" is an answer.
        self._articles = re.compile(rf"(?i)(?<!\S)(?:{words})\s+(?=\S)") if words else None
        self._first_line = first_line
        self._fold_case = fold_case

    def action(self, answer: Choice | Message) -> Action | None:
        """The action that an answer names; ``None`` if it names none or was cut in its action."""
        message = answer.message if isinstance(answer, Choice) else answer
        if message.tool_calls:
            return tool_action(message.tool_calls)
        text = message.text
        if isinstance(answer, Choice) and answer.finish_reason == "length":
            # "go to desk 1" may have been about to become "go to desk 12".
            complete, newline, _ = text.rstrip(" \t").rpartition("\n")
            if not (self._first_line and newline):
                return None
            text = complete
        return self._text_action(text)

    def past(self, action: str) -> Action | None:
        """The action of a past turn, where it stands as text (tool calls as JSON)."""
        return past_tool_action(action) or self._text_action(action)

    def _text_action(self, text: str) -> Action | None:
        current = text
        for _ in range(_MOST_PASSES):
            simpler = self._simplified(current)
            if simpler == current:
                break
            current = simpler
        else:
            return None
        if not current:
            return None
        if self._grammar is not None and not any(rule.fullmatch(current) for rule in self._grammar):
            return None
        return Action(kind="text", key=current)

    def _simplified(self, text: str) -> str:
        lines = [line.rstrip() for line in _action_part(text.strip()).splitlines()]
        lines = [line for line in lines if line and not FENCE.match(line)]
        if len(lines) > 1 and not self._first_line:
            return "\n".join(lines)
        return self._command(lines[0]) if lines else ""

    def _command(self, line: str) -> str:
        said: list[str] = []
        if '"' in line and _HELD not in line:
            said = _SAID.findall(line)
            line = _SAID.sub(_HELD, line)
        line = _PROMPT_MARK.sub("", " ".join(line.split()))
        line = _unquoted(line.rstrip(_TAIL))
        if self._fold_case:
            line = line.lower()
        if self._articles is not None:
            line = self._articles.sub("", line)
        for words in said:
            line = line.replace(_HELD, words, 1)
        line = _unquoted(line)
        for pattern, by in self._synonyms:
            line = pattern.sub(by, line)
        return line


def _action_part(text: str) -> str:
    """The text after the last action label, up to the next turn; empty for a bare thought."""
    labels = list(ACTION.finditer(text))
    if not labels and THOUGHT.match(text):
        labels = list(ACTION_INSIDE.finditer(text))
        if not labels:
            return ""
    if not labels:
        return text
    # Tool and input of one ReAct action are two lines; only together do they name it.
    return ACTION_INPUT.sub(" ", before_next_turn(text[labels[-1].end() :]))


def _unquoted(line: str) -> str:
    while len(line) > 1 and _QUOTES.get(line[0]) == line[-1]:
        line = line[1:-1].strip().rstrip(_TAIL)
    return line


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"pattern {pattern!r} is not a regular expression: {error}") from error
