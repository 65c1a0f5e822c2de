"""Bounds and tests for the difference of two success rates on the same tasks."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, lgamma
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from tutelage.runtime.errors import TrainingError

Array = NDArray[np.float64]

EXACT_PAIRS = 400
"""Above this, the score test stands for the exact one: enumeration grows with the square."""
_NUISANCE = 96
_BISECTIONS = 12
"""To 5e-4 of a rate."""
_BETS = tuple(step / 20 for step in range(1, 20))


def sign_test(wins: int, losses: int) -> float:
    """One-sided exact p-value of "the candidate is not better".

    ``P(Bin(wins + losses, 1/2) >= wins)``: McNemar's exact test where wins and losses
    are the discordant pairs; 1 without any.
    """
    if wins < 0 or losses < 0:
        raise TrainingError(f"wins = {wins} and losses = {losses} must not be negative")
    discordant = wins + losses
    # Whole numbers up to the division: 2 ** discordant overflows a float early.
    return sum(comb(discordant, k) for k in range(wins, discordant + 1)) / (1 << discordant)


def score(wins: Array, losses: Array, pairs: int, difference: float) -> Array:
    """Tango's score statistic of "the rates differ by ``difference``"; large speaks for more.

    ``(wins - losses - n d) / sqrt(n (2 q + d (1 - d)))`` with ``q`` the likeliest rate of losses
    under the hypothesis. Source: Tango 1998, equations 3 to 5.

    Args:
        wins: Pairs that only the candidate won.
        losses: Pairs that only the current student won.
        pairs: All pairs, ``n``.
        difference: Candidate minus current, in (-1, 1).
    """
    n, d = float(pairs), difference
    b = -wins - losses + (2 * n - wins + losses) * d
    c = -losses * d * (1 - d)
    q = (np.sqrt(np.maximum(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    spread = np.sqrt(np.maximum(0.0, n * (2 * q + d * (1 - d))))
    surplus = wins - losses - n * d
    # Without spread nothing discordant was seen under d = 0: no evidence either way.
    return np.divide(surplus, spread, out=np.zeros_like(surplus), where=spread > 1e-12)


def p_value(wins: int, losses: int, pairs: int, difference: float) -> float:
    """P-value of "candidate minus current is at most ``difference``", for independent pairs.

    Up to 400 pairs the exact unconditional test: the largest probability, over all rates of
    discordant pairs that fit the hypothesis, of a score as high as the observed one. Above, the
    score test by the normal distribution. Source: Hsueh, Liu and Chen 2001.
    """
    _check(wins, losses, pairs)
    if not pairs:
        return 1.0
    seen = float(score(np.array([float(wins)]), np.array([float(losses)]), pairs, difference)[0])
    if seen <= 0:
        return 1.0
    if pairs > EXACT_PAIRS:
        return 1 - NormalDist().cdf(seen)
    losing, winning = np.meshgrid(
        np.arange(pairs + 1, dtype=np.float64), np.arange(pairs + 1, dtype=np.float64)
    )
    possible = losing + winning <= pairs
    losing, winning = losing[possible], winning[possible]
    extreme = score(winning, losing, pairs, difference) >= seen - 1e-9
    losing, winning = losing[extreme], winning[extreme]
    tied = pairs - losing - winning
    logs = np.array([lgamma(k + 1) for k in range(pairs + 1)])
    ways = logs[pairs] - _at(logs, winning) - _at(logs, losing) - _at(logs, tied)
    low, high = max(0.0, -difference), (1 - difference) / 2
    highest = 0.0
    # Denser at the low end, where the probability bends.
    for place in np.linspace(0.0, 1.0, _NUISANCE):
        lost = low + (high - low) * place * place
        rates = np.log(np.maximum([lost + difference, lost, 1 - difference - 2 * lost], 1e-300))
        mass = np.exp(ways + winning * rates[0] + losing * rates[1] + tied * rates[2]).sum()
        highest = max(highest, float(mass))
    return min(1.0, highest)


def lower_bound(wins: int, losses: int, pairs: int, delta: float) -> float:
    """Lower bound of candidate minus current at confidence ``1 - delta``, by ``p_value``.

    The difference at which the test stops to reject, by bisection; -1 without pairs.
    """
    _check(wins, losses, pairs)
    if not 0 < delta < 0.5:
        raise TrainingError(f"delta = {delta}: give a probability between 0 and 0.5, both excluded")
    if not pairs:
        return -1.0
    low, high = -1.0, (wins - losses) / pairs
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if p_value(wins, losses, pairs, middle) <= delta:
            low = middle
        else:
            high = middle
    return low


def mean_p_value(values: Sequence[float], mean: float) -> float:
    """P-value of "independent values in [0, 1] have a mean of at most ``mean``".

    A mixture of constant bets: ``1 / mean_over_bets(prod(1 + share (x / mean - 1)))``, which holds
    at every number of values (Markov) and does not depend on their order. Source: Waudby-Smith
    and Ramdas 2024, section 4.
    """
    if mean <= 0:
        return 1.0 if not any(values) else 0.0
    odds = np.asarray(values, dtype=np.float64) / mean - 1
    logs = np.array([float(np.log1p(share * odds).sum()) for share in _BETS])
    top = float(logs.max())
    wealth = top + float(np.log(np.exp(logs - top).mean()))
    return float(np.exp(min(0.0, -wealth)))


def mean_lower_bound(values: Sequence[float], delta: float) -> float:
    """Lower bound of the mean of independent values in [0, 1] at confidence ``1 - delta``."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        if mean_p_value(values, middle) <= delta:
            low = middle
        else:
            high = middle
    return low


def pairs_needed(discordant: float, margin: float, delta: float, power: float = 0.8) -> int:
    """Pairs with which an equal candidate passes non-inferiority with a probability of ``power``.

    ``(z(1 - delta) + z(power))^2 discordant / margin^2``: the normal approximation.

    Args:
        discordant: Share of pairs that only one of them wins.
        margin: Of the gate.
        delta: One minus its confidence.
        power: Wanted probability.
    """
    z = NormalDist().inv_cdf
    return max(1, round((z(1 - delta) + z(power)) ** 2 * discordant / margin**2))


def _at(table: Array, places: Array) -> Array:
    found: Array = table[places.astype(np.int64)]
    return found


def _check(wins: int, losses: int, pairs: int) -> None:
    if wins < 0 or losses < 0 or wins + losses > pairs:
        raise TrainingError(f"wins = {wins}, losses = {losses} do not fit into {pairs} pairs")
