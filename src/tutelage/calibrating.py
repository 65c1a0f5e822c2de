"""Configuration to a certified policy: play or read labelled episodes, fit a score, certify."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import floor, inf
from typing import TYPE_CHECKING, Any, Literal

from tutelage.assembly import ANY_TEACHER, ORACLE, Assembly
from tutelage.benchmarks.oracles import oracle_of
from tutelage.draw_study import compare_draws
from tutelage.labelling import (
    Fitted,
    check_extra,
    fit_labelled,
    played_steps,
    prompt_features,
    recorded_steps,
)
from tutelage.rehearsal import Play
from tutelage.runtime.errors import BenchmarkError, ConfigError
from tutelage.staged_play import StagedPlay

if TYPE_CHECKING:
    from tutelage.benchmarks.arms import StudentKind
    from tutelage.benchmarks.progress import Watcher
    from tutelage.benchmarks.replay import Stopped
    from tutelage.benchmarks.results import EpisodeResult
    from tutelage.cascade.calibration import Measured
    from tutelage.cascade.certificate import Certificate, Refusal, Unit
    from tutelage.cascade.draws import Draws
    from tutelage.cascade.policy_file import PolicyFile
    from tutelage.cascade.risk_curve import Curve
    from tutelage.cascade.step_scores import ScoreKind

COPYING_STUDENT = "copying stand-in"
"""Name in a policy file of the student that copies from its prompt; no configuration has it."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be certified, and by which means.

    Raises:
        ConfigError: A number is out of range.
    """

    alpha: float = 0.05
    """Risk that is allowed."""
    delta: float = 0.05
    """Allowed probability that the risk is higher all the same."""
    score: ScoreKind = "logistic"
    thresholds: int = 10
    """Thresholds in the grid."""
    student: StudentKind = "student"
    """Who acts in the place of the student."""
    adaptive: float | None = None
    """Share of steps that one sample may decide otherwise than all; absent: always all."""

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("delta", self.delta)):
            if not 0 < value < 1:
                raise ConfigError(f"{name} = {value}: give a number between 0 and 1, both excluded")
        if self.adaptive is not None and not 0 < self.adaptive < 1:
            raise ConfigError(
                f"adaptive = {self.adaptive}: give a number between 0 and 1, both excluded"
            )
        if self.thresholds < 1:
            raise ConfigError(f"thresholds = {self.thresholds}: give at least 1")


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a calibration found."""

    file: PolicyFile | None
    """Absent where nothing is certified."""
    outcome: Certificate | Refusal | None
    """``None`` where it was stopped before its end."""
    curve: Curve | None = None
    labelled: int = 0
    """Steps that the score was fitted on."""
    right_share: float | None = None
    """Share of them in which the student was right."""
    stopped: Stopped = "finished"
    draws: tuple[Draws, ...] = ()
    """What ways to draw take of the samples of the steps that the score was fitted on."""


