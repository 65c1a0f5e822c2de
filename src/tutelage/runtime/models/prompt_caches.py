"""Which earlier prompt shares the longest beginning with a new one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

Kept = TypeVar("Kept")


def shared_length(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their beginning."""
    limit = min(len(left), len(right))
    if left[:limit] == right[:limit]:
        return limit
    low, high = 0, limit
    # Equality of slices runs at C speed, so halving beats a loop over tokens.
    while high - low > 1:
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low


class PromptCaches(Generic[Kept]):
    """The latest prompts, each with what was computed for its tokens.

    Args:
        limit: Prompts kept; the one that was not used for longest goes first. 0 keeps none.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: dict[tuple[int, ...], Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def longest(self, tokens: tuple[int, ...]) -> tuple[int, Kept | None]:
        """Length of the longest shared beginning, and what was kept for the prompt that has it."""
        best, found = 0, None
        for prompt in self._kept:
            shared = shared_length(prompt, tokens)
            if shared > best:
                best, found = shared, prompt
        if found is None:
            return 0, None
        kept = self._kept.pop(found)
        self._kept[found] = kept
        return best, kept

    def keep(self, tokens: tuple[int, ...], kept: Kept) -> None:
        """Keeps a prompt; it replaces those that it merely continues."""
        for prompt in [p for p in self._kept if p == tokens[: len(p)]]:
            del self._kept[prompt]
        self._kept[tokens] = kept
        while len(self._kept) > self._limit:
            del self._kept[next(iter(self._kept))]
