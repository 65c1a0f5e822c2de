"""One sample where the student is sure of its first one, more where it is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tutelage.cascade.agreement import mean_logprob
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.protocols import AgreementRule
from tutelage.runtime.types import Action, Agreement, Choice


class FirstLikely:
    """The first sample alone is an agreement where its tokens are likely, else the rule decides.

    What is likely does not depend on how many samples were drawn: a step that one sample settles
    is decided alike by all of them. An unusable sample is never enough, nor is one whose endpoint
    tells no log-probabilities.

    Args:
        rule: Decides the other steps.
        least_logprob: Least mean log-probability of the first sample's tokens, at most 0.
        is_mutating: Whether an action may write, which one sample alone never decides; absent: all
            actions are decided alike.

    Raises:
        ConfigError: ``least_logprob`` is above 0.
    """

    def __init__(
        self,
        rule: AgreementRule,
        least_logprob: float,
        is_mutating: Callable[[Action], bool] | None = None,
    ) -> None:
        if least_logprob > 0:
            raise ConfigError(f"least_logprob = {least_logprob}: give at most 0")
        self._rule = rule
        self._least_logprob = least_logprob
        self._is_mutating = is_mutating

    def measure(self, choices: Sequence[Choice], planned: int | None = None) -> Agreement:
        """Votes of the samples; settled by the first one where that is likely."""
        votes = self._rule.measure(choices, planned)
        if not choices or not self._is_enough(choices[0]):
            return votes
        first = self._rule.measure(choices[:1])
        if self._is_mutating is not None and first.modal and self._is_mutating(first.modal):
            return votes
        return replace(votes, votes=first.votes, samples=1, chosen=0, agreed=True, settled=True)

    def action(self, choice: Choice) -> str | None:
        """The canonical key of one sample's action; ``None`` if it names none."""
        return self._rule.action(choice)

    def _is_enough(self, first: Choice) -> bool:
        told = mean_logprob(first)
        return told is not None and told >= self._least_logprob and bool(self.action(first))
