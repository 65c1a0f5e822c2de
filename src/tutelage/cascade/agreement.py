"""How far samples name the same action."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tutelage.cascade.canonical.protocol import Canonicalizer
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Action, Agreement, Choice


class Unanimous:
    """All samples name one action; an unusable sample breaks it.

    The first disagreement settles it, so no further sample needs to be drawn.

    Source: the self-consistency cascade of arXiv 2512.02543, consistent = 1 iff all N agree.

    Args:
        canonicalizer: Maps a sample to its action.
    """

    def __init__(self, canonicalizer: Canonicalizer) -> None:
        self._canonicalizer = canonicalizer

    def measure(self, choices: Sequence[Choice], planned: int | None = None) -> Agreement:
        """Votes of the samples; no samples at all are no agreement."""
        actions = [self._canonicalizer.action(choice) for choice in choices]
        votes = counted(actions)
        needed = max(1, len(actions) if planned is None else planned)
        first = votes[0][1] if votes else 0
        return Agreement(
            votes=votes,
            samples=len(actions),
            chosen=actions.index(votes[0][0]) if votes else None,
            agreed=needed <= first == len(actions),
            settled=planned is None or first < len(actions) or len(actions) >= needed,
        )

    def action(self, choice: Choice) -> str | None:
        """The canonical key of one sample's action; ``None`` if it names none."""
        return key_of(self._canonicalizer.action(choice))


class MOfN:
    """At least ``m`` samples name one action, however many were drawn.

    It is settled when an action has its votes, or when too few samples are left for any.

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

    def measure(self, choices: Sequence[Choice], planned: int | None = None) -> Agreement:
        """Votes of the samples; fewer than ``m`` samples are no agreement."""
        actions = [self._canonicalizer.action(choice) for choice in choices]
        votes = counted(actions)
        first = votes[0][1] if votes else 0
        second = votes[1][1] if len(votes) > 1 else 0
        left = max(0, (planned or 0) - len(actions))
        return Agreement(
            votes=votes,
            samples=len(actions),
            chosen=actions.index(votes[0][0]) if votes else None,
            agreed=first >= self._m,
            # With a small m a later action may yet overtake the one that has its votes.
            settled=first + left < self._m
            or not left
            or (first >= self._m and first > second + left),
        )

    def action(self, choice: Choice) -> str | None:
        """The canonical key of one sample's action; ``None`` if it names none."""
        return key_of(self._canonicalizer.action(choice))


class Majority:
    """One action is the most frequent with a stated posterior probability.

    Drawing stops as soon as it is, or when the samples that are left cannot make it so.

    Source: the Beta criterion of Adaptive-Consistency (arXiv 2305.11860): with votes v1 ≥ v2 of the
    two most frequent actions, P(p1 > p2) = 1 − I_{1/2}(v1 + 1, v2 + 1). Unusable samples count
    together as one rival action.

    Args:
        canonicalizer: Maps a sample to its action.
        confidence: The probability needed, in (0.5, 1).

    Raises:
        ConfigError: ``confidence`` is outside (0.5, 1).
    """

    def __init__(self, canonicalizer: Canonicalizer, confidence: float = 0.9) -> None:
        if not 0.5 < confidence < 1:
            raise ConfigError(f"confidence = {confidence}: give a number between 0.5 and 1")
        self._canonicalizer = canonicalizer
        self._confidence = confidence

    def measure(self, choices: Sequence[Choice], planned: int | None = None) -> Agreement:
        """Votes of the samples; agreed when the posterior probability is reached."""
        actions = [self._canonicalizer.action(choice) for choice in choices]
        votes = counted(actions)
        first = votes[0][1] if votes else 0
        unusable = sum(action is None for action in actions)
        rival = max(votes[1][1] if len(votes) > 1 else 0, unusable)
        left = max(0, (planned or 0) - len(actions))
        agreed = bool(votes) and majority_probability(first, rival) >= self._confidence
        best = majority_probability(first + left, rival)
        return Agreement(
            votes=votes,
            samples=len(actions),
            chosen=actions.index(votes[0][0]) if votes else None,
            agreed=agreed,
            settled=agreed or left == 0 or best < self._confidence,
        )

    def action(self, choice: Choice) -> str | None:
        """The canonical key of one sample's action; ``None`` if it names none."""
        return key_of(self._canonicalizer.action(choice))


class Weighted:
    """The samples of one action carry at least a share of the likelihood of all samples.

    A sample weighs exp(mean log-probability of its tokens); where the endpoint gives none, each
    sample weighs the same. An unusable sample weighs against every action.

    Source: soft self-consistency (arXiv 2402.13212).

    Args:
        canonicalizer: Maps a sample to its action.
        share: The share needed, in (0, 1].

    Raises:
        ConfigError: ``share`` is outside (0, 1].
    """

    def __init__(self, canonicalizer: Canonicalizer, share: float = 0.8) -> None:
        if not 0 < share <= 1:
            raise ConfigError(f"share = {share}: give a number above 0, at most 1")
        self._canonicalizer = canonicalizer
        self._share = share

    def measure(self, choices: Sequence[Choice], planned: int | None = None) -> Agreement:
        """Votes of the samples; the action of the greatest likelihood is chosen."""
        actions = [self._canonicalizer.action(choice) for choice in choices]
        logprobs = [mean_logprob(choice) for choice in choices]
        if any(logprob is None for logprob in logprobs):
            logprobs = [0.0] * len(actions)
        weights: dict[Action, float] = {}
        total = 0.0
        for action, logprob in zip(actions, logprobs, strict=True):
            weight = math.exp(min(0.0, logprob or 0.0))
            total += weight
            if action is not None:
                weights[action] = weights.get(action, 0.0) + weight
        counts = dict(counted(actions))
        ordered = sorted(weights, key=lambda action: -weights[action])
        share = weights[ordered[0]] / total if ordered and total else 0.0
        return Agreement(
            votes=tuple((action, counts[action]) for action in ordered),
            samples=len(actions),
            chosen=actions.index(ordered[0]) if ordered else None,
            agreed=bool(ordered) and share >= self._share,
            settled=len(actions) >= (planned or 0),
            weighted_share=share,
        )

    def action(self, choice: Choice) -> str | None:
        """The canonical key of one sample's action; ``None`` if it names none."""
        return key_of(self._canonicalizer.action(choice))


def majority_probability(first: int, second: int) -> float:
    """P(p1 > p2) for two actions with so many votes, under a uniform prior.

    It is 1 − I_{1/2}(first + 1, second + 1), a tail of the fair binomial.
    """
    tosses = first + second + 1
    return float(sum(math.comb(tosses, heads) for heads in range(first + 1)) / 2**tosses)


def mean_logprob(choice: Choice) -> float | None:
    """Mean log-probability of a sample's tokens; ``None`` if its endpoint gave none."""
    content = (choice.logprobs or {}).get("content")
    if not content:
        return None
    values = [token.get("logprob") for token in content]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return None
    return float(sum(values) / len(values))


def counted(actions: Sequence[Action | None]) -> tuple[tuple[Action, int], ...]:
    """Distinct usable actions with their counts, most frequent first, then by first sample."""
    counts: dict[Action, int] = {}
    for action in actions:
        if action is not None:
            counts[action] = counts.get(action, 0) + 1
    # The sort is stable and the dictionary ordered, so ties go to the first sample.
    return tuple(sorted(counts.items(), key=lambda vote: -vote[1]))


def key_of(action: Action | None) -> str | None:
    """The key of an action, if there is one."""
    return None if action is None else action.key
