"""Another bank under recorded traffic: what would be shown, and what may be said of its effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tutelage.benchmarks.off_policy import (
    PolicyValue,
    WeightedEpisode,
    estimate_lines,
    policy_value,
)
from tutelage.benchmarks.recorded_replay import finite
from tutelage.runtime.errors import BenchmarkError

_LISTED = 3
"""Steps that are told to a person."""


@dataclass(frozen=True, slots=True)
class ShownStep:
    """What a recorded step was shown, and what it would be shown."""

    trace_id: str
    episode_id: str
    step_index: int
    recorded: tuple[str, ...]
    """Ids of the demonstrations that the student saw, best first."""
    found: tuple[str, ...]
    """Ids of those that are found now, best first."""
    scores: tuple[float, ...] = ()
    """Of ``found``."""
    actions: tuple[str, ...] = ()
    """Canonical keys of their actions, or their text."""
    taught: str | None = None
    """The teacher's action, where it is known."""
    reachable: bool = False
    """Whether chance could have shown what is found now: demonstrations were left out at random,
    and all that are found now are among what was found then."""

    @property
    def is_same(self) -> bool:
        """Whether the student would see what it saw."""
        return self.recorded == self.found


@dataclass(frozen=True, slots=True)
class RecordedEpisode:
    """An episode as it was, and the steps that were shown demonstrations."""

    episode_id: str
    steps: tuple[ShownStep, ...]
    chance: float
    """Probability with which chance left out what it did, and nothing else; 1 without dropout."""
    cost_usd: float
    uncached_cost_usd: float
    success: bool | None


@dataclass(frozen=True, slots=True)
class BankReplay:
    """What another bank would show at recorded steps."""

    bank: str
    """Its version."""
    episodes: int
    steps: int
    """Steps whose prompt was the student's."""
    same_steps: int
    overlap: float
    """Mean of shown and found in common, over all that are in either; 1 for two empty ones."""
    mean_recorded: float
    """Demonstrations a step."""
    mean_found: float
    taught: int
    """Steps of which the teacher's action is known."""
    first_right: float | None
    """Of these, the share whose best found demonstration shows that action."""
    any_right: float | None
    """Of these, the share in which any of those found does."""
    method: Literal["exact", "off-policy"] | None
    """``None``: the record does not support the bank."""
    missing: str | None
    cached: PolicyValue | None
    """USD of an episode."""
    uncached: PolicyValue | None
    success: PolicyValue | None
    recorded_usd: float
    recorded_success: float | None
    shown: tuple[ShownStep, ...]
    """All steps, so that each demonstration can be looked up."""


def bank_replay(
    episodes: Sequence[RecordedEpisode], *, bank: str, confidence: float = 0.95
) -> BankReplay:
    """The figures of another bank from the steps of recorded episodes.

    Where every step would show what it showed, episodes are what they were: exact. If chance left
    demonstrations out, episodes that saw just what the bank would show stand for it, weighed by the
    inverse of their chance. Anything else is refused: nobody knows what the student would have
    said.

    Args:
        episodes: At least one, with at least one step in all.
        bank: Version of the bank.
        confidence: Of the intervals.
    """
    steps = [step for one in episodes for step in one.steps]
    taught = [step for step in steps if step.taught is not None]
    is_exact = all(step.is_same for step in steps)
    judged = [one.success for one in episodes if one.success is not None]
    method: Literal["exact", "off-policy"] | None = None
    values: dict[str, PolicyValue] = {}
    missing: str | None = None
    try:
        weights = {one.episode_id: 1.0 if is_exact else _weight(one) for one in episodes}

        def value(of: Mapping[str, float], is_share: bool = False) -> PolicyValue:
            listed = [WeightedEpisode(id, weights[id], amount) for id, amount in of.items()]
            if is_exact:
                return policy_value(
                    listed, is_share=is_share, confidence=confidence, least_effective=2.0
                )
            return policy_value(listed, is_share=is_share, confidence=confidence)

        values["cached"] = value({one.episode_id: one.cost_usd for one in episodes})
        values["uncached"] = value({one.episode_id: one.uncached_cost_usd for one in episodes})
        method = "exact" if is_exact else "off-policy"
        won = {one.episode_id: float(one.success) for one in episodes if one.success is not None}
        values["success"] = value(won, is_share=True)
    except BenchmarkError as error:
        missing = str(error)
    return BankReplay(
        bank=bank,
        episodes=len(episodes),
        steps=len(steps),
        same_steps=sum(step.is_same for step in steps),
        overlap=sum(map(_overlap, steps)) / len(steps),
        mean_recorded=sum(len(step.recorded) for step in steps) / len(steps),
        mean_found=sum(len(step.found) for step in steps) / len(steps),
        taught=len(taught),
        first_right=_share([step.taught in step.actions[:1] for step in taught]),
        any_right=_share([step.taught in step.actions for step in taught]),
        method=method,
        missing=missing,
        cached=values.get("cached"),
        uncached=values.get("uncached"),
        success=values.get("success"),
        recorded_usd=sum(one.cost_usd for one in episodes) / len(episodes),
        recorded_success=_share([bool(one) for one in judged]),
        shown=tuple(steps),
    )


def lines(replay: BankReplay) -> list[str]:
    """The result as lines for a person."""
    told = [
        f"bank {replay.bank[:12]} at {replay.steps} recorded steps of {replay.episodes} episodes: "
        f"it shows the same in {replay.same_steps}, {replay.overlap:.0%} in common; "
        f"{replay.mean_found:.1f} demonstrations a step, as recorded {replay.mean_recorded:.1f}",
    ]
    if replay.first_right is None or replay.any_right is None:
        told.append("the teacher's action is known of no step")
    else:
        told.append(
            f"of {replay.taught} steps whose right action the teacher said, the best demonstration "
            f"shows it in {replay.first_right:.3f}, any of them in {replay.any_right:.3f}"
        )
    for step in [one for one in replay.shown if not one.is_same][:_LISTED]:
        told.append(
            f"  {step.episode_id}, step {step.step_index}: {_names(step.recorded)} -> "
            f"{_names(step.found)}"
        )
    told += estimate_lines(
        replay.method, replay.cached, replay.uncached, replay.success, replay.missing
    )
    return told


def to_json(replay: BankReplay) -> dict[str, Any]:
    """The result as JSON values; what is not finite is ``null``."""
    return {name: finite(value) for name, value in asdict(replay).items()}


def _weight(episode: RecordedEpisode) -> float:
    for step in episode.steps:
        if step.is_same:
            continue
        if not step.reachable:
            raise BenchmarkError(
                f"episode {episode.episode_id}, step {step.step_index} would show "
                f"{_names(step.found)} instead of {_names(step.recorded)}, and chance never "
                "showed that: nobody knows what the student would have said. Play the bank, or "
                "let chance leave demonstrations out (curation.dropout_share)"
            )
        return 0.0
    return 1 / episode.chance


def _overlap(step: ShownStep) -> float:
    either = {*step.recorded, *step.found}
    return len({*step.recorded} & {*step.found}) / len(either) if either else 1.0


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def _names(ids: Sequence[str]) -> str:
    return f"[{', '.join(ids)}]" if ids else "no demonstration"
