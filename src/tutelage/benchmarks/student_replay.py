"""Another student on recorded prompts: what is known for certain, and what can be estimated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from tutelage.benchmarks.off_policy import (
    LEAST_EFFECTIVE,
    PolicyValue,
    WeightedEpisode,
    estimate_lines,
    policy_value,
)
from tutelage.benchmarks.recorded_replay import finite
from tutelage.benchmarks.statistics import Interval, bootstrap_ratio
from tutelage.runtime.errors import BenchmarkError
from tutelage.runtime.types import Served


@dataclass(frozen=True, slots=True)
class AskedStep:
    """One recorded step, at whose prompt the other student was asked."""

    trace_id: str
    episode_id: str
    step_index: int
    served: Served
    """Who serves it now."""
    follows: bool | None
    """Whether what is done now is what was done then, so that the next recorded state is what
    follows; ``None``: nobody knows, as the teacher was not asked."""
    right: bool | None = None
    """Whether the other student names the teacher's action; ``None`` where that is unknown."""
    was_right: bool | None = None
    """Whether the recorded one did."""
    chance: float | None = 1.0
    """Probability with which chance let the recorded step support what is done now; ``None``:
    chance left it to the other side."""
    cost_usd: float = 0.0
    uncached_cost_usd: float = 0.0
    was_served: Served = "student"
    unsupported: str | None = None
    """Why nothing recorded says what follows, where that is so whatever chance decides."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its interval, by a bootstrap over episodes."""

    value: float
    interval: Interval | None
    """95 %; ``None`` with fewer than two episodes."""


@dataclass(frozen=True, slots=True)
class StudentReplay:
    """Another student at the recorded states of the cascade's episodes."""

    student: str
    policy: str
    episodes: int
    steps: int
    asked: int
    """Steps in which the student was asked."""
    same_steps: int
    """Steps in which what is done is what was done."""
    judged: int
    """Steps of which both students' answers and the teacher's action are known."""
    right: Share | None
    """Of the judged steps, those in which the student names the teacher's action."""
    was_right: Share | None
    better: Share | None
    """The difference of both."""
    teacher_share: float
    """Of all recorded steps, those that go to the teacher now."""
    was_teacher_share: float
    determined: int
    """Episodes that the record determines to their end."""
    success_bounds: tuple[float, float] | None
    """Least and most success of episodes with feedback, whatever the undetermined ones would do;
    in a deterministic world. ``None`` without feedback."""
    recorded_success: float | None
    method: Literal["exact", "off-policy"] | None
    """``None``: the record supports no estimate."""
    missing: str | None
    """Why there is none."""
    success: PolicyValue | None
    cached: PolicyValue | None
    """USD of an episode at the configured prices."""
    uncached: PolicyValue | None
    rows: tuple[str, ...]
    """Episodes that the estimate rests on; without one, those that are determined."""
    first_differences: tuple[str, ...] = ()
    """Where undetermined episodes part from the record, as ``episode:step``."""


def student_replay(
    episodes: Mapping[str, Sequence[AskedStep]],
    outcomes: Mapping[str, bool],
    *,
    student: str,
    policy: str,
    asked: int,
    arms: Mapping[str, float],
    confidence: float = 0.95,
) -> StudentReplay:
    """The figures of another student from its steps.

    An episode is determined if what is done in each step is what was done: in a deterministic world
    it would have ended as it did. Bounds count the others once as lost and once as won (Manski
    1990). If some are undetermined, an estimate needs that chance, and nothing else, decided which:
    episodes are weighed by the inverse of the chances of their tossed steps.

    Args:
        episodes: Steps in order, by episode; at least one episode.
        outcomes: Success by episode, where it is known.
        student: What it is called.
        policy: What decides who serves.
        asked: Steps in which the student was asked.
        arms: Probability with which each episode came into its arm.
        confidence: Of the intervals of estimates.
    """
    listed = [step for steps in episodes.values() for step in steps]
    whole = {id for id, steps in episodes.items() if all(one.follows for one in steps)}
    judged = [one for one in listed if one.right is not None and one.was_right is not None]
    known = {id: outcomes[id] for id in episodes if id in outcomes}
    method: Literal["exact", "off-policy"] | None = None
    missing: str | None = None
    values: dict[str, PolicyValue | None] = dict.fromkeys(("cached", "uncached", "success"))
    weights = dict.fromkeys(episodes, 1.0)
    try:
        if len(whole) < len(episodes):
            weights = {id: _weight(id, steps, arms[id]) for id, steps in episodes.items()}
        least = 2.0 if len(whole) == len(episodes) else LEAST_EFFECTIVE
        for name in ("cached", "uncached"):
            of = {id: _cost(steps, name) for id, steps in episodes.items()}
            weighted = [WeightedEpisode(id, weights[id], of[id]) for id in episodes]
            values[name] = policy_value(weighted, confidence=confidence, least_effective=least)
        method = "exact" if len(whole) == len(episodes) else "off-policy"
        won = [WeightedEpisode(id, weights[id], float(one)) for id, one in known.items()]
        values["success"] = policy_value(
            won, is_share=True, confidence=confidence, least_effective=least
        )
    except BenchmarkError as error:
        missing = str(error)
    return StudentReplay(
        student=student,
        policy=policy,
        episodes=len(episodes),
        steps=len(listed),
        asked=asked,
        same_steps=sum(one.follows is True for one in listed),
        judged=len(judged),
        right=_share(judged, lambda one: float(one.right is True)),
        was_right=_share(judged, lambda one: float(one.was_right is True)),
        better=_share(judged, lambda one: float(one.right is True) - float(one.was_right is True)),
        teacher_share=sum(one.served == "teacher" for one in listed) / len(listed),
        was_teacher_share=sum(one.was_served == "teacher" for one in listed) / len(listed),
        determined=len(whole),
        success_bounds=_bounds(known, whole),
        recorded_success=sum(known.values()) / len(known) if known else None,
        method=method,
        missing=missing,
        success=values["success"],
        cached=values["cached"],
        uncached=values["uncached"],
        rows=tuple(id for id in episodes if (weights[id] > 0 if method else id in whole)),
        first_differences=tuple(
            f"{id}:{next(one.step_index for one in steps if not one.follows)}"
            for id, steps in episodes.items()
            if id not in whole
        ),
    )


