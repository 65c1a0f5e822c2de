"""Every policy and baseline on the same tasks: cost of an episode against success."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from tutelage.assembly import Assembly
from tutelage.calibrating import thresholds
from tutelage.labelling import Fitted, LabelledStep, check_extra, fit_labelled, played_steps
from tutelage.rehearsal import Play
from tutelage.runtime.errors import BenchmarkError, ConfigError
from tutelage.staged_play import StagedPlay

if TYPE_CHECKING:
    from tutelage.benchmarks.arms import Arm, StudentKind
    from tutelage.benchmarks.baselines.prompt_router import PromptClassifier
    from tutelage.benchmarks.frontier import Gap
    from tutelage.benchmarks.progress import Watcher
    from tutelage.benchmarks.replay import Stopped
    from tutelage.benchmarks.results import EpisodeResult

OURS = ("calibrated", "benefit")
ONE_GREEDY: Mapping[str, Any] = {"samples": 1, "temperature": 0.0}
"""What more samples would tell, the other features tell for nothing."""
FAMILIES = (
    "teacher",
    "student",
    "paper",
    *OURS,
    "random",
    "logprob",
    "router",
    "static",
    "two-students",
    "self-verification",
)
_TEACHER_SHARES = (0.2, 0.4, 0.6, 0.8)
_VALUES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""What a right action is worth, in calls of the teacher."""


@dataclass(frozen=True, slots=True)
class Study:
    """What was compared."""

    arms: tuple[Arm, ...]
    families: Mapping[str, str]
    """Family of each arm, by name."""
    results: tuple[EpisodeResult, ...]
    """Every arm on every task with every seed."""
    labelled: int
    """Steps that scores and router were fitted on."""
    right_share: float
    """Share of them in which the student was right."""


async def play_study(
    assembly: Assembly,
    play: Play,
    fit_split: str,
    student: StudentKind,
    points: int,
    watcher: Watcher,
    stop: asyncio.Event,
    say: Callable[[str], None],
    chosen: Sequence[str] = (),
) -> Study | Stopped:
    """Fits score and router on labelled episodes, then plays every arm on the others.

    Args:
        assembly: Student, bank, store.
        play: What is compared on, and the folder that makes it resumable.
        fit_split: What scores are fitted on; no task of ``play.split``.
        student: Who acts.
        points: Thresholds of a family.
        watcher: Told of finished episodes.
        stop: Once set, nothing new begins.
        say: Told what goes on.
        chosen: Families or single arms that are compared; absent: all.

    Returns:
        How it ended where it was stopped before its end.

    Raises:
        ConfigError: The splits overlap, the configuration does not fit an arm, or one that was
            chosen does not exist.
        MissingExtra: scikit-learn is not installed.
        BenchmarkError: An episode failed, or the labels are all equal.
    """
    from tutelage.benchmarks.arms import GUARDS, Arm

    check_families(chosen)

    check_extra()
    staged = StagedPlay(assembly, play, watcher, stop)
    await staged.check_disjoint(fit_split)
    base = Arm("labels", "labelled", "explore", demonstrations=True, guards=GUARDS, labels=True)
    base = replace(base, student=student, options=ONE_GREEDY)
    say(f"playing {fit_split} with every step labelled by the teacher")
    explored = await staged.results("fit", [base], split=fit_split, seeds=1)
    if explored is None:
        return staged.stopped
    steps = await played_steps(assembly, explored)
    fitted = await fit_labelled(assembly, steps, "logistic")
    if fitted.right_share in (0.0, 1.0):
        raise BenchmarkError(f"all {len(steps)} labels are equal: there is nothing to compare")
    classifier = await _classifier(assembly, steps)
    arms, families = study_arms(student, fitted, classifier, points)
    told = "logprob" in families.values()
    arms = only(arms, families, chosen)
    families = {arm.name: families[arm.name] for arm in arms}
    if not told:
        say("the student tells no log-probabilities (student.logprobs): no arms that rest on them")
    say(f"{len(steps)} labelled steps; playing {len(arms)} arms on {play.split}")
    played = await staged.results("arms", arms)
    if played is None:
        return staged.stopped
    return Study(tuple(arms), families, tuple(played), len(steps), fitted.right_share)


