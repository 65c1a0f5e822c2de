"""What an alarm does to the threshold: normal, tightened, teacher only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal

from tutelage.cascade.drift import (
    BettingDetector,
    CusumDetector,
    Detector,
    DetectorKind,
    detector_from_json,
)
from tutelage.runtime.errors import ConfigError

Level = Literal["normal", "tightened", "teacher-only"]

_NEXT: Mapping[Level, Level] = {
    "normal": "tightened",
    "tightened": "teacher-only",
    "teacher-only": "teacher-only",
}


@dataclass(frozen=True, slots=True)
class Alarm:
    """The level of caution, and the streams that raise it.

    A detector that fires raises the level by one, and all detectors start anew with their own
    ``delta``. While it is "tightened" the threshold is ``threshold + tighten (1 - threshold)``; at
    "teacher-only" no step is left to the student. A threshold at 1 has no room: there the first
    alarm warns and the second one acts. Only ``reset`` lowers the level: a calm stream after
    tightening says nothing of the looser threshold. The probability that "normal" is ever left
    without cause is at most the sum of the detectors' ``delta``.
    """

    detectors: Mapping[str, Detector]
    """By name of their stream."""
    level: Level = "normal"
    tighten: float = 0.5
    """Part of the way from the threshold to 1."""
    cause: str | None = None
    """The stream that last raised the level."""

    def __post_init__(self) -> None:
        if not 0 < self.tighten <= 1:
            raise ConfigError(f"tighten = {self.tighten}: give a number above 0 and at most 1")

    def observe(self, stream: str, loss: float) -> Alarm:
        """The alarm after one more loss of a stream.

        Args:
            stream: Name of a detector.
            loss: In [0, 1]; one an episode, since steps of one episode depend on each other.

        Raises:
            ConfigError: No detector has the name.
            ValueError: The loss is outside [0, 1].
        """
        detector = self.detectors.get(stream)
        if detector is None:
            known = ", ".join(self.detectors) or "none"
            raise ConfigError(f"alarm: no stream is called {stream!r}; known are: {known}")
        updated = detector.update(loss)
        if not updated.fired or self.level == "teacher-only":
            return replace(self, detectors={**self.detectors, stream: updated})
        return replace(self, detectors=self._restarted(), level=_NEXT[self.level], cause=stream)

    def threshold(self, certified: float) -> float:
        """The threshold in force; infinite where only the teacher may act."""
        if self.level == "normal":
            return certified
        if self.level == "tightened":
            return certified + self.tighten * max(0.0, 1 - certified)
        return inf

    def reset(self) -> Alarm:
        """Back to normal, on the word of a person or after a new calibration."""
        return replace(self, detectors=self._restarted(), level="normal", cause=None)

    def to_json(self) -> dict[str, Any]:
        """The alarm with all its state as JSON values."""
        return {
            "detectors": {name: one.to_json() for name, one in self.detectors.items()},
            "level": self.level,
            "tighten": self.tighten,
            "cause": self.cause,
        }

    def _restarted(self) -> dict[str, Detector]:
        return {name: detector.restarted() for name, detector in self.detectors.items()}


def alarm_for(
    targets: Mapping[str, float],
    *,
    delta: float,
    detector: DetectorKind = "e-process",
    horizon: int = 100_000,
    tighten: float = 0.5,
) -> Alarm:
    """An alarm whose streams share ``delta``: it errs with at most this probability in all.

    Args:
        targets: Mean loss that is allowed, by stream: the risk bound of the calibration for
            disagreements in audits, the allowed failure rate for outcomes, a little above 1/2 for
            ranks of retrieval distances.
        delta: Allowed probability of an alarm without cause; "cusum" keeps it for ``horizon``
            losses of every stream, "e-process" for ever.
        detector: Which detector. "cusum" looks for twice the target, or half the way to 1.
        horizon: Of "cusum".
        tighten: Part of the way from the threshold to 1, once tightened.

    Raises:
        ConfigError: There is no stream, or a value is out of range.
    """
    if not targets:
        raise ConfigError("alarm: there is no stream to watch: name at least one target")
    part = delta / len(targets)
    detectors: dict[str, Detector] = {}
    for name, target in targets.items():
        if detector == "cusum":
            shifted = min(2 * target, (1 + target) / 2)
            detectors[name] = CusumDetector(target, part, shifted, horizon)
        else:
            detectors[name] = BettingDetector(target, part)
    return Alarm(detectors, tighten=tighten)


def alarm_from_json(values: Mapping[str, Any]) -> Alarm:
    """Reads what ``Alarm.to_json`` wrote.

    Raises:
        ConfigError: A field is missing or of the wrong kind.
    """
    tighten, cause, detectors = values.get("tighten"), values.get("cause"), values.get("detectors")
    level = next((known for known in _NEXT if known == values.get("level")), None)
    if level is None:
        raise ConfigError(
            f"alarm: level = {values.get('level')!r}: choose one of {', '.join(_NEXT)}"
        )
    if not isinstance(detectors, Mapping):
        raise ConfigError(f"alarm: detectors = {detectors!r} is not a table")
    if not isinstance(tighten, int | float):
        raise ConfigError(f"alarm: tighten = {tighten!r} is not a number")
    read = {str(name): detector_from_json(one) for name, one in detectors.items()}
    return Alarm(read, level, float(tighten), None if cause is None else str(cause))
