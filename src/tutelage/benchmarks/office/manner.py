"""How a world wants to be played."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Manner:
    """What a replay should set for agents of a world."""

    canonical: str
    """The form in which actions are compared (``cascade.canonical``)."""
    max_tokens: int
    """Tokens that one action may take."""
    stop: tuple[str, ...] = ()
    """Where a model's answer ends early; code has several lines, so not at the first."""
    effects: Mapping[str, Literal["read", "write"]] = field(default_factory=dict)
    """Which calls only read (``cascade.effects``)."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """OpenAI tools that a request offers."""
