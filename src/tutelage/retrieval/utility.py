"""What a trajectory is worth: outcomes with it against outcomes without it, as chance chose."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import exp, lgamma, log, log1p
from typing import TypeVar

from tutelage.retrieval.exposures import Exposure

Unit = TypeVar("Unit")

_BISECTIONS = 45
_TINY = 1e-300
_PRECISION = 1e-13
_TERMS = 10_000


@dataclass(frozen=True, slots=True)
class Weighed:
    """Wins among trials, each weighed by one over the probability of what chance chose."""

    trials: int = 0
    weight: float = 0.0
    squares: float = 0.0
    """Sum of the squared weights."""
    wins: float = 0.0
    """Sum of the weights of the wins."""

    def plus(self, win: bool, weight: float) -> Weighed:
        """With one more trial."""
        return Weighed(
            self.trials + 1,
            self.weight + weight,
            self.squares + weight * weight,
            self.wins + weight * win,
        )

    @property
    def size(self) -> float:
        """Trials of equal weight that tell as much (Kish 1965); all, if weights are equal."""
        return self.weight * self.weight / self.squares if self.squares else 0.0

    @property
    def rate(self) -> float:
        """Share of wins, in [0, 1]; 0 without trials."""
        return self.wins / self.weight if self.weight else 0.0


@dataclass(frozen=True, slots=True)
class Tally:
    """Outcomes of the episodes or steps for which a trajectory was found."""

    shown: Weighed = field(default_factory=Weighed)
    left_out: Weighed = field(default_factory=Weighed)


@dataclass(frozen=True, slots=True)
class Utility:
    """Rates with and without a trajectory, each with one-sided Beta posterior bounds."""

    trajectory_id: str
    shown: int
    """Trials with it."""
    left_out: int
    """Trials without it."""
    rate: float
    """Posterior mean of the success with it."""
    lower: float
    upper: float
    rate_without: float
    lower_without: float
    upper_without: float

    @property
    def is_harmful(self) -> bool:
        """Whether even the upper bound with it is worse than the lower bound without it."""
        return self.upper < self.lower_without


def utility(
    trajectory_id: str,
    tally: Tally,
    prior_rate: float,
    *,
    confidence: float = 0.95,
    prior_weight: float = 2.0,
) -> Utility:
    """The posterior of a trajectory's rates.

    Args:
        trajectory_id: Whose.
        tally: Its outcomes.
        prior_rate: Success over all trials of the tenant: where little is known, that is likely.
        confidence: Of each one-sided bound.
        prior_weight: Trials that the prior counts as.
    """
    prior_rate = min(max(prior_rate, 0.01), 0.99)
    rates = []
    for weighed in (tally.shown, tally.left_out):
        wins = weighed.rate * weighed.size + prior_rate * prior_weight
        losses = (1 - weighed.rate) * weighed.size + (1 - prior_rate) * prior_weight
        low = beta_quantile(1 - confidence, wins, losses)
        rates.append((wins / (wins + losses), low, beta_quantile(confidence, wins, losses)))
    return Utility(trajectory_id, tally.shown.trials, tally.left_out.trials, *rates[0], *rates[1])


def tally_episodes(
    exposures: Iterable[Exposure], success: Mapping[str, bool]
) -> tuple[dict[str, Tally], float]:
    """Success of whole episodes by trajectory, and over all episodes with an exposure.

    An episode counts once a trajectory, as chance decided it once.

    Args:
        exposures: What was found for steps.
        success: By episode.
    """
    seen: dict[tuple[str, str], tuple[bool, float]] = {}
    for one in exposures:
        if one.episode_id in success:
            for shown, ids in ((True, one.shown), (False, one.left_out)):
                for trajectory_id in ids:
                    seen.setdefault((trajectory_id, one.episode_id), (shown, one.share))
    outcomes = {key: success[key[1]] for key in seen}
    episodes = {episode_id for _, episode_id in seen}
    rate = sum(success[id] for id in episodes) / len(episodes) if episodes else 0.5
    return _tallies(seen, outcomes), rate


def tally_steps(
    exposures: Iterable[Exposure], right: Mapping[tuple[str, int], bool]
) -> tuple[dict[str, Tally], float]:
    """Agreement with the teacher by trajectory, and over all steps with an exposure.

    Only steps at which the teacher was heard count. Which steps those are may itself depend on
    what was shown, so this tells sooner, but less surely, than the success of episodes.

    Args:
        exposures: What was found for steps.
        right: Whether the student named the teacher's action, by episode and step index.
    """
    seen: dict[tuple[str, tuple[str, int]], tuple[bool, float]] = {}
    for one in exposures:
        step = (one.episode_id, one.step_index)
        if step in right:
            for shown, ids in ((True, one.shown), (False, one.left_out)):
                for trajectory_id in ids:
                    seen.setdefault((trajectory_id, step), (shown, one.share))
    outcomes = {key: right[key[1]] for key in seen}
    steps = {step for _, step in seen}
    rate = sum(right[step] for step in steps) / len(steps) if steps else 0.5
    return _tallies(seen, outcomes), rate


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The value that a Beta(a, b) variable stays below with a probability, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _incomplete_beta(a, b, middle) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _tallies(
    seen: Mapping[tuple[str, Unit], tuple[bool, float]],
    outcomes: Mapping[tuple[str, Unit], bool],
) -> dict[str, Tally]:
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    for key, (shown, share) in seen.items():
        before, win = tallies[key[0]], outcomes[key]
        if shown:
            tallies[key[0]] = Tally(before.shown.plus(win, 1 / (1 - share)), before.left_out)
        else:
            tallies[key[0]] = Tally(before.shown, before.left_out.plus(win, 1 / share))
    return dict(tallies)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function by Lentz's continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    upper, lower = 1.0, 1 / (_away(1 - (a + b) * x / (a + 1)))
    fraction = lower
    for term in range(1, _TERMS):
        even = term * (b - term) * x / ((a + 2 * term - 1) * (a + 2 * term))
        odd = -(a + term) * (a + b + term) * x / ((a + 2 * term) * (a + 2 * term + 1))
        for step in (even, odd):
            lower = 1 / _away(1 + step * lower)
            upper = _away(1 + step / upper)
            fraction *= lower * upper
        if abs(lower * upper - 1) < _PRECISION:
            break
    return front * fraction


def _away(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
