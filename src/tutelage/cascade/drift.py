"""Detectors of a rise in the mean of a stream of bounded losses."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log, log1p, log2
from typing import Any, Literal, Protocol, Self, get_args

from tutelage.runtime.errors import ConfigError

DetectorKind = Literal["e-process", "cusum"]

_SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""Bets tried at once, as shares of the largest one that cannot go bankrupt."""


class Detector(Protocol):
    """Watches one stream; a new value is made at every loss."""

    @property
    def fired(self) -> bool:
        """Whether the mean has risen, as far as the losses tell."""
        ...

    def update(self, loss: float) -> Self:
        """The detector after one more loss in [0, 1]."""
        ...

    def restarted(self) -> Self:
        """The detector as it was before its first loss."""
        ...

    def to_json(self) -> dict[str, Any]:
        """The detector with its state as JSON values, its ``kind`` among them."""
        ...


@dataclass(frozen=True, slots=True)
class BettingDetector:
    """An e-process against "each loss has a mean of at most ``target``", whatever came before.

    For a bet ``b`` in ``(0, 1 / target)`` the wealth is multiplied by ``1 + b (loss - target)``. A
    bettor who starts before loss ``t`` gets the weight ``1 / log2(t + 1) - 1 / log2(t + 2)``; these
    sum to 1, so that a late change is found although the early bets were lost; wealth is averaged
    over eight bets. If the mean, given the past, never exceeds ``target``, wealth ever reaches
    ``1 / delta`` with probability at most ``delta`` (Ville), without a horizon. After ``t`` quiet
    losses a change to rate ``r`` is found about ``log(t log(t)^2 / delta) / KL(r, target)`` losses
    later. Steps of one episode break the premise, as one error brings the next: give one loss an
    episode, such as the share of its audited steps that were wrong. Sources: Waudby-Smith and
    Ramdas 2024 (betting); Shin, Ramdas and Rinaldo 2024 (e-detectors).
    """

    target: float
    delta: float
    losses: int = 0
    wealth: tuple[float, ...] = (0.0,) * len(_SHARES)
    """Wealth of the bettors that started, one number a bet."""
    peak: float = 1.0
    """Highest wealth so far, all bettors together."""

    def __post_init__(self) -> None:
        _check(self.target, self.delta)

    @property
    def fired(self) -> bool:
        """Whether wealth ever reached ``1 / delta``."""
        return self.peak >= 1 / self.delta

    def update(self, loss: float) -> Self:
        """The detector after one more loss.

        Raises:
            ValueError: The loss is outside [0, 1].
        """
        _check_loss(loss)
        if self.fired:
            return self
        at = self.losses + 1
        waiting = 1 / log2(at + 2)
        start = 1 / log2(at + 1) - waiting
        edge = (loss - self.target) / self.target
        wealth = tuple(
            (held + start) * (1 + share * edge)
            for held, share in zip(self.wealth, _SHARES, strict=True)
        )
        # Bettors yet to start hold their share of the first unit.
        total = sum(wealth) / len(wealth) + waiting
        return replace(self, losses=at, wealth=wealth, peak=max(self.peak, total))

    def restarted(self) -> Self:
        """The detector without losses."""
        return type(self)(self.target, self.delta)

    def to_json(self) -> dict[str, Any]:
        """The detector as JSON values."""
        return {
            "kind": "e-process",
            "target": self.target,
            "delta": self.delta,
            "losses": self.losses,
            "wealth": list(self.wealth),
            "peak": self.peak,
        }


