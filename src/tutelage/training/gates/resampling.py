"""Bootstrap over tasks."""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def resampled_counts(tasks: int, resamples: int, seed: int) -> Array:
    """How often each task is in each resample: (resamples, tasks).

    Tasks are drawn whole, with both students and all repeats, so that pairs stay pairs.
    """
    picks = np.random.default_rng(seed).integers(0, tasks, size=(resamples, tasks))
    picks += tasks * np.arange(resamples)[:, None]
    counts = np.bincount(picks.ravel(), minlength=resamples * tasks)
    return counts.reshape(resamples, tasks).astype(np.float64)


def ratio(above: float, below: float) -> float:
    """``above / below``; infinite over 0, 0 where what it is compared with is infinite."""
    if below == inf:
        return 0.0 if above < inf else inf
    return above / below if below > 0 else inf


def ratio_of_ratios(
    candidate: tuple[Array, Array], current: tuple[Array, Array], counts: Array
) -> Array:
    """``(sum a / sum b of the candidate) / (the same of the current student)`` by resample.

    Args:
        candidate: Numerators and denominators by task, each (tasks,).
        current: The same of the student so far.
        counts: (resamples, tasks).

    Returns:
        (resamples,), ascending; infinite where the candidate's denominators sum to 0.
    """
    sums = [counts @ one for one in (*candidate, *current)]
    ratios = [
        ratio(ratio(float(a), float(b)), ratio(float(c), float(d)))
        for a, b, c, d in zip(*sums, strict=True)
    ]
    return np.sort(np.array(ratios))


def quantile(ordered: Array, level: float) -> float:
    """An order statistic; no interpolation, since values may be infinite."""
    return float(ordered[round(level * (len(ordered) - 1))])
