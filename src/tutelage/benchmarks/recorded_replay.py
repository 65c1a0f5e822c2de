"""Recorded traffic under another policy or other prices: the figures and how they are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

from tutelage.benchmarks.off_policy import PolicyValue


@dataclass(frozen=True, slots=True)
class RecordedReplay:
    """Recorded traffic as it was, and as the configured policy or prices would have had it."""

    policy: str
    repriced: bool
    """Whether tokens were counted with the configured prices."""
    episodes: int
    steps: int
    same_steps: int
    """Steps in which the other policy decides as recorded."""
    method: Literal["exact", "off-policy"]
    """``exact``: the record determines every episode; else an estimate over those that agree."""
    recorded_usd: float
    """Mean cost of a recorded episode of the cascade, at the prices that it was recorded with."""
    recorded_uncached_usd: float
    recorded_success: float | None
    """Of the episodes with feedback; ``None`` without any."""
    cached: PolicyValue
    uncached: PolicyValue
    success: PolicyValue | None
    """``None`` where too few episodes with feedback support it."""
    success_missing: str | None
    """Why there is none."""
    rows: tuple[str, ...]
    """Episodes that the figures rest on."""


def lines(replay: RecordedReplay, confidence: float = 0.95) -> list[str]:
    """The result as lines for a person."""
    prices = "configured" if replay.repriced else "recorded"
    told = [
        f"policy {replay.policy} over {replay.episodes} recorded episodes, {prices} prices: "
        f"{replay.method}; it decides as recorded in {replay.same_steps} of {replay.steps} steps"
    ]
    before = (replay.recorded_usd, replay.recorded_uncached_usd)
    for title, value, was in (
        ("with prompt caches", replay.cached, before[0]),
        ("uncached", replay.uncached, before[1]),
    ):
        told.append(
            f"an episode costs, {title}: ${value.value:.5f} (${value.interval.low:.5f} to "
            f"${value.interval.high:.5f}, {confidence:.0%}); as recorded ${was:.5f}"
        )
    told.append(
        f"rests on {replay.cached.used} episodes, worth {replay.cached.effective:.1f} independent "
        "ones"
    )
    if replay.success is None:
        told.append(f"success: no estimate; {replay.success_missing}")
    else:
        share, was_won = replay.success, replay.recorded_success
        assert was_won is not None
        told.append(
            f"success: {share.value:.3f} ({share.interval.low:.3f} to {share.interval.high:.3f}); "
            f"as recorded {was_won:.3f}"
        )
    return told


def to_json(replay: RecordedReplay) -> dict[str, Any]:
    """The result as JSON values; what is not finite is ``null``."""
    return {name: finite(value) for name, value in asdict(replay).items()}


def finite(value: Any) -> Any:
    """A value of ``asdict`` for JSON, which has no infinity."""
    if isinstance(value, Mapping):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value
