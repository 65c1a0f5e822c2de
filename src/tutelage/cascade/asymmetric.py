"""Agreement that asks more of actions that change the world."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tutelage.cascade.agreement import counted, key_of
from tutelage.cascade.canonical.protocol import Canonicalizer
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Action, Agreement, Choice


class Asymmetric:
    """Samples that only read may be outvoted; one that changes the world must be unanimous.

    If no sample names a mutating action, the most frequent action needs ``m`` votes. If any does,
    all samples must name that action, and an unusable one breaks it: a read that two of three
    samples name is no answer to the third that wants to delete.

    Args:
        canonicalizer: Maps a sample to its action.
        is_mutating: Whether an action may change the world, as ``Effects.is_mutating`` tells.
        m: Votes that a read needs; ``None``: more than half of the samples planned.

    Raises:
        ConfigError: ``m`` is below 1.
    """

    def __init__(
        self,
        canonicalizer: Canonicalizer,
        is_mutating: Callable[[Action], bool],
        m: int | None = None,
    ) -> None:
        if m is not None and m < 1:
            raise ConfigError(f"m = {m}: agreement of reads needs at least 1 vote")
        self._canonicalizer = canonicalizer
        self._is_mutating = is_mutating
        self._m = m

    def measure(self, choices: Sequence[Choice], planned: int | None = None) -> Agreement:
        """Votes of the samples; agreed if the most frequent action has the votes that it needs.

        It is settled when no further sample can change whether they agree, and on what.

        Args:
            choices: The samples drawn so far.
            planned: How many are drawn at most; ``None``: these are all.
        """
        actions = [self._canonicalizer.action(choice) for choice in choices]
        votes = counted(actions)
        total = max(planned or 0, len(actions), 1)
        first = votes[0][1] if votes else 0
        left = total - len(actions)
        needed = self._m if self._m is not None else total // 2 + 1
        if any(self._is_mutating(action) for action, _ in votes):
            agreed = first == total
            settled = left == 0 or first < len(actions)
        else:
            # A mutating action among those to come would need them all, these included.
            agreed = first >= needed and left == 0
            settled = left == 0 or (bool(actions) and first + left < needed)
        return Agreement(
            votes=votes,
            samples=len(actions),
            chosen=actions.index(votes[0][0]) if votes else None,
            agreed=agreed,
            settled=settled,
        )

    def settled(self, choices: Sequence[Choice], planned: int) -> bool:
        """Whether no further sample of those planned changes whether they agree, and on what."""
        return self.measure(choices, planned).settled

    def action(self, choice: Choice) -> str | None:
        """The canonical key of one sample's action; ``None`` if it names none."""
        return key_of(self._canonicalizer.action(choice))
