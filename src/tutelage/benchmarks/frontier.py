"""Whether one set of arms lies above others in cost and success."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.benchmarks.results import EpisodeResult
from tutelage.runtime.errors import BenchmarkError

Array = NDArray[np.float64]
Pricing = Literal["cached", "uncached"]


@dataclass(frozen=True, slots=True)
class Gap:
    """How far the frontier lies above one arm at that arm's cost."""

    arm: str
    cost_usd: float
    """Mean cost of an episode of the arm."""
    success: float
    gap: float
    """Success of the frontier at this cost minus the arm's."""
    low: float
    high: float
    """Bootstrap interval of the gap."""


def gaps(
    results: Iterable[EpisodeResult],
    ours: Collection[str],
    others: Sequence[str],
    pricing: Pricing,
    *,
    generator: np.random.Generator,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> list[Gap]:
    """Compares arms with the frontier of others at equal cost.

    The frontier is the upper concave hull of the arms ``ours`` in the plane of mean cost and
    success: whoever may toss a coin between two policies reaches every point between them. Beyond
    its dearest arm it is flat; below its cheapest one it is that arm's success in proportion to the
    cost. Interval: percentile bootstrap over tasks, all arms and seeds of a task together, so that
    what tasks have in common cancels.

    Args:
        results: Episodes; every arm has played every task with every seed.
        ours: Arms of the frontier.
        others: Arms that are compared.
        pricing: Which costs.
        generator: Source of the resampling.
        resamples: How many resamples are drawn.
        confidence: Of the intervals.

    Raises:
        BenchmarkError: An arm is missing, or has not played what the others have.
    """
    names = [*ours, *others]
    cost, success = _tables(results, names, pricing)
    tasks = cost.shape[0]
    mine, theirs = list(range(len(ours))), list(range(len(ours), len(names)))
    seen = _gaps(cost.mean(axis=0), success.mean(axis=0), mine, theirs)
    drawn = np.empty((resamples, len(theirs)))
    for place in range(resamples):
        picks = generator.integers(0, tasks, size=tasks)
        drawn[place] = _gaps(cost[picks].mean(axis=0), success[picks].mean(axis=0), mine, theirs)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return [
        Gap(
            arm=names[column],
            cost_usd=float(cost[:, column].mean()),
            success=float(success[:, column].mean()),
            gap=float(seen[place]),
            low=float(low[place]),
            high=float(high[place]),
        )
        for place, column in enumerate(theirs)
    ]


def hull_success(costs: Array, successes: Array, at: float) -> float:
    """Success of the upper concave hull of points at a cost.

    Args:
        costs: (arms,), USD.
        successes: (arms,), in [0, 1].
        at: The cost.
    """
    points = sorted(zip([0.0, *costs], [0.0, *successes], strict=True))
    hull: list[tuple[float, float]] = []
    for x, y in points:
        if hull and y <= hull[-1][1]:
            continue
        while len(hull) >= 2 and _is_below(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    xs, ys = zip(*hull, strict=True)
    return float(np.interp(at, xs, ys))


def _is_below(
    left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]
) -> bool:
    """Whether the middle point is on or below the line from left to right."""
    run = (middle[0] - left[0]) * (right[1] - left[1])
    rise = (middle[1] - left[1]) * (right[0] - left[0])
    return rise <= run


def _gaps(cost: Array, success: Array, mine: list[int], theirs: list[int]) -> Array:
    return np.array(
        [hull_success(cost[mine], success[mine], cost[one]) - success[one] for one in theirs]
    )


def _tables(
    results: Iterable[EpisodeResult], names: Sequence[str], pricing: Pricing
) -> tuple[Array, Array]:
    """Mean cost and success by task and arm: (tasks, arms) each."""
    cells: dict[tuple[str, str], list[EpisodeResult]] = defaultdict(list)
    for one in results:
        cells[(one.task_id, one.arm)].append(one)
    tasks = sorted({task for task, _ in cells})
    missing = next(
        ((task, arm) for task in tasks for arm in names if (task, arm) not in cells), None
    )
    if missing is not None:
        raise BenchmarkError(
            f"arm {missing[1]} has not played task {missing[0]}: play all arms to the end first"
        )
    cost = np.empty((len(tasks), len(names)))
    success = np.empty_like(cost)
    for row, task in enumerate(tasks):
        for column, arm in enumerate(names):
            played = cells[(task, arm)]
            costs = [
                one.total_cost_usd if pricing == "cached" else one.total_uncached_cost_usd
                for one in played
            ]
            cost[row, column] = sum(costs) / len(played)
            success[row, column] = sum(one.success for one in played) / len(played)
    return cost, success
