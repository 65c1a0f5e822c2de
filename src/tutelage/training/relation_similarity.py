"""Whether two models find the same steps alike."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from tutelage.runtime.errors import TrainingError

Array = NDArray[np.float64]


def relation_similarity(teacher: Array, student: Array) -> float:
    """Relation similarity on traces: ``-||N(F_t F_t^T) - N(F_s F_s^T)||_F^2 / B^2``; 0 is best.

    ``N`` scales rows to length 1. DisWOT takes it between networks with random weights, to choose
    an architecture; between pretrained models it is another quantity, hence the name. Do not choose
    by it before ``rank_correlation`` with real results speaks for it. Source: Dong et al. 2023
    (DisWOT), from its published description.

    Args:
        teacher: Features, or gradients of class weights, of the same B steps, (B, width).
        student: (B, another width).

    Raises:
        TrainingError: The numbers of steps differ, or there is none.
    """
    if teacher.ndim != 2 or student.ndim != 2 or len(teacher) != len(student) or not len(teacher):
        raise TrainingError(
            f"relation similarity: shapes {teacher.shape} and {student.shape}: give (steps, width) "
            "of the same steps"
        )
    distance = _relations(teacher) - _relations(student)
    return -float((distance**2).sum()) / len(teacher) ** 2


def rank_correlation(scores: Sequence[float], results: Sequence[float]) -> float | None:
    """Spearman's rank correlation of scores with what came out; ties share their mean rank.

    Returns:
        In [-1, 1]; ``None`` with fewer than 3 students, or where one of both is constant.
    """
    if len(scores) != len(results):
        raise TrainingError(f"rank correlation: {len(scores)} scores and {len(results)} results")
    if len(scores) < 3:
        return None
    a, b = (_ranks(np.asarray(one, dtype=np.float64)) for one in (scores, results))
    a, b = a - a.mean(), b - b.mean()
    scale = sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else None


def _relations(features: Array) -> Array:
    products = features.astype(np.float64) @ features.T.astype(np.float64)
    lengths = np.linalg.norm(products, axis=1, keepdims=True)
    found: Array = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return found


def _ranks(values: Array) -> Array:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    found: Array = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return found