@dataclass(frozen=True, slots=True)
class CusumDetector:
    """Page's cumulative sum, with a limit that is proven for a number of losses.

    ``S = max(0, S + loss - reference)`` and the alarm is ``S >= limit``. ``reference`` is the slope
    between ``target`` and ``shifted`` that is best for 0/1 losses. Let ``s`` solve
    ``1 - target + target exp(s) = exp(s reference)``. For losses in [0, 1] with a mean of at most
    ``target`` given the past, the sum from any one start ever reaches ``limit`` with probability at
    most ``exp(-s limit)`` (a bounded loss is dominated by a 0/1 loss of the same mean; Ville); the
    union over ``horizon`` starts gives ``limit = log(horizon / delta) / s``. Beyond the horizon
    there is no bound. Source: Page 1954.
    """

    target: float
    delta: float
    shifted: float
    """The mean that is to be found fast."""
    horizon: int
    losses: int = 0
    value: float = 0.0
    peak: float = 0.0

    def __post_init__(self) -> None:
        _check(self.target, self.delta)
        if not self.target < self.shifted < 1:
            raise ConfigError(
                f"shifted = {self.shifted}: give a mean between target ({self.target}) and 1"
            )
        if self.horizon < 1:
            raise ConfigError(f"horizon = {self.horizon}: give at least 1 loss")

    @property
    def slope(self) -> float:
        """``s``: the log odds ratio of ``shifted`` and ``target``."""
        return log(self.shifted / self.target) + log1p(-self.target) - log1p(-self.shifted)

    @property
    def reference(self) -> float:
        """Loss above which the sum rises."""
        return (log1p(-self.target) - log1p(-self.shifted)) / self.slope

    @property
    def limit(self) -> float:
        """Sum at which the alarm is given."""
        return log(self.horizon / self.delta) / self.slope

    @property
    def fired(self) -> bool:
        """Whether the sum ever reached the limit."""
        return self.peak >= self.limit

    def update(self, loss: float) -> Self:
        """The detector after one more loss.

        Raises:
            ValueError: The loss is outside [0, 1].
        """
        _check_loss(loss)
        if self.fired:
            return self
        value = max(0.0, self.value + loss - self.reference)
        return replace(self, losses=self.losses + 1, value=value, peak=max(self.peak, value))

    def restarted(self) -> Self:
        """The detector without losses."""
        return type(self)(self.target, self.delta, self.shifted, self.horizon)

    def to_json(self) -> dict[str, Any]:
        """The detector as JSON values."""
        return {
            "kind": "cusum",
            "target": self.target,
            "delta": self.delta,
            "shifted": self.shifted,
            "horizon": self.horizon,
            "losses": self.losses,
            "value": self.value,
            "peak": self.peak,
        }


def detector_from_json(values: Mapping[str, Any]) -> Detector:
    """Reads what a detector's ``to_json`` wrote.

    Raises:
        ConfigError: The kind is unknown, or a field is missing, unknown or of the wrong kind.
    """
    fields = dict(values)
    kind = fields.pop("kind", None)
    if kind not in get_args(DetectorKind):
        raise ConfigError(
            f"detector: kind = {kind!r}: choose one of {', '.join(get_args(DetectorKind))}"
        )
    for name, value in fields.items():
        many = value if name == "wealth" and isinstance(value, list) else [value]
        if not all(isinstance(one, int | float) for one in many):
            raise ConfigError(f"detector: {name} = {value!r} is not a number")
    try:
        if kind == "cusum":
            return CusumDetector(**fields)
        if len(fields.get("wealth", _SHARES)) != len(_SHARES):
            raise ConfigError(f"detector: wealth holds not {len(_SHARES)} numbers: start it anew")
        return BettingDetector(**fields | {"wealth": tuple(fields.get("wealth", (0.0,) * 8))})
    except TypeError as error:
        raise ConfigError(f"detector: {error}") from error


def rank_loss(distance: float, reference: Sequence[float]) -> float:
    """Rank of a distance among reference distances, in (0, 1); far is near 1.

    ``(below + ties / 2 + 1/2) / (n + 1)``: the mid conformal p-value. Its mean is 1/2 if the
    distance comes from where the reference does, on average over references; for one reference of
    ``n`` the mean is off by about ``0.29 / sqrt(n)``, so set a detector's target twice that much
    above 1/2.

    Args:
        distance: Of this step to its nearest demonstration.
        reference: Distances at calibration, rising.
    """
    below = bisect_left(reference, distance)
    ties = bisect_right(reference, distance) - below
    return (below + ties / 2 + 0.5) / (len(reference) + 1)


def detection_delay(target: float, shifted: float, delta: float, quiet: int) -> float:
    """About how many losses a ``BettingDetector`` needs after a change; see there.

    ``log(quiet log(quiet)^2 / delta) / KL(shifted, target)``, for 0/1 losses. Divide by the audits
    an episode to get episodes; it tells how many audits a promise on the delay takes.

    Args:
        target: Mean loss that is allowed.
        shifted: Mean loss after the change.
        delta: Allowed probability of an alarm without cause.
        quiet: Losses before the change.
    """
    quiet = max(3, quiet)
    entropy = shifted * log(shifted / target)
    if shifted < 1:
        entropy += (1 - shifted) * (log1p(-shifted) - log1p(-target))
    return (log(quiet) + 2 * log(log(quiet)) - log(delta)) / entropy


def _check(target: float, delta: float) -> None:
    for name, value in (("target", target), ("delta", delta)):
        if not 0 < value < 1:
            raise ConfigError(f"{name} = {value}: give a number between 0 and 1, both excluded")


def _check_loss(loss: float) -> None:
    if not 0 <= loss <= 1:
        raise ValueError(f"loss = {loss} is not in [0, 1]")
