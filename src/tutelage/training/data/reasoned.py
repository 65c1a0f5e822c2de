"""An answer in two parts: the reason and the action."""

from __future__ import annotations

import re
from dataclasses import dataclass

_THOUGHT = re.compile(
    r"(?i)\s*[*_#> \t]*(?:thought|think|thinking|reasoning)[ \t]*[*_]*:[*_]*[ \t]*"
)
_ACTION = re.compile(r"(?im)^[*_#> \t]*(?:action|final answer)[ \t]*[*_]*:[*_]*")


@dataclass(frozen=True, slots=True)
class Tags:
    """What stands at the end of the prompt to ask for one of the tasks; empty: nothing.

    With the default a student that is asked as ever answers with the action alone.
    """

    act: str = ""
    why: str = "[WHY]"
    react: str = "[REACT]"


@dataclass(frozen=True, slots=True)
class Reasoned:
    """A ReAct answer (arXiv 2210.03629)."""

    reason: str
    action: str
    """From its label on: what the client's parser reads."""


def read_reason(answer: str) -> Reasoned | None:
    """Splits an answer that begins with a thought and goes on with one labelled action.

    Returns:
        ``None`` if it has no thought, no action after it, or several.
    """
    opening = _THOUGHT.match(answer)
    if opening is None:
        return None
    actions = list(_ACTION.finditer(answer, opening.end()))
    if len(actions) != 1:
        return None
    reason = answer[opening.end() : actions[0].start()].strip()
    action = answer[actions[0].start() :].strip()
    if not reason or not _ACTION.sub("", action, count=1).strip():
        return None
    return Reasoned(reason, action)