async def calibrate_by_play(
    assembly: Assembly,
    play: Play,
    fit_split: str,
    goal: Goal,
    watcher: Watcher,
    stop: asyncio.Event | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Calibration:
    """Calibrates on rollouts: the cascade plays at each threshold, until one is not certified.

    In episodes of ``fit_split`` chance decides who serves, and the teacher labels every step; the
    scores are fitted on them. Then the episodes of ``play.split`` are played by the teacher
    alone and at each threshold, strict to permissive. The loss of an episode is 1 if the teacher
    wins it and the cascade does not. Fewer episodes than can certify anything are not played.

    Args:
        assembly: Student, bank, store.
        play: What certifies, and the folder that makes it resumable.
        fit_split: What the score is fitted on; no task of ``play.split``.
        goal: What is to be certified.
        watcher: Told of finished episodes.
        stop: Once set, nothing new begins.
        say: Told what goes on, a line at a time.

    Raises:
        ConfigError: The splits overlap, or an option does not fit.
        MissingExtra: scikit-learn is not installed.
        BenchmarkError: An episode failed, or the episodes hold no labelled step.
    """
    from tutelage.benchmarks.arms import Arm
    from tutelage.cascade.calibration import FixedSequence

    check_extra()
    staged = StagedPlay(assembly, play, watcher, stop or asyncio.Event())
    await staged.check_disjoint(fit_split)
    too_few = _too_few(play.split, len(await staged.tasks(play.split)), goal)
    if too_few is not None:
        return Calibration(None, too_few)
    acting = Arm(
        "labels",
        "labelled",
        "explore",
        demonstrations=True,
        guards=tuple(assembly.config.cascade.guards),
        student=goal.student,
    )
    say(f"playing {fit_split} with every step labelled by the teacher")
    labelling = replace(acting, labels=True)
    explored = await staged.results("fit", [labelling], split=fit_split, seeds=1)
    if explored is None:
        return Calibration(None, None, stopped=staged.stopped)
    steps = await played_steps(assembly, explored)
    fitted = await fit_labelled(assembly, steps, goal.score)
    say(f"{len(steps)} labelled steps, the student right in {fitted.right_share:.2f} of them")
    draws = await compare_draws(
        assembly, steps, goal.score, alpha=goal.adaptive or goal.alpha, delta=goal.delta
    )

    say(f"playing {play.split} by the teacher alone")
    taught = await staged.results("teacher", [Arm("teacher", "teacher alone", "always-teacher")])
    grid = thresholds(fitted.late(), goal.thresholds)
    sequence = FixedSequence(grid, alpha=goal.alpha, delta=goal.delta)
    seen: list[tuple[float, Measured]] = []
    while taught is not None and (threshold := sequence.pending) is not None:
        arm = replace(
            acting,
            name=f"calibrated-{threshold:g}",
            policy="calibrated",
            routed=True,
            options={
                "threshold": threshold,
                "floor": fitted.floor(threshold),
                "scores": fitted.scores.to_json(),
                **({} if (sure := _sure(fitted, threshold, goal)) is None else {"sure": sure}),
            },
        )
        played = await staged.results("certify", [arm])
        if played is None:
            break
        measured = _measured(taught, played)
        passed = sequence.record(measured)
        seen.append((threshold, measured))
        lost = int(measured.losses.sum())
        say(
            f"threshold {threshold:.4f}: {lost} of {len(measured.losses)} episodes lost, teacher "
            f"share {measured.teacher_share:.2f}: {'certified' if passed else 'not certified'}"
        )
    curve = _curve(seen, goal.delta)
    if staged.stopped != "finished":
        return Calibration(None, None, curve, len(steps), fitted.right_share, staged.stopped, draws)
    oracle = oracle_of(play.world) if play.teacher == "oracle" else ""
    by = f"oracle teacher: {oracle}" if oracle else "model teacher"
    found = await _concluded(
        assembly,
        assembly.config.tenant,
        goal,
        sequence.outcome(),
        fitted,
        curve,
        f"{play.world} {play.split}, {by}",
        f"{ORACLE}{oracle}" if oracle else "",
    )
    return replace(found, draws=draws)


async def calibrate_from_traces(
    assembly: Assembly, tenant: str, goal: Goal, unit: Unit, since_s: float = 0.0
) -> Calibration:
    """Calibrates on recorded traffic whose steps are all labelled.

    Labels come from mode ``shadow``, where the teacher served and the student worked aside, and
    from audits of all steps (``evidence.audits = 1``). Half of the episodes fit the score, the
    others certify. The certificate holds for the logged states only. That the traffic was served
    as the configuration says now is not checked: name the time of the latest change as ``since_s``.

    Args:
        assembly: The store, and the bank that the traffic was served with.
        tenant: Whose traffic.
        goal: What is to be certified; whoever acts is whoever acted.
        unit: Whether the risk is that of an episode or the share of its steps.
        since_s: Unix time from which episodes count.

    Raises:
        ConfigError: The goal asks for adaptive draws, which recorded steps cannot certify.
        MissingExtra: scikit-learn is not installed.
        BenchmarkError: No episode is fully labelled, or too many are not.
    """
    import numpy as np

    from tutelage.cascade.calibration import certify
    from tutelage.cascade.risk_curve import logged_losses, risk_curve
    from tutelage.cascade.scores import for_fitting

    if goal.adaptive is not None:
        raise ConfigError(
            "--adaptive is for calibrating in a world, where the policy plays with it: name one"
        )
    check_extra()
    steps, lacking = await recorded_steps(assembly, tenant, since_s)
    # What routing alone decides teaches a score nothing.
    seen = [step for step in steps if for_fitting(step.episode_id) and not step.is_routed]
    held = [step for step in steps if not for_fitting(step.episode_id)]
    unknown = sum(not for_fitting(id) for id in lacking)
    certifying = len({step.episode_id for step in held}) + unknown
    if not seen or not held or unknown >= goal.alpha * certifying:
        raise BenchmarkError(
            f"{len({step.episode_id for step in steps})} episodes of tenant {tenant!r} are fully "
            f"labelled, {len(lacking)} are not: serve in mode 'shadow' or with evidence.audits = 1 "
            "for a while, and name the Unix time when that began with --since-s"
        )
    fitted = await fit_labelled(assembly, seen, goal.score)
    grid = thresholds(fitted.late(), goal.thresholds)
    rows = await prompt_features(assembly, held, fitted.scores)
    losses, shares = logged_losses(
        [step.episode_id for step in held],
        [
            inf if step.is_routed else fitted.scores.score.score(row)
            for step, row in zip(held, rows, strict=True)
        ],
        [step.right for step in held],
        grid,
        unit=unit,
    )
    losses = np.vstack([losses, np.ones((unknown, len(grid)))])
    outcome = certify(
        losses,
        grid,
        alpha=goal.alpha,
        delta=goal.delta,
        unit=unit,
        scope="logged states",
        teacher_share=list(shares),
    )
    kind: Literal["binary", "bounded"] = "binary" if unit == "episode" else "bounded"
    curve = risk_curve(losses, grid, delta=goal.delta, loss_kind=kind, teacher_share=list(shares))
    source = f"traces of tenant {tenant!r}: {len(losses)} episodes"
    return await _concluded(assembly, tenant, goal, outcome, fitted, curve, source, "")


def thresholds(scores: Sequence[float], count: int) -> tuple[float, ...]:
    """A grid from strict to permissive: quantiles of the scores, so that each accepts more steps.

    Args:
        scores: (steps,), at least one.
        count: Most thresholds; equal ones are one.
    """
    ordered = sorted(scores, reverse=True)
    places = [round((part + 1) / count * (len(ordered) - 1)) for part in range(count)]
    # Downwards, so that a threshold accepts the score that it was made from.
    return tuple(sorted({floor(ordered[place] * 1e6) / 1e6 for place in places}, reverse=True))


def _sure(fitted: Fitted, threshold: float, goal: Goal) -> float | None:
    """The prior from which on one sample is enough, where the draws are to be adaptive."""
    return None if goal.adaptive is None else fitted.sure(threshold, goal.adaptive, goal.delta)


def _too_few(split: str, tasks: int, goal: Goal) -> Refusal | None:
    """A refusal where so few episodes cannot certify, even if none of them is lost."""
    from tutelage.cascade.bounds import zero_error_size
    from tutelage.cascade.certificate import Refusal

    least = zero_error_size(goal.alpha, goal.delta)
    if tasks >= least:
        return None
    reason = (
        f"{split} holds {tasks} tasks: to certify a risk of {goal.alpha:g} at confidence "
        f"{1 - goal.delta:g} takes at least {least} episodes, {least - tasks} more, and more "
        "still if one is lost; nothing was played"
    )
    return Refusal(reason, goal.alpha, goal.delta, tasks, least - tasks, None)


def _measured(taught: Sequence[EpisodeResult], played: Sequence[EpisodeResult]) -> Measured:
    import numpy as np

    from tutelage.cascade.calibration import Measured

    by_task = {(one.task_id, one.seed): one for one in taught}
    losses = [_is_lost(one, by_task[(one.task_id, one.seed)]) for one in played]
    return Measured(
        losses=np.array(losses, dtype=np.float64),
        teacher_share=sum(one.teacher_steps / one.steps for one in played) / len(played),
        cost_usd=sum(one.total_cost_usd for one in played) / len(played),
    )


def _is_lost(cascade: EpisodeResult, teacher: EpisodeResult) -> bool:
    return teacher.success and not cascade.success


def _curve(seen: Sequence[tuple[float, Measured]], delta: float) -> Curve | None:
    import numpy as np

    from tutelage.cascade.risk_curve import risk_curve

    if not seen:
        return None
    return risk_curve(
        np.stack([measured.losses for _, measured in seen], axis=1),
        [threshold for threshold, _ in seen],
        delta=delta,
        teacher_share=[measured.teacher_share or 0.0 for _, measured in seen],
        cost_usd=[measured.cost_usd or 0.0 for _, measured in seen],
    )


async def _concluded(
    assembly: Assembly,
    tenant: str,
    goal: Goal,
    outcome: Certificate | Refusal,
    fitted: Fitted,
    curve: Curve | None,
    source: str,
    oracle: str,
) -> Calibration:
    from tutelage.cascade.certificate import Certificate
    from tutelage.cascade.policy_file import PolicyFile

    labelled = len(fitted.right)
    if not isinstance(outcome, Certificate):
        return Calibration(None, outcome, curve, labelled, fitted.right_share)
    config = assembly.config
    bank = await assembly.bank.version(tenant) if config.retrieval.enabled else ""
    teacher = oracle or config.teacher.model or ANY_TEACHER
    conditions = assembly.policies.conditions(bank, teacher)
    if goal.student != "student":
        # What is certified of a stand-in must not be served by the configured student.
        conditions = conditions.model_copy(update={"student": COPYING_STUDENT})
    floor = fitted.floor(outcome.threshold) if outcome.scope == "rollouts" else 0.0
    file = PolicyFile(
        scores=fitted.scores.to_json(),
        threshold=outcome.threshold,
        floor=floor,
        sure=_sure(fitted, outcome.threshold, goal),
        disagreement=fitted.disagreement(outcome.threshold, floor),
        certificate=outcome.to_json(),
        conditions=conditions,
        source=source,
        created_at_s=time.time(),
    )
    return Calibration(file, outcome, curve, labelled, fitted.right_share)


def to_json(found: Calibration) -> dict[str, Any]:
    """A calibration as JSON values."""
    from dataclasses import asdict

    from tutelage.cascade.certificate import Certificate

    outcome = found.outcome
    return {
        "certified": isinstance(outcome, Certificate),
        "outcome": None if outcome is None else asdict(outcome),
        "curve": None if found.curve is None else asdict(found.curve),
        "labelled_steps": found.labelled,
        "right_share": found.right_share,
        "stopped": found.stopped,
        "draws": [asdict(one) for one in found.draws],
    }
