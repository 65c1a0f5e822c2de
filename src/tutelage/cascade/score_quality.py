"""How good the scores of steps are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def auroc(scores: Sequence[float], right: Sequence[bool]) -> float:
    """Probability that a right step has a higher score than a wrong one; ties count half.

    The rank-sum form (Hanley and McNeil 1982). 0.5 if all steps are right or all are wrong.
    """
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=np.bool_)
    hits, misses = int(labels.sum()), int((~labels).sum())
    if not hits or not misses:
        return 0.5
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[places][labels].sum() - hits * (hits + 1) / 2) / (hits * misses))


def brier(scores: Sequence[float], right: Sequence[bool]) -> float:
    """Mean squared distance of the scores from the outcomes (Brier 1950); 0 is best."""
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=np.float64)
    return float(np.mean((values - labels) ** 2))


def calibration_error(scores: Sequence[float], right: Sequence[bool], bins: int = 10) -> float:
    """Mean distance of score and rate over bins of equal numbers of steps, in [0, 1].

    Steps are sorted by score, so that ties may cross a border of bins. Source: Nguyen and O'Connor
    2015 (adaptive bins of the expected calibration error).
    """
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    total = 0.0
    for part in np.array_split(order, bins):
        if part.size:
            total += part.size * abs(float(values[part].mean() - labels[part].mean()))
    return total / len(values)
