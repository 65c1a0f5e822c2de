"""How far samples name the same action."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.cascade.canonical.protocol import Canonicalizer
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Action, Agreement, Choice


class Unanimous:
    """All samples name one action; an unusable sample breaks it.

    Source: the self-consistency cascade of arXiv 2512.02543, consistent = 1 iff all N agree.

    Args:
        canonicalizer: Maps a sample to its action.
    """

    def __init__(self, canonicalizer: Canonicalizer) -> None:
        self._canonicalizer = canonicalizer

    def measure(self, choices: Sequence[Choice]) -> Agreement:
        """Votes of the samples; no samples at all are no agreement."""
        return _agreement(self._canonicalizer, choices, needed=max(1, len(choices)))

    def action(self, choice: Choice) -> str | None:
        """The canonical key of one sample's action; ``None`` if it names none."""
        return _key(self._canonicalizer, choice)


class MOfN:
    """At least ``m`` samples name one action, however many were drawn.

    Source: thresholds below unanimity as in agreement-based cascades (arXiv 2407.02348).

    Args:
        canonicalizer: Maps a sample to its action.
        m: Votes needed. With ``m`` at most half of the samples, two actions can reach it; the more
            frequent one counts, then the one sampled first.

    Raises:
        ConfigError: ``m`` is below 1.
    """

    def __init__(self, canonicalizer: Canonicalizer, m: int) -> None:
        if m < 1:
            raise ConfigError(f"m = {m}: m-of-n agreement needs at least 1 vote")
        self._canonicalizer = canonicalizer
        self._m = m

    def measure(self, choices: Sequence[Choice]) -> Agreement:
        """Votes of the samples; fewer than ``m`` samples are no agreement."""
        return _agreement(self._canonicalizer, choices, needed=self._m)

    def action(self, choice: Choice) -> str | None:
        """The canonical key of one sample's action; ``None`` if it names none."""
        return _key(self._canonicalizer, choice)


def _agreement(canonicalizer: Canonicalizer, choices: Sequence[Choice], needed: int) -> Agreement:
    actions = [canonicalizer.action(choice) for choice in choices]
    counts: dict[Action, int] = {}
    for action in actions:
        if action is not None:
            counts[action] = counts.get(action, 0) + 1
    # The sort is stable and the dictionary ordered, so ties go to the first sample.
    votes = tuple(sorted(counts.items(), key=lambda vote: -vote[1]))
    return Agreement(
        votes=votes,
        samples=len(actions),
        chosen=actions.index(votes[0][0]) if votes else None,
        agreed=bool(votes) and votes[0][1] >= needed,
    )


def _key(canonicalizer: Canonicalizer, choice: Choice) -> str | None:
    action = canonicalizer.action(choice)
    return None if action is None else action.key