def study_arms(
    student: StudentKind,
    fitted: Fitted,
    classifier: tuple[PromptClassifier, Sequence[float]],
    points: int,
) -> tuple[list[Arm], dict[str, str]]:
    """The arms of a study, and the family of each.

    Args:
        student: Who acts.
        fitted: The scores and the labelled steps, whose quantiles are the thresholds.
        classifier: The prompt router, and its probabilities of the labelled prompts.
        points: Thresholds of a family.
    """
    from tutelage.benchmarks.arms import GUARDS, Arm

    shown = Arm("", "", "paper", demonstrations=True, guards=GUARDS, student=student)
    arms: list[Arm] = []
    families: dict[str, str] = {}

    def add(family: str, point: str, arm: Arm) -> None:
        name = f"{family}-{point}" if point else family
        families[name] = family
        arms.append(replace(arm, name=name, title=f"{family} {point}".strip()))

    add("teacher", "", Arm("", "", "always-teacher"))
    add("student", "", replace(shown, policy="always-student", guards=()))
    add("paper", "", shown)
    add("paper", "early-stop", replace(shown, options={"draw": "sequential"}))
    plan = {**ONE_GREEDY, "scores": fitted.scores.to_json()}
    # The copier's likelihood says how many demonstrations agree, at any temperature.
    alone = ONE_GREEDY if student == "student" else {"samples": 1}
    late = fitted.late()
    for threshold in thresholds(late, points):
        options = {**plan, "threshold": threshold, "floor": fitted.floor(threshold)}
        add("calibrated", f"{threshold:g}", replace(shown, policy="calibrated", options=options))
    for value in _VALUES:
        value_usd = value * fitted.costs.teacher_usd
        floor = fitted.floor(1.0 - 1.0 / value, value_usd) if value > 1 else 0.0
        options = {**plan, "value_usd": value_usd, "p_teacher": 1.0, "floor": floor}
        add("benefit", f"{value:g}x", replace(shown, policy="benefit", options=options))
    for share in _TEACHER_SHARES:
        add("random", f"{share:g}", replace(shown, policy="random", p_teacher=share))
    for threshold in quantiles([row.get("logprob_mean") for row in fitted.rows], points):
        options = {**alone, "feature": "logprob_mean", "threshold": threshold}
        add("logprob", f"{threshold:g}", replace(shown, policy="threshold", options=options))
    router, probabilities = classifier
    pooled: StudentKind = "copying-pooled" if student == "copying" else "pooled"
    routed: StudentKind = "copying-routed" if student == "copying" else "routed"
    for threshold in quantiles(probabilities, points):
        options = {
            "feature": "agreement",
            "threshold": 0.5,
            "samples": 1,
            "weights": list(router.weights),
            "intercept": router.intercept,
            "p": threshold,
        }
        arm = replace(shown, policy="threshold", options=options, student=routed)
        add("router", f"{threshold:g}", arm)
    add("static", "", replace(shown, static=True))
    add("two-students", "", replace(shown, student=pooled, options={"samples": 4}))
    if student == "student":
        for threshold in (-1.4, -0.7, -0.3):
            options = {"feature": "logprob_mean", "threshold": threshold, "samples": 1}
            arm = replace(shown, policy="threshold", options=options, student="verifying")
            add("self-verification", f"{threshold:g}", arm)
    return arms, families


def check_families(chosen: Sequence[str]) -> None:
    """Finds out before anything is played whether what was chosen can exist.

    Raises:
        ConfigError: A name begins with no family.
    """
    for name in chosen:
        if not any(name == family or name.startswith(f"{family}-") for family in FAMILIES):
            raise ConfigError(
                f"arm {name!r} is unknown: give families ({', '.join(FAMILIES)}) or arms of them, "
                "for example random-0.4"
            )


