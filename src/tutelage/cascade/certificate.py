"""What a calibration hands out: a certified threshold, or what is missing for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from tutelage.runtime.errors import ConfigError

Unit = Literal["episode", "step"]
"""Whose risk is bounded. "episode": the probability that an episode is lost. "step": the mean, over
episodes, of the share of an episode's steps that are lost; the independent unit is the episode in
both cases, as steps of one episode depend on each other."""

Scope = Literal["rollouts", "logged states"]
"""For which states the bound holds. "rollouts": episodes were played at each threshold, so it holds
for the cascade itself. "logged states": losses were read off recorded steps, so it holds for the
states that the recorded policy visited and says nothing of states that the student's own errors
lead to."""

LossKind = Literal["binary", "bounded"]
"""0/1 losses with an exact binomial test, or losses in [0, 1] with Hoeffding-Bentkus."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A threshold whose risk is at most ``alpha`` with confidence ``1 - delta``."""

    threshold: float
    risk: float
    """Mean loss at the threshold in the calibration episodes."""
    risk_bound: float
    """Upper bound at ``1 - delta`` for this threshold taken alone. As the same episodes chose the
    threshold, what is certified is ``alpha``, not this number."""
    alpha: float
    delta: float
    units: int
    """Calibration episodes at the threshold."""
    unit: Unit
    scope: Scope
    loss_kind: LossKind
    certified: int
    """How many thresholds of the grid were certified."""
    tested: int
    """How many thresholds of the grid were tested."""
    teacher_share: float | None = None
    """Mean share of an episode's steps that the teacher serves at the threshold."""
    cost_usd: float | None = None
    """Mean cost of an episode at the threshold."""

    @property
    def statement(self) -> str:
        """What is certified, in one line."""
        what = "episodes lost" if self.unit == "episode" else "share of an episode's steps lost"
        where = "" if self.scope == "rollouts" else ", for the logged states only"
        return (
            f"threshold {self.threshold:g}: {what} at most {self.alpha:g} with confidence "
            f"{1 - self.delta:g} ({self.units} episodes{where})"
        )

    def to_json(self) -> dict[str, Any]:
        """The certificate as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Refusal:
    """No threshold of the grid is certified."""

    reason: str
    """Why, and what to do, in one line."""
    alpha: float
    delta: float
    units: int
    """Calibration episodes at the strictest threshold."""
    missing_units: int | None
    """Episodes to add if the risk seen so far persists; ``None`` if more episodes cannot help."""
    risk: float | None
    """Mean loss at the strictest threshold; ``None`` without episodes."""


def certificate_from_json(values: Mapping[str, Any]) -> Certificate:
    """Reads what ``Certificate.to_json`` wrote.

    Raises:
        ConfigError: A field is missing, unknown or of the wrong kind.
    """
    choices = {"unit": get_args(Unit), "scope": get_args(Scope), "loss_kind": get_args(LossKind)}
    for name, allowed in choices.items():
        if values.get(name) not in allowed:
            raise ConfigError(
                f"certificate: {name} = {values.get(name)!r}: choose one of {', '.join(allowed)}"
            )
    for name in ("threshold", "risk", "risk_bound", "alpha", "delta"):
        if not isinstance(values.get(name), int | float):
            raise ConfigError(f"certificate: {name} = {values.get(name)!r} is not a number")
    try:
        return Certificate(**values)
    except TypeError as error:
        raise ConfigError(f"certificate: {error}; calibrate again") from error