def lines(replay: StudentReplay) -> list[str]:
    """The result as lines for a person."""
    told = [
        f"student {replay.student}, policy {replay.policy}: asked in {replay.asked} of "
        f"{replay.steps} recorded steps of {replay.episodes} episodes",
        f"it does as recorded in {replay.same_steps} steps; to the teacher go "
        f"{replay.teacher_share:.3f}, as recorded {replay.was_teacher_share:.3f}",
    ]
    if replay.right is None or replay.was_right is None or replay.better is None:
        told.append("the teacher's action is known of no step: set evidence.audits, or play shadow")
    else:
        told.append(
            f"of {replay.judged} steps whose right action the teacher said it names "
            f"{_told(replay.right)}, the recorded student {_told(replay.was_right)}; difference "
            f"{_told(replay.better, sign='+')}"
        )
    told.append(
        f"{replay.determined} of {replay.episodes} episodes are determined to their end, if the "
        "world is deterministic"
    )
    if replay.success_bounds is not None and replay.recorded_success is not None:
        low, high = replay.success_bounds
        told.append(
            f"success is between {low:.3f} and {high:.3f}, whatever the others would do; as "
            f"recorded {replay.recorded_success:.3f}"
        )
    told += estimate_lines(
        replay.method, replay.cached, replay.uncached, replay.success, replay.missing
    )
    return told


def to_json(replay: StudentReplay) -> dict[str, Any]:
    """The result as JSON values; what is not finite is ``null``."""
    return {name: finite(value) for name, value in asdict(replay).items()}


def _weight(id: str, steps: Sequence[AskedStep], arm: float) -> float:
    weight = 1 / arm
    for one in steps:
        if one.unsupported is not None:
            raise BenchmarkError(
                f"nothing recorded says what follows episode {id}, step {one.step_index}: "
                f"{one.unsupported}"
            )
        if one.chance is None:
            return 0.0
        weight /= one.chance
    return weight


def _cost(steps: Sequence[AskedStep], pricing: str) -> float:
    return sum(one.cost_usd if pricing == "cached" else one.uncached_cost_usd for one in steps)


def _share(steps: Sequence[AskedStep], of: Callable[[AskedStep], float]) -> Share | None:
    if not steps:
        return None
    hits: dict[str, float] = defaultdict(float)
    counts: dict[str, float] = defaultdict(float)
    for one in steps:
        hits[one.episode_id] += of(one)
        counts[one.episode_id] += 1
    # The same draws for all shares, so that a difference of nothing has no width.
    drawn = bootstrap_ratio(list(hits.values()), list(counts.values()), np.random.default_rng(0))
    return Share(sum(hits.values()) / len(steps), drawn)


def _bounds(outcomes: Mapping[str, bool], determined: set[str]) -> tuple[float, float] | None:
    if not outcomes:
        return None
    won = sum(success for id, success in outcomes.items() if id in determined)
    unknown = sum(id not in determined for id in outcomes)
    return won / len(outcomes), (won + unknown) / len(outcomes)


def _told(share: Share, sign: str = "") -> str:
    ends = share.interval
    told = f"{share.value:{sign}.3f}"
    return told if ends is None else f"{told} ({ends.low:{sign}.3f} to {ends.high:{sign}.3f})"
