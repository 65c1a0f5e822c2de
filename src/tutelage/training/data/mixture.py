"""How much of each kind of task the student trains on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, fsum, log
from random import Random

from tutelage.runtime.errors import TrainingError
from tutelage.runtime.types import Trace
from tutelage.training.data.example import TrainingExample

Shares = Mapping[str, float]
"""Share by family; all together 1."""

RATIO_BOUNDS = (0.5, 3.0)
"""The exponential of a perplexity ratio explodes: 1.3, 2 and 5 alone would give .02, .05, .93."""


def uniform(families: Iterable[str]) -> dict[str, float]:
    """The same share for each family."""
    names = sorted(set(families))
    return {name: 1 / len(names) for name in names}


def perplexity_ratio(student_nats: float, teacher_nats: float) -> float:
    """``PPL_student / PPL_teacher`` from mean cross-entropies in nats a token, clipped to
    ``RATIO_BOUNDS``.
    """
    low, high = RATIO_BOUNDS
    gap = min(max(student_nats - teacher_nats, log(low)), log(high))
    return exp(gap)


def softmax(scores: Mapping[str, float]) -> dict[str, float]:
    """``exp(score) / sum``, by log-sum-exp."""
    highest = max(scores.values(), default=0.0)
    shifted = {name: exp(score - highest) for name, score in scores.items()}
    total = fsum(shifted.values())
    return {name: value / total for name, value in shifted.items()}


def first_shares(ratios: Mapping[str, float]) -> dict[str, float]:
    """DDK before the first step: ``r_0 = softmax(ratio)``.

    Source: Liu et al., DDK, arXiv 2407.16154, equations 1 to 3, with clipped ratios.

    Args:
        ratios: ``perplexity_ratio`` of each family.
    """
    return softmax(ratios)


def next_shares(
    shares: Shares, ratios: Mapping[str, float], smoothing: float = 0.5
) -> dict[str, float]:
    """DDK at the end of a period: ``a psi / sum(psi) + (1 - a) / N``, ``psi = r exp(ratio)``.

    No share is below ``(1 - a) / N``.

    Args:
        shares: ``r`` of the period that ends.
        ratios: ``perplexity_ratio`` of each family now.
        smoothing: ``a``, from 0 (uniform) to 1.

    Raises:
        TrainingError: The families differ, or ``smoothing`` is not within 0 and 1.
    """
    if set(shares) != set(ratios):
        odd = sorted(set(shares) ^ set(ratios))[0]
        raise TrainingError(f"family {odd!r} lacks a share or a ratio: give both for each family")
    if not 0 <= smoothing <= 1:
        raise TrainingError(f"smoothing is {smoothing}: give a number from 0 to 1")
    logs = {name: log(share) + ratios[name] for name, share in shares.items() if share > 0}
    grown = {**dict.fromkeys(shares, 0.0), **softmax(logs)}
    return {name: smoothing * grown[name] + (1 - smoothing) / len(shares) for name in shares}


@dataclass(frozen=True, slots=True)
class DomainMixture:
    """DDK's shares over a run: they change at the end of each period."""

    shares: Shares
    period_steps: int
    """About a thirtieth of the run; one that is longer than the run leaves the shares as they are.
    """
    smoothing: float = 0.5

    def after(
        self, step: int, nats: Callable[[], Mapping[str, tuple[float, float]]]
    ) -> DomainMixture:
        """The mixture after an optimizer step.

        Args:
            step: Steps that were taken, from 1.
            nats: Cross-entropy of student and teacher on each family's validation set, nats a
                token; called at the end of a period alone.
        """
        if step % self.period_steps:
            return self
        ratios = {name: perplexity_ratio(*both) for name, both in nats().items()}
        shares = next_shares(self.shares, ratios, self.smoothing)
        return DomainMixture(shares, self.period_steps, self.smoothing)


def deferral_rates(traces: Iterable[Trace], family: Callable[[Trace], str]) -> dict[str, float]:
    """Share of steps that the student was asked about and the teacher served, by family."""
    asked: Counter[str] = Counter()
    deferred: Counter[str] = Counter()
    for trace in traces:
        if trace.samples:
            asked[family(trace)] += 1
            deferred[family(trace)] += trace.decision.served == "teacher"
    return {name: deferred[name] / asked[name] for name in sorted(asked)}


def by_deferral(rates: Mapping[str, float], strength: float = 2.0) -> dict[str, float]:
    """``exp(strength * rate) / sum``: more of what the student hands over; 0 is uniform.

    It stands for the perplexity ratio where the teacher's log-probabilities are not to be had.

    Args:
        rates: Deferral rate, or the gap in success, by family; from 0 to 1.
        strength: How much a rate counts.
    """
    return softmax({name: strength * rate for name, rate in rates.items()})


def weighted(examples: Sequence[TrainingExample], shares: Shares) -> tuple[TrainingExample, ...]:
    """The examples with weights under which each family has its share; the mean weight stays.

    Raises:
        TrainingError: A family of the examples has no share, or all have none.
    """
    totals: dict[str, float] = defaultdict(float)
    for example in examples:
        totals[example.family] += example.weight
    _check(totals, shares)
    total = fsum(totals.values())
    present = fsum(shares[name] for name in totals)
    factors = {
        name: shares[name] / present * total / own if own else 0.0 for name, own in totals.items()
    }
    return tuple(
        one.model_copy(update={"weight": one.weight * factors[one.family]}) for one in examples
    )


def drawn(
    examples: Sequence[TrainingExample], shares: Shares, count: int, seed: int
) -> tuple[TrainingExample, ...]:
    """Examples drawn family by family; a family that is used up begins anew, in another order.

    Args:
        examples: In any order.
        shares: Probability of each family.
        count: How many to draw.
        seed: Of the draws.

    Raises:
        TrainingError: A family of the examples has no share, or all have none.
    """
    pools: dict[str, list[TrainingExample]] = defaultdict(list)
    for example in sorted(examples, key=lambda one: (one.tenant, one.id)):
        pools[example.family].append(example)
    _check(pools, shares)
    if not pools:
        return ()
    random = Random(seed)
    names = sorted(pools)
    waiting: dict[str, list[TrainingExample]] = {name: [] for name in names}
    found = []
    for name in random.choices(names, [shares[one] for one in names], k=count):
        if not waiting[name]:
            waiting[name] = random.sample(pools[name], len(pools[name]))
        found.append(waiting[name].pop())
    return tuple(found)


def _check(families: Mapping[str, object], shares: Shares) -> None:
    missing = sorted(set(families) - set(shares))
    if missing:
        raise TrainingError(f"family {missing[0]!r} has no share: give one for each family")
    if families and not any(shares[name] > 0 for name in families):
        raise TrainingError("no family of the examples has a share above 0: raise one")
