"""Thresholds whose risk is certified from calibration episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.cascade.bounds import zero_error_size
from tutelage.cascade.certificate import Certificate, LossKind, Refusal, Scope, Unit
from tutelage.cascade.mean_risk import loss_mean, needed_units, p_value, risk_bound
from tutelage.runtime.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Measured:
    """Losses of calibration episodes at one threshold."""

    losses: NDArray[Any]
    """(episodes,), in [0, 1]."""
    teacher_share: float | None = None
    """Mean share of an episode's steps served by the teacher."""
    cost_usd: float | None = None
    """Mean cost of an episode."""


class FixedSequence:
    """Tests thresholds one by one, strict to permissive, and stops at the first failure.

    Learn-then-Test with fixed-sequence testing: a threshold is tested at ``delta`` only if all
    before it were certified, so the probability that any certified threshold has a risk above
    ``alpha`` is at most ``delta``, whatever the shape of the risk. Assumes independent episodes,
    and thresholds and score model fixed before these episodes were seen (fit the score on other
    episodes). Source: arXiv 2110.01052 (fixed-sequence testing).

    Rollouts are dear, so losses are asked for one threshold at a time: play ``pending``, then
    ``record`` what was seen. Episodes of different thresholds may be the same tasks or others.

    Args:
        thresholds: Strict to permissive: a score at or above the threshold lets the student act, so
            they decrease.
        alpha: Risk that is allowed.
        delta: Allowed probability that the certified threshold has a higher risk.
        unit: Whose risk is bounded.
        scope: Where the losses come from.
        loss_kind: ``None`` takes "binary" for episodes and "bounded" for steps.

    Raises:
        ConfigError: ``alpha``, ``delta`` or ``thresholds`` are out of range or out of order.
    """

    def __init__(
        self,
        thresholds: Sequence[float],
        *,
        alpha: float,
        delta: float,
        unit: Unit = "episode",
        scope: Scope = "rollouts",
        loss_kind: LossKind | None = None,
    ) -> None:
        for name, value in (("alpha", alpha), ("delta", delta)):
            if not 0 < value < 1:
                raise ConfigError(f"{name} = {value}: give a number between 0 and 1, both excluded")
        check_thresholds(thresholds)
        self._thresholds = tuple(float(threshold) for threshold in thresholds)
        self._alpha = alpha
        self._delta = delta
        self._unit: Unit = unit
        self._scope: Scope = scope
        self._loss_kind: LossKind = loss_kind or ("binary" if unit == "episode" else "bounded")
        self._measured: list[Measured] = []
        self._certified = 0

    @property
    def pending(self) -> float | None:
        """The threshold whose losses are wanted next; ``None`` when testing is over."""
        tested = len(self._measured)
        if tested > self._certified or tested == len(self._thresholds):
            return None
        return self._thresholds[tested]

    def record(self, measured: Measured) -> bool:
        """Tests the pending threshold; whether it is certified.

        Raises:
            ValueError: Testing is over, or losses are not of their kind.
        """
        if self.pending is None:
            raise ValueError("no threshold is pending: testing is over")
        mean, units = loss_mean(measured.losses, self._loss_kind)
        self._measured.append(measured)
        passed = p_value(mean, units, self._alpha, self._loss_kind) <= self._delta
        self._certified += passed
        return passed

    def outcome(self) -> Certificate | Refusal:
        """The cheapest certified threshold, or the most permissive one where costs are unknown.

        All certified thresholds hold at once, so choosing among them by cost costs no confidence.
        """
        if not self._certified:
            return self._refusal()
        index = self._certified - 1
        costs = [measured.cost_usd for measured in self._measured[: self._certified]]
        known = [(cost, -place) for place, cost in enumerate(costs) if cost is not None]
        if len(known) == len(costs):
            index = -min(known)[1]
        chosen = self._measured[index]
        mean, units = loss_mean(chosen.losses, self._loss_kind)
        return Certificate(
            threshold=self._thresholds[index],
            risk=mean,
            risk_bound=risk_bound(mean, units, self._delta, self._loss_kind),
            alpha=self._alpha,
            delta=self._delta,
            units=units,
            unit=self._unit,
            scope=self._scope,
            loss_kind=self._loss_kind,
            certified=self._certified,
            tested=len(self._measured),
            teacher_share=chosen.teacher_share,
            cost_usd=chosen.cost_usd,
        )

    def _refusal(self) -> Refusal:
        least = zero_error_size(self._alpha, self._delta)
        goal = f"to certify a risk of {self._alpha:g} at confidence {1 - self._delta:g}"
        units = len(self._measured[0].losses) if self._measured else 0
        if not units:
            reason = f"there are no calibration episodes: {goal} takes at least {least}"
            return Refusal(reason, self._alpha, self._delta, 0, least, None)
        strictest = self._thresholds[0]
        mean, _ = loss_mean(self._measured[0].losses, self._loss_kind)
        seen = f"{mean:.3g} ({units} episodes)"
        if mean >= self._alpha:
            reason = (
                f"at the strictest threshold {strictest:g} the risk seen is {seen}, not below "
                f"{self._alpha:g}: more episodes will not help; raise alpha, add a stricter "
                "threshold or improve the student"
            )
            return Refusal(reason, self._alpha, self._delta, units, None, mean)
        needed = needed_units(mean, self._alpha, self._delta, self._loss_kind)
        if needed is None:
            reason = (
                f"at the strictest threshold {strictest:g} the risk seen is {seen}, too near "
                f"{self._alpha:g} to be told apart from it; raise alpha or add a stricter threshold"
            )
            return Refusal(reason, self._alpha, self._delta, units, None, mean)
        missing = max(1, needed - units)
        reason = (
            f"{units} episodes are too few {goal}: at the strictest threshold {strictest:g} the "
            f"risk seen is {mean:.3g}, and about {missing} more episodes like these are needed"
        )
        return Refusal(reason, self._alpha, self._delta, units, missing, mean)


