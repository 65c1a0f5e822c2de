"""What the room needs from a canonical form."""

from __future__ import annotations

from typing import Protocol

from tutelage.runtime.types import Action, Choice, Message


class Canonicalizer(Protocol):
    """Maps answers that do the same to equal actions."""

    def action(self, answer: Choice | Message) -> Action | None:
        """The action that an answer names; ``None`` if it names none."""
        ...

    def past(self, action: str) -> Action | None:
        """The action of a past turn, where it stands as text (tool calls as JSON)."""
        ...
