"""Which demonstrations are worth their tokens: greedy by marginal value per token."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tutelage.runtime.errors import ConfigError
from tutelage.runtime.pricing import Price
from tutelage.runtime.types import Demonstration, Retrieved, Step

DIVERSITY = 0.6
"""Value that a copy of what is shown loses, unless the configuration says otherwise."""
CANDIDATES = 12
"""Best ranked demonstrations among which a budget chooses."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A demonstration that may be shown.

    Raises:
        ConfigError: ``tokens`` is below 1.
    """

    id: str
    """Decides between equals, so that the order of the offers never does."""
    relevance: float
    """1 for a demonstration of the very state under the very goal, less for others."""
    tokens: int
    """What it adds to the prompt."""
    utility: float = 1.0
    """Success with it over success in general; 1 where nothing was measured."""
    state: NDArray[np.float32] | None = None
    """Unit vector of its state, by which likeness to others is told, shape (dimension,)."""

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ConfigError(f"tokens = {self.tokens}: a demonstration has at least 1")


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """What the demonstrations of one step may take, and when one is not worth its tokens.

    Raises:
        ConfigError: A limit is negative.
    """

    tokens: int | None = None
    """All together; ``None``: no limit."""
    usd: float | None = None
    """All together at ``token_usd``; ``None``: no limit."""
    token_usd: float = 0.0
    """What one prompt token costs in this step."""
    least_value_per_token: float = 0.0
    """Marginal value per token below which nothing more is shown."""
    diversity: float = 0.0
    """Value taken off for a likeness of 1 to what is already chosen."""

    def __post_init__(self) -> None:
        for name in ("tokens", "usd", "token_usd", "least_value_per_token", "diversity"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ConfigError(f"{name} = {value}: give 0 or more")

    @property
    def most_tokens(self) -> float:
        """The tighter of both limits in tokens."""
        most = math.inf if self.tokens is None else float(self.tokens)
        if self.usd is not None and self.token_usd > 0:
            most = min(most, self.usd / self.token_usd)
        return most


def choose(offers: Sequence[Offer], limits: BudgetLimits, k: int) -> list[Offer]:
    """The demonstrations that are worth their tokens, in the order in which they were chosen.

    The value of an offer beside those chosen is ``utility * (relevance - diversity * likeness)``,
    likeness being the largest dot product of its state with theirs. Greedily, the offer with the
    most value per token comes next, until one does not fit, is worth nothing, or is worth less per
    token than the least. The same is tried by value alone, and without the longest offers, then
    without the next longest, and so on; the most valuable of these plans is returned. Each of them
    only grows with the budget, so that a larger one never gives less value.
    Source: marginal relevance (Carbonell and Goldstein 1998); the better of both greedy orders
    under a budget (Leskovec et al. 2007).

    Args:
        offers: What can be shown, in any order.
        limits: What may be spent.
        k: Demonstrations at most.
    """
    ordered = sorted(offers, key=lambda offer: offer.id)
    likeness = [[_likeness(one, other) for other in ordered] for one in ordered]
    best: list[int] = []
    best_rank = (0.0, 0, best)
    for longest in {one.tokens for one in ordered}:
        allowed = [place for place, one in enumerate(ordered) if one.tokens <= longest]
        for per_token in (True, False):
            plan, total, spent = _greedy(ordered, allowed, likeness, limits, k, per_token=per_token)
            # Rounded, so that the order of a sum does not decide between equals.
            rank = (-round(total, 9), spent, plan)
            if rank < best_rank:
                best, best_rank = plan, rank
    return [ordered[place] for place in best]


def value(chosen: Sequence[Offer], limits: BudgetLimits) -> float:
    """What demonstrations are worth that were chosen in this order."""
    total = 0.0
    for place, one in enumerate(chosen):
        likeness = max((_likeness(one, other) for other in chosen[:place]), default=0.0)
        total += one.utility * (one.relevance - limits.diversity * likeness)
    return total


def _greedy(
    offers: Sequence[Offer],
    allowed: Sequence[int],
    likeness: Sequence[Sequence[float]],
    limits: BudgetLimits,
    k: int,
    *,
    per_token: bool,
) -> tuple[list[int], float, int]:
    """Places of those chosen, their value and their tokens."""
    left, chosen, total, spent = list(allowed), list[int](), 0.0, 0
    nearest = dict.fromkeys(left, 0.0)
    while left and len(chosen) < k:
        best, best_key, best_value = -1, 0.0, 0.0
        for place in left:
            one = offers[place]
            worth = one.utility * (one.relevance - limits.diversity * nearest[place])
            rate = worth / one.tokens
            key = rate if per_token else worth
            if key > best_key and rate >= limits.least_value_per_token:
                best, best_key, best_value = place, key, worth
        if best < 0 or spent + offers[best].tokens > limits.most_tokens:
            break
        left.remove(best)
        chosen.append(best)
        total, spent = total + best_value, spent + offers[best].tokens
        for place in left:
            nearest[place] = max(nearest[place], likeness[place][best])
    return chosen, total, spent


def _likeness(one: Offer, other: Offer) -> float:
    """The dot product of their states, at least 0; 0 where one is unknown."""
    if one.state is None or other.state is None:
        return 0.0
    return max(0.0, float(one.state @ other.state))


def least_value_per_token(token_usd: float, teacher_usd: float, saved_per_value: float) -> float:
    """The value per token at which a demonstration costs what it saves.

    Showing it costs ``tokens * token_usd``. It saves ``value * saved_per_value`` calls of the
    teacher, each ``teacher_usd``. So it pays iff ``value / tokens >= token_usd / (teacher_usd *
    saved_per_value)``.

    Args:
        token_usd: What one prompt token of the student costs in this step.
        teacher_usd: What the teacher would cost in this step.
        saved_per_value: Calls of the teacher that one unit of value saves, in [0, 1].

    Returns:
        Infinity where nothing is saved, unless tokens cost nothing.
    """
    if token_usd == 0:
        return 0.0
    saved_usd = teacher_usd * saved_per_value
    return token_usd / saved_usd if saved_usd > 0 else math.inf


def token_usd(price: Price, prompts: int) -> float:
    """What one token more in the student's prompt costs in a step.

    The first prompt writes it to the cache, or pays it in full, and the others read it.

    Args:
        price: The student's prices.
        prompts: How often the prompt is sent: 1 where one call draws all samples.
    """
    first = price.input if price.cache_write is None else price.cache_write
    again = price.input if price.cache_read is None else price.cache_read
    return (first + (prompts - 1) * again) / 1_000_000


class Worth(Protocol):
    """Knows what trajectories have been worth."""

    async def utilities(self, tenant: str) -> Mapping[str, float]:
        """Success with a trajectory over success in general, by its id; unmeasured: absent."""
        ...


class DemonstrationBudget:
    """Chooses among the best ranked demonstrations of a step those that are worth their tokens.

    The relevance of a demonstration is ``(score / most) ** sharpness``: what is a little less
    similar helps a lot less, and without that two short ones would beat the one that fits.

    Args:
        count: Tokens that a demonstration adds to the prompt.
        limits: What may be spent in a step, and when a demonstration is not worth it.
        worth: What trajectories have been worth; absent: all the same.
        most: Score of a demonstration of the very state under the very goal.
        sharpness: How much faster than its score the value of a demonstration falls.
        candidates: How many of the best ranked are looked at.
    """

    def __init__(
        self,
        count: Callable[[Demonstration], int],
        limits: Callable[[Step], BudgetLimits],
        worth: Worth | None = None,
        *,
        most: float = 1.3,
        sharpness: float = 4.0,
        candidates: int = CANDIDATES,
    ) -> None:
        self.candidates = candidates
        self._most = most
        self._sharpness = sharpness
        self._count = count
        self._limits = limits
        self._worth = worth

    async def within(
        self, step: Step, ranked: Sequence[tuple[Retrieved, NDArray[np.float32]]], k: int
    ) -> list[Retrieved]:
        """At most ``k`` of the ranked demonstrations, best ranked first.

        Args:
            step: The step that they are for.
            ranked: Demonstrations as they would be shown, each with the vector of its state.
            k: Demonstrations at most.
        """
        known = await self._worth.utilities(step.tenant) if self._worth is not None else {}
        offers = [
            Offer(
                id=one.demonstration.id,
                relevance=(max(0.0, one.score) / self._most) ** self._sharpness,
                tokens=self._count(one.demonstration),
                utility=known.get(one.demonstration.trajectory_id, 1.0),
                state=state,
            )
            for one, state in ranked
        ]
        chosen = {offer.id for offer in choose(offers, self._limits(step), k)}
        return [one for one, _ in ranked if one.demonstration.id in chosen]