def certify(
    losses: NDArray[Any],
    thresholds: Sequence[float],
    *,
    alpha: float,
    delta: float,
    unit: Unit = "episode",
    scope: Scope = "rollouts",
    loss_kind: LossKind | None = None,
    teacher_share: Sequence[float] | None = None,
    cost_usd: Sequence[float] | None = None,
) -> Certificate | Refusal:
    """Certifies a threshold from losses that are all at hand; see ``FixedSequence``.

    Args:
        losses: (episodes, thresholds), in [0, 1]; columns strict to permissive.
        thresholds: (thresholds,), decreasing.
        alpha: Risk that is allowed.
        delta: Allowed probability that the certified threshold has a higher risk.
        unit: Whose risk is bounded.
        scope: Where the losses come from.
        loss_kind: ``None`` takes "binary" for episodes and "bounded" for steps.
        teacher_share: (thresholds,), mean share of steps served by the teacher.
        cost_usd: (thresholds,), mean cost of an episode; without it the most permissive
            certified threshold is taken.

    Raises:
        ConfigError: ``alpha``, ``delta`` or ``thresholds`` are out of range or out of order.
        ValueError: Shapes do not fit, or losses are not of their kind.
    """
    losses = np.asarray(losses, dtype=np.float64)
    _check_shape(losses, thresholds, teacher_share, cost_usd)
    sequence = FixedSequence(
        thresholds, alpha=alpha, delta=delta, unit=unit, scope=scope, loss_kind=loss_kind
    )
    for place in range(len(thresholds)):
        share = None if teacher_share is None else float(teacher_share[place])
        cost = None if cost_usd is None else float(cost_usd[place])
        if not sequence.record(Measured(losses[:, place], share, cost)):
            break
    return sequence.outcome()


def certify_lazily(
    measure: Callable[[float], Measured],
    thresholds: Sequence[float],
    *,
    alpha: float,
    delta: float,
    unit: Unit = "episode",
    scope: Scope = "rollouts",
    loss_kind: LossKind | None = None,
) -> Certificate | Refusal:
    """Certifies a threshold and measures only those that are reached; see ``FixedSequence``.

    Args:
        measure: Plays (or reads) the calibration episodes at a threshold; called in order, and not
            after a threshold that is not certified.
        thresholds: Decreasing.
        alpha: Risk that is allowed.
        delta: Allowed probability that the certified threshold has a higher risk.
        unit: Whose risk is bounded.
        scope: Where the losses come from.
        loss_kind: ``None`` takes "binary" for episodes and "bounded" for steps.

    Raises:
        ConfigError: ``alpha``, ``delta`` or ``thresholds`` are out of range or out of order.
        ValueError: Losses are not of their kind.
    """
    sequence = FixedSequence(
        thresholds, alpha=alpha, delta=delta, unit=unit, scope=scope, loss_kind=loss_kind
    )
    while (threshold := sequence.pending) is not None:
        sequence.record(measure(threshold))
    return sequence.outcome()


def check_thresholds(thresholds: Sequence[float]) -> None:
    """Thresholds must be finite and decreasing.

    Raises:
        ConfigError: They are not, or there is none.
    """
    if not len(thresholds):
        raise ConfigError("thresholds is empty: give at least one")
    for threshold in thresholds:
        if not isfinite(threshold):
            raise ConfigError(f"thresholds holds {threshold}: give finite numbers")
    for strict, loose in pairwise(thresholds):
        if loose >= strict:
            raise ConfigError(
                f"thresholds: {loose:g} follows {strict:g}: order them strict to permissive"
            )


def _check_shape(
    losses: NDArray[Any], thresholds: Sequence[float], *columns: Sequence[float] | None
) -> None:
    if losses.ndim != 2 or losses.shape[1] != len(thresholds):
        raise ValueError(
            f"losses of shape {losses.shape} do not fit {len(thresholds)} thresholds: give one row "
            "an episode and one column a threshold"
        )
    for column in columns:
        if column is not None and len(column) != len(thresholds):
            raise ValueError(f"{len(column)} values do not fit {len(thresholds)} thresholds")
