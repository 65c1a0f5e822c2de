"""How a world wants to be played."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# Generated tokens of one household command; the longest is about 14.
COMMAND_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Manner:
    """How agents of a world are asked, and how their actions are compared.

    The default suits worlds whose actions are one line of text.
    """

    canonical: str | None = None
    """The form in which actions are compared (``cascade.canonical``) where the configuration names
    none; absent: commands of the household worlds."""
    max_tokens: int = COMMAND_TOKENS
    """Tokens that one action may take."""
    stop: tuple[str, ...] = ("\n",)
    """Where a model's answer ends early; code has several lines, so not at the first."""
    effects: Mapping[str, Literal["read", "write"]] = field(default_factory=dict)
    """Which calls only read (``cascade.effects``)."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """OpenAI tools that a request offers."""
