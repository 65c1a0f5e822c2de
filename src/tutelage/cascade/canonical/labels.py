"""The labels of a ReAct text: thought, action, input, observation."""

from __future__ import annotations

import re

_MARKUP = r"[*_#> \t]*"
_COLON = r"[ \t]*\d*[ \t]*[*_]*:[*_]*"
ACTION = re.compile(rf"(?im)^{_MARKUP}\b(?:action|act)\b{_COLON}")
ACTION_INSIDE = re.compile(rf"(?i)\b(?:action|act)\b{_COLON}")
ACTION_INPUT = re.compile(rf"(?i)\n{_MARKUP}\baction input\b{_COLON}[ \t]*")
FINAL_ANSWER = re.compile(rf"(?im)^{_MARKUP}\bfinal answer\b{_COLON}")
THOUGHT = re.compile(rf"(?i)\s*{_MARKUP}\b(?:thought|think|thinking|reasoning)\b{_COLON}")
NEXT_TURN = re.compile(rf"(?im)^{_MARKUP}\b(?:observation|thought)\b{_COLON}")
FENCE = re.compile(r"^\s*(?:```|~~~)\s*\w*\s*$")


def before_next_turn(text: str) -> str:
    """The text up to an observation or thought that begins a line."""
    following = NEXT_TURN.search(text)
    return text[: following.start()] if following else text