def only(arms: Sequence[Arm], families: Mapping[str, str], chosen: Sequence[str]) -> list[Arm]:
    """The arms of the families or names that were chosen, and the teacher, part of all frontiers.

    Args:
        arms: All arms.
        families: Family of each, by name.
        chosen: Families or names; empty: all arms.

    Raises:
        ConfigError: No arm has a name that was chosen, or none of ours or of the others is left.
    """
    if not chosen:
        return list(arms)
    for name in chosen:
        # Whether a student tells log-probabilities shows only when it was asked.
        if name not in {*families, *families.values(), *FAMILIES}:
            near = [one for one in families if one.partition("-")[0] == name.partition("-")[0]]
            raise ConfigError(f"arm {name!r} is not played; there are {', '.join(near)}")
    wanted = {*chosen, "teacher"}
    kept = [arm for arm in arms if arm.name in wanted or families[arm.name] in wanted]
    sides = {families[arm.name] in OURS for arm in kept if arm.name != "teacher"}
    if sides != {True, False}:
        raise ConfigError(
            f"--arms {','.join(chosen)}: a comparison takes arms of {' or '.join(OURS)} and of "
            "another family"
        )
    return kept


def quantiles(values: Sequence[float | None], count: int) -> list[float]:
    """Distinct inner quantiles of the values that are known, greatest first."""
    known = sorted((value for value in values if value is not None), reverse=True)
    if not known:
        return []
    places = [round((part + 1) / (count + 1) * (len(known) - 1)) for part in range(count)]
    return sorted({round(known[place], 4) for place in places}, reverse=True)


def compare(study: Study, seed: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """Means of all arms, and how far ours lie above each baseline at its cost.

    Args:
        study: What was played.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
    """
    import numpy as np

    from tutelage.benchmarks.frontier import gaps

    results = study.results
    # The teacher alone is a point of every frontier: whoever has a cascade may leave it off.
    ours = [name for name, family in study.families.items() if family in (*OURS, "teacher")]
    others = [name for name in study.families if name not in ours]
    found: dict[str, list[Gap]] = {
        pricing: gaps(
            results,
            ours,
            others,
            pricing,
            generator=np.random.default_rng(seed),
            resamples=resamples,
        )
        for pricing in ("cached", "uncached")
    }
    rows = []
    for arm in study.arms:
        played = [one for one in results if one.arm == arm.name]
        steps = sum(one.steps for one in played)
        rows.append(
            {
                "arm": arm.name,
                "family": study.families[arm.name],
                "episodes": len(played),
                "success": sum(one.success for one in played) / len(played),
                "teacher_share": sum(one.teacher_steps for one in played) / steps,
                "steps": steps / len(played),
                "cost_usd": sum(one.total_cost_usd for one in played) / len(played),
                "uncached_cost_usd": sum(one.total_uncached_cost_usd for one in played)
                / len(played),
                "student_output_tokens": sum(
                    one.usage["student"].output_tokens for one in played if "student" in one.usage
                )
                / len(played),
            }
        )
    return {
        "arms": rows,
        "gaps": {pricing: [asdict(one) for one in gap] for pricing, gap in found.items()},
        "labelled_steps": study.labelled,
        "right_share": study.right_share,
    }


async def _classifier(
    assembly: Assembly, steps: Sequence[LabelledStep]
) -> tuple[PromptClassifier, Sequence[float]]:
    from tutelage.benchmarks.baselines.prompt_router import fit_prompt_classifier, routed_text

    texts = [
        routed_text([(one["role"], str(one.get("content") or "")) for one in step.trace.prompt])
        for step in steps
    ]
    vectors = await assembly.embedder.embed(texts)
    made = fit_prompt_classifier(vectors, [step.right for step in steps])
    return made, [made.probability(vector) for vector in vectors]
