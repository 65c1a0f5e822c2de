"""Which actions only look, and which may change the world."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from tutelage.cascade.canonical.python_effects import CodeCalls, code_calls
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Action

Effect = Literal["read", "write"]

HOUSEHOLD_EFFECTS: Mapping[str, Effect] = MappingProxyType(
    {"look": "read", "inventory": "read", "examine *": "read"}
)
"""Commands of household worlds that leave everything as it was."""

HOUSEHOLD_MOVES: Mapping[str, Effect] = MappingProxyType({"go to *": "read"})
"""Walking changes where the agent is and nothing else: a wrong step costs the way back. Add it to
``HOUSEHOLD_EFFECTS`` where steps are cheap."""

HTTP_EFFECTS: Mapping[str, Effect] = MappingProxyType(
    {"GET *": "read", "HEAD *": "read", "OPTIONS *": "read"}
)
"""Calls that are named by a method and a path; other methods may write."""

_MOST_NAMES = 4_096
_MOST_CODES = 256
_REACT = re.compile(r"Action: (.*)(?:\nAction Input: (?s:.*))?|(Final Answer): (?s:.*)")
# One line of a shell may hold several commands.
_SEVERAL = re.compile(r"[;|&<>`\n\r]|\$\(")


class Effects:
    """Which tools, commands and API calls only read.

    A name is looked up as it is, then among the patterns; of several patterns that fit, ``write``
    wins. What is not declared writes.

    An action is told by the tools it calls, by its command, by the tool of a ReAct text, or by the
    dotted calls of its code (``apis.mail.show``). Code writes if it may do anything that is not
    declared: a call of an unknown name, a change of an object's part, a class, a decorator.

    Args:
        declared: ``read`` or ``write`` by name or shell pattern, as in ``get_*``.

    Raises:
        ConfigError: A value is neither ``read`` nor ``write``.
    """

    def __init__(self, declared: Mapping[str, Effect]) -> None:
        for name, effect in declared.items():
            if effect not in ("read", "write"):
                raise ConfigError(f"effects.{name} = {effect!r}: give 'read' or 'write'")
        self._exact = {name: effect for name, effect in declared.items() if not _is_pattern(name)}
        self._patterns = [
            (re.compile(fnmatch.translate(name)), name.startswith("*"), effect)
            for name, effect in declared.items()
            if _is_pattern(name)
        ]
        self._known: dict[tuple[str, bool], Effect | None] = {}
        self._codes: dict[str, bool] = {}

    def of(self, name: str) -> Effect:
        """What a call of this name may do; ``write`` if it is not declared."""
        return self.declared(name) or "write"

    def declared(self, name: str, *, local: bool = False) -> Effect | None:
        """What is declared of a name; ``None`` for nothing.

        Args:
            name: As it is called.
            local: Whether it begins with a variable, so that only patterns that begin with ``*``
                can mean it.
        """
        found = self._known.get((name, local), ...)
        if found is ...:
            found = self._looked_up(name, local)
            if len(self._known) >= _MOST_NAMES:
                self._known.clear()
            self._known[name, local] = found
        return found

    def is_mutating(self, action: Action) -> bool:
        """Whether an action may change the world."""
        if action.kind == "tool":
            return any(self.of(call["name"]) == "write" for call in _calls(action.key))
        if action.kind == "code":
            return self._code_writes(action.key)
        react = _REACT.fullmatch(action.key)
        if react:
            return self.of(react[1] or react[2]) == "write"
        return bool(_SEVERAL.search(action.key)) or self.of(action.key) == "write"

    def _looked_up(self, name: str, local: bool) -> Effect | None:
        if not local and name in self._exact:
            return self._exact[name]
        effects = {
            effect
            for pattern, open_start, effect in self._patterns
            if (open_start or not local) and pattern.match(name)
        }
        return "write" if "write" in effects else "read" if effects else None

    def _code_writes(self, code: str) -> bool:
        known = self._codes.get(code)
        if known is None:
            if len(self._codes) >= _MOST_CODES:
                self._codes.clear()
            known = self._codes[code] = self._may_write(code_calls(code))
        return known

    def _may_write(self, found: CodeCalls | None) -> bool:
        if found is None or found.changes:
            return True
        if any(self.declared(name) == "write" for name in found.mentioned):
            return True
        return any(self.declared(name, local=local) != "read" for name, local in found.called)


def _is_pattern(name: str) -> bool:
    return any(mark in name for mark in "*?[")


def _calls(key: str) -> list[dict[str, str]]:
    calls: list[dict[str, str]] = json.loads(key)["tool_calls"]
    return calls
