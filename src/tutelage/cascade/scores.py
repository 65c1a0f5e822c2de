"""Score models: the probability that the student's action is right, from features of the step."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import exp, isfinite, log, nan
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tutelage.cascade.feature_scale import (
    FeatureRows,
    FeatureScale,
    fit_scale,
    number,
    numbers,
    scale_from_json,
)
from tutelage.runtime.errors import ConfigError, MissingExtra


class ScoreModel(Protocol):
    """Scores a step."""

    def score(self, features: Mapping[str, float]) -> float:
        """P(the student's action is right), in [0, 1]."""
        ...

    def to_json(self) -> dict[str, Any]:
        """The model as JSON values, its ``kind`` among them."""
        ...


@dataclass(frozen=True, slots=True)
class IsotonicScore:
    """A rising curve over one feature.

    Isotonic least squares of "right" on the feature; then each level of the curve is pulled towards
    the overall rate with the weight of ``prior_steps`` steps, so that a value seen twice is not
    scored 1. Between the values seen the curve is linear, beyond them constant. Assumes that a
    higher feature never means a less likely right action. Source: Zadrozny and Elkan 2002; for
    cascades arXiv 2605.18796.
    """

    feature: str
    knots: tuple[float, ...]
    """Values of the feature, rising."""
    rates: tuple[float, ...]
    """Scores at the knots, never falling."""
    missing_rate: float
    """Score of a step without the feature."""

    def score(self, features: Mapping[str, float]) -> float:
        """P(right); steps without the feature get the rate of such steps."""
        value = features.get(self.feature, nan)
        if not isfinite(value):
            return self.missing_rate
        place = bisect_right(self.knots, value)
        if place == 0:
            return self.rates[0]
        if place == len(self.knots):
            return self.rates[-1]
        left, right = self.knots[place - 1], self.knots[place]
        part = (value - left) / (right - left)
        return self.rates[place - 1] + part * (self.rates[place] - self.rates[place - 1])

    def to_json(self) -> dict[str, Any]:
        """The model as JSON values."""
        return {
            "kind": "isotonic",
            "feature": self.feature,
            "knots": list(self.knots),
            "rates": list(self.rates),
            "missing_rate": self.missing_rate,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Reads what ``to_json`` wrote.

        Raises:
            ConfigError: A field is missing or of the wrong kind, or the knots do not rise.
        """
        feature = values.get("feature")
        knots, rates = numbers(values, "knots"), numbers(values, "rates")
        if not isinstance(feature, str):
            raise ConfigError(f"score model: feature = {feature!r} is not a name")
        if not knots or len(knots) != len(rates):
            raise ConfigError("score model: knots and rates are empty or differ in length")
        if list(knots) != sorted(set(knots)) or list(rates) != sorted(rates):
            raise ConfigError("score model: knots must rise, and rates must not fall")
        return cls(feature, knots, rates, number(values, "missing_rate"))


@dataclass(frozen=True, slots=True)
class LogisticScore:
    """Logistic regression on standardised features.

    ``P(right) = 1 / (1 + exp(-(b + w x)))``, fitted by maximum likelihood with an L2 penalty.
    """

    scale: FeatureScale
    weights: tuple[float, ...]
    """(columns of the scale,)."""
    intercept: float

    def score(self, features: Mapping[str, float]) -> float:
        """P(right); a missing feature counts as its mean, and by its mark where it has one."""
        total = self.intercept
        for weight, value in zip(self.weights, self.scale.row(features), strict=True):
            total += weight * value
        return _logistic(total)

    def to_json(self) -> dict[str, Any]:
        """The model as JSON values."""
        return {
            "kind": "logistic",
            "scale": self.scale.to_json(),
            "weights": list(self.weights),
            "intercept": self.intercept,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Reads what ``to_json`` wrote.

        Raises:
            ConfigError: A field is missing or of the wrong kind or length.
        """
        scale = scale_from_json(values.get("scale"))
        weights = numbers(values, "weights")
        if len(weights) != len(scale.columns):
            raise ConfigError(
                f"score model: {len(weights)} weights do not fit {len(scale.columns)} columns"
            )
        return cls(scale, weights, number(values, "intercept"))


def fit_isotonic(
    rows: FeatureRows,
    right: Sequence[bool],
    *,
    feature: str = "agreement",
    prior_steps: float = 2.0,
    weights: Sequence[float] | None = None,
) -> IsotonicScore:
    """Fits a rising curve over one feature.

    Args:
        rows: (steps,).
        right: (steps,), whether the student's action was right.
        feature: The feature.
        prior_steps: Weight of the overall rate at each level of the curve, in steps.
        weights: (steps,), e.g. one over the probability that a step was audited.

    Raises:
        MissingExtra: scikit-learn is not installed.
        ValueError: Lengths differ, there are no steps, or no step has the feature.
    """
    labels, weigh = _labels(rows, right, weights)
    try:
        from sklearn.isotonic import IsotonicRegression
    except ImportError as error:
        raise MissingExtra("scikit-learn", "calibrate") from error

    values = np.array([features.get(feature, nan) for features in rows], dtype=np.float64)
    known = np.isfinite(values)
    if not known.any():
        raise ValueError(f"no step has the feature {feature!r}")
    overall = _smoothed_rate(labels, weigh)
    curve = IsotonicRegression().fit(values[known], labels[known], sample_weight=weigh[known])
    levels, places = np.unique(curve.predict(values[known]), return_inverse=True)
    steps = np.bincount(places, weights=weigh[known])
    pulled = (levels * steps + prior_steps * overall) / (steps + prior_steps)
    # Small blocks are pulled further, which may undo the order.
    order = np.arange(len(levels))
    rates = IsotonicRegression().fit_transform(order, pulled, sample_weight=steps + prior_steps)
    knots: dict[float, float] = {}
    for level, rate in zip(order, np.clip(rates, 0.0, 1.0).tolist(), strict=True):
        block = values[known][places == level]
        knots |= {float(block.min()): rate, float(block.max()): rate}
    absent = _smoothed_rate(labels[~known], weigh[~known]) if not known.all() else overall
    return IsotonicScore(feature, tuple(knots), tuple(knots.values()), absent)


def fit_logistic(
    rows: FeatureRows,
    right: Sequence[bool],
    *,
    names: Sequence[str] | None = None,
    penalty: float = 1.0,
    weights: Sequence[float] | None = None,
) -> LogisticScore:
    """Fits a logistic regression.

    Args:
        rows: (steps,).
        right: (steps,), whether the student's action was right.
        names: Features to use; ``None`` takes all that occur.
        penalty: Weight of the squared coefficients over two, in log likelihood units of one step.
        weights: (steps,), e.g. one over the probability that a step was audited.

    Raises:
        MissingExtra: scikit-learn is not installed.
        ValueError: Lengths differ, or there are no steps or no features.
    """
    labels, weigh = _labels(rows, right, weights)
    scale = fit_scale(rows, names)
    if labels.min() == labels.max():
        # All right or all wrong: no coefficient can be told, only a rate.
        rate = _smoothed_rate(labels, weigh)
        return LogisticScore(scale, (0.0,) * len(scale.columns), log(rate / (1 - rate)))
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtra("scikit-learn", "calibrate") from error

    model = LogisticRegression(C=1 / penalty, max_iter=1000)
    model.fit(scale.matrix(rows), labels, sample_weight=weigh)
    return LogisticScore(scale, tuple(model.coef_[0].tolist()), float(model.intercept_[0]))


def score_from_json(values: Mapping[str, Any]) -> ScoreModel:
    """Reads a score model of any kind.

    Raises:
        ConfigError: The kind is unknown, or a field is missing or of the wrong kind.
    """
    kind = values.get("kind")
    reader = SCORE_MODELS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise ConfigError(
            f"score model: kind = {kind!r} is unknown: choose one of {', '.join(SCORE_MODELS)}"
        )
    return reader(values)


def for_fitting(episode_id: str, share: float = 0.5, seed: int = 0) -> bool:
    """Whether an episode is one to fit the score on; the others are for calibration.

    A hash of the seed and the id, so the same episode always falls on the same side. A threshold is
    certified only if its score model has not seen the calibration episodes.
    """
    name = f"{seed}:{episode_id}".encode()
    return (int.from_bytes(sha256(name).digest()[:8], "big") >> 11) / 2**53 < share


def _read_lelp(values: Mapping[str, Any]) -> ScoreModel:
    from tutelage.cascade.lelp import LelpHead

    return LelpHead.from_json(values)


SCORE_MODELS: Mapping[str, Callable[[Mapping[str, Any]], ScoreModel]] = {
    "isotonic": IsotonicScore.from_json,
    "logistic": LogisticScore.from_json,
    "lelp": _read_lelp,
}


def _labels(
    rows: FeatureRows, right: Sequence[bool], weights: Sequence[float] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    labels = np.asarray(right, dtype=np.float64)
    weigh = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not len(rows) == len(labels) == len(weigh):
        raise ValueError("steps, labels and weights differ in length")
    if not len(labels):
        raise ValueError("no labelled steps: a score model needs at least one")
    return labels, weigh


def _smoothed_rate(labels: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Laplace's rule, so that it is never 0 or 1."""
    return float((weights @ labels + 1) / (weights.sum() + 2))


def _logistic(value: float) -> float:
    if value >= 0:
        return 1 / (1 + exp(-value))
    # exp of a large positive number overflows.
    odds = exp(value)
    return odds / (1 + odds)
