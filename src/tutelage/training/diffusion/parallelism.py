"""How success and parallelism trade off, and what an arm costs at equal success."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_LOST = 0.05
"""Success that a point may lose against the best before it does not count."""


@dataclass(frozen=True, slots=True)
class Point:
    """One way of decoding, measured."""

    rule: str
    success: float
    """Share of the prompts answered right."""
    forwards: float
    """Mean a prompt."""
    tokens_a_forward: float
    """Tokens before the end token over forwards, all prompts together."""
    latency_s: float = 0.0
    """Mean a prompt, in the batch that it was in."""


def cheapest_at(points: Sequence[Point], success: float, slack: float = 0.01) -> Point | None:
    """The point with the fewest forwards that loses at most ``slack`` of a success.

    ``None``: no point is as good.
    """
    # Half a prompt in ten thousand is rounding, not a loss.
    good = [point for point in points if point.success >= success - slack - 5e-5]
    return min(good, key=lambda point: point.forwards, default=None)


def area(points: Sequence[Point], best_success: float) -> float:
    """Area under accuracy-parallelism (AUP of d3LLM, arXiv 2601.07568).

    Accuracy in percent over tokens a forward, each accuracy weighted by
    ``min(exp(-3 (1 - y / best)), 1)`` with y in percent; points that lose more than ``MOST_LOST``
    of the best success are left out, and the first point counts from zero tokens a forward.

    Args:
        points: Of one arm.
        best_success: The best of all arms that are compared.
    """
    kept = sorted(
        (point for point in points if point.success >= best_success - MOST_LOST),
        key=lambda point: point.tokens_a_forward,
    )
    if not kept or best_success <= 0:
        return 0.0
    heights = [
        100 * p.success * min(math.exp(-3 * (1 - p.success / best_success)), 1.0) for p in kept
    ]
    total = kept[0].tokens_a_forward * heights[0]
    for before, after, low, high in zip(kept, kept[1:], heights, heights[1:], strict=False):
        total += (after.tokens_a_forward - before.tokens_a_forward) * (low + high) / 2
    return total
