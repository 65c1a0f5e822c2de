"""Risk and cost at every threshold of a grid, and losses of logged episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.cascade.calibration import check_thresholds
from tutelage.cascade.certificate import LossKind, Unit
from tutelage.cascade.mean_risk import loss_mean, risk_bound


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One threshold."""

    threshold: float
    risk: float
    """Mean loss."""
    bound: float
    """Upper bound at ``1 - delta`` for this threshold alone."""
    band: float
    """Upper bound that holds at ``1 - delta`` for all thresholds of the curve at once."""
    teacher_share: float | None
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """The cost-risk curve of a cascade, strict to permissive."""

    points: tuple[CurvePoint, ...]
    delta: float
    units: int


def risk_curve(
    losses: NDArray[Any],
    thresholds: Sequence[float],
    *,
    delta: float,
    loss_kind: LossKind = "binary",
    teacher_share: Sequence[float] | None = None,
    cost_usd: Sequence[float] | None = None,
) -> Curve:
    """The curve with bounds, for a plot; it certifies nothing.

    ``bound`` is Clopper-Pearson (binary) or Hoeffding-Bentkus (bounded) at ``delta``; ``band`` the
    same at ``delta`` over the number of thresholds (Bonferroni), so it holds for all at once.

    Args:
        losses: (episodes, thresholds), in [0, 1].
        thresholds: (thresholds,), decreasing.
        delta: Allowed probability that a bound is wrong.
        loss_kind: Which bound.
        teacher_share: (thresholds,), mean share of steps served by the teacher.
        cost_usd: (thresholds,), mean cost of an episode.

    Raises:
        ConfigError: ``thresholds`` are out of order.
        ValueError: Shapes do not fit, or losses are not of their kind.
    """
    check_thresholds(thresholds)
    losses = np.asarray(losses, dtype=np.float64)
    if losses.ndim != 2 or losses.shape[1] != len(thresholds):
        raise ValueError(f"losses of shape {losses.shape} do not fit {len(thresholds)} thresholds")
    points = []
    for place, threshold in enumerate(thresholds):
        mean, units = loss_mean(losses[:, place], loss_kind)
        points.append(
            CurvePoint(
                threshold=float(threshold),
                risk=mean,
                bound=risk_bound(mean, units, delta, loss_kind),
                band=risk_bound(mean, units, delta / len(thresholds), loss_kind),
                teacher_share=None if teacher_share is None else float(teacher_share[place]),
                cost_usd=None if cost_usd is None else float(cost_usd[place]),
            )
        )
    return Curve(tuple(points), delta, losses.shape[0])


def logged_losses(
    episodes: Sequence[str],
    scores: Sequence[float],
    right: Sequence[bool],
    thresholds: Sequence[float],
    *,
    unit: Unit = "episode",
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Losses and teacher shares of recorded steps, as if each threshold had been in force.

    A step is accepted if its score is at or above the threshold. The loss of an episode is 1 if any
    accepted step was wrong (unit "episode"), or the share of its steps that were accepted and wrong
    (unit "step"). The states stay those of the recorded policy, so a certificate from these losses
    has the scope "logged states".

    Args:
        episodes: (steps,), id of the episode of each step.
        scores: (steps,).
        right: (steps,), whether the student's action was right; every step needs its label.
        thresholds: (thresholds,), decreasing.
        unit: Which loss.

    Returns:
        losses (episodes, thresholds) in order of first appearance, and teacher shares
        (thresholds,): means over episodes of the share of steps below the threshold.

    Raises:
        ConfigError: ``thresholds`` are out of order.
        ValueError: Lengths differ.
    """
    check_thresholds(thresholds)
    if not len(episodes) == len(scores) == len(right):
        raise ValueError("episodes, scores and right differ in length")
    order = {episode: place for place, episode in enumerate(dict.fromkeys(episodes))}
    rows = np.fromiter((order[episode] for episode in episodes), np.intp, len(episodes))
    accepted = np.asarray(scores, np.float64)[:, None] >= np.asarray(thresholds, np.float64)
    wrong = accepted & ~np.asarray(right, np.bool_)[:, None]
    steps = np.bincount(rows, minlength=len(order)).astype(np.float64)[:, None]
    errors = np.zeros((len(order), len(thresholds)))
    deferred = np.zeros((len(order), len(thresholds)))
    np.add.at(errors, rows, wrong)
    np.add.at(deferred, rows, ~accepted)
    losses = (errors > 0).astype(np.float64) if unit == "episode" else errors / steps
    shares = (deferred / steps).mean(axis=0) if len(order) else np.zeros(len(thresholds))
    return losses, shares
