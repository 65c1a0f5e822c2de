"""The figures of each arm, and how it compares with the teacher."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tutelage.benchmarks.economics import (
    Cost,
    Pricing,
    break_even_episodes,
    cost,
    episode_cost_usd,
    tokens,
)
from tutelage.benchmarks.results import EpisodeResult, teacher_share
from tutelage.benchmarks.statistics import (
    Interval,
    bootstrap_ratio,
    mcnemar_exact,
    mean_interval,
    wilson_interval,
)
from tutelage.runtime.types import Served, Usage

SIGNIFICANT = 0.05
PRICINGS: tuple[Pricing, ...] = ("cached", "uncached")


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Episodes until the bank is repaid; ``None`` if the arm saves nothing."""

    as_extra_cost: float | None
    as_real_work: float | None


@dataclass(frozen=True, slots=True)
class AgainstTeacher:
    """An arm beside the teacher on the tasks and seeds that both played."""

    pairs: int
    bank_episodes: int
    """Teacher episodes that the arm has to repay; 0 for an arm without demonstrations."""
    only_arm: int
    """Pairs that only the arm won."""
    only_teacher: int
    p: float
    """McNemar, exact and two-sided."""
    cost_ratio: dict[Pricing, float | None]
    """Cost of the arm's episodes over the teacher's; ``None`` if the teacher cost nothing."""
    break_even: dict[Pricing, BreakEven]

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``insignificant``."""
        if self.p >= SIGNIFICANT:
            return "insignificant"
        return "better" if self.only_arm > self.only_teacher else "worse"


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """The figures of one arm; there is at least one episode."""

    arm: str
    title: str
    episodes: int
    tasks: int
    """Different ones among the episodes."""
    solved: int
    success: Interval
    """95 % by Wilson."""
    steps: float
    """Mean of an episode."""
    teacher_share: float
    """Of all steps, in [0, 1]."""
    expert_steps: int
    planner_steps: int
    refused_share: dict[Served, float | None]
    """Actions that the world refused, over the steps of whoever chose them."""
    reasons: dict[str, int]
    tokens: dict[Served, Usage]
    """Of all episodes."""
    costs: dict[Pricing, Cost]
    solved_usd_interval: dict[Pricing, Interval | None]
    """95 % of the cost of a solved task, by a bootstrap over tasks."""
    episode_usd_interval: dict[Pricing, Interval | None]
    """95 % of the cost of an episode, by Student's t over tasks."""
    seconds: float
    """Mean wall time of an episode."""
    against_teacher: AgainstTeacher | None = None
    prompt_parts: dict[str, int] = field(default_factory=dict)
    """Tokens of the student's prompts by part, as they were assembled, where that is known."""

    @property
    def share_solved(self) -> float:
        """Solved episodes over all, in [0, 1]."""
        return self.solved / self.episodes


@dataclass(frozen=True, slots=True)
class Bank:
    """The teacher episodes that demonstrations come from."""

    episodes: int
    arms: frozenset[str] = field(default_factory=frozenset)
    """Arms that use them; the others have nothing to repay."""


def summarise(
    arm: str,
    title: str,
    results: Sequence[EpisodeResult],
    teacher: Sequence[EpisodeResult],
    bank: Bank,
    generator: np.random.Generator,
) -> ArmSummary:
    """The figures of an arm.

    Args:
        arm: Its name.
        title: Its name for people.
        results: Its episodes, at least one.
        teacher: Episodes of the teacher alone; none for the teacher itself, or if it did not play.
        bank: What the demonstrations cost.
        generator: Source of the bootstrap.
    """
    solved = sum(result.success for result in results)
    steps: dict[Served, int] = {
        "student": sum(result.student_steps for result in results),
        "teacher": sum(result.teacher_steps for result in results),
    }
    reasons: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    for result in results:
        reasons.update(result.reasons)
        parts.update(result.prompt_parts)
    return ArmSummary(
        arm=arm,
        title=title,
        episodes=len(results),
        tasks=len({result.task_id for result in results}),
        solved=solved,
        success=wilson_interval(solved, len(results)),
        steps=sum(result.steps for result in results) / len(results),
        teacher_share=teacher_share(results) or 0.0,
        expert_steps=sum(result.expert_steps for result in results),
        planner_steps=sum(result.planner_steps for result in results),
        refused_share={
            role: sum(result.refused_steps.get(role, 0) for result in results) / taken
            if taken
            else None
            for role, taken in steps.items()
        },
        reasons=dict(reasons.most_common()),
        tokens=tokens(results),
        prompt_parts=dict(parts),
        costs={pricing: cost(results, pricing) for pricing in PRICINGS},
        solved_usd_interval={
            pricing: _solved_usd_interval(results, pricing, generator) for pricing in PRICINGS
        },
        episode_usd_interval={
            pricing: _episode_usd_interval(results, pricing) for pricing in PRICINGS
        },
        seconds=sum(result.wall_s for result in results) / len(results),
        against_teacher=_against(results, teacher, bank.episodes if arm in bank.arms else 0),
    )


def _solved_usd_interval(
    results: Sequence[EpisodeResult], pricing: Pricing, generator: np.random.Generator
) -> Interval | None:
    spent: dict[str, float] = defaultdict(float)
    solved: dict[str, int] = defaultdict(int)
    for result in results:
        spent[result.task_id] += episode_cost_usd(result, pricing)
        solved[result.task_id] += result.success
    tasks = sorted(spent)
    return bootstrap_ratio(
        [spent[task] for task in tasks], [solved[task] for task in tasks], generator
    )


def _episode_usd_interval(results: Sequence[EpisodeResult], pricing: Pricing) -> Interval | None:
    spent: dict[str, list[float]] = defaultdict(list)
    for result in results:
        spent[result.task_id].append(episode_cost_usd(result, pricing))
    # Seeds of one task are not independent.
    return mean_interval([sum(listed) / len(listed) for listed in spent.values()])


def _against(
    results: Sequence[EpisodeResult], teacher: Sequence[EpisodeResult], bank_episodes: int
) -> AgainstTeacher | None:
    partners = {(result.task_id, result.seed): result for result in teacher}
    pairs = [
        (result, partners[result.task_id, result.seed])
        for result in results
        if (result.task_id, result.seed) in partners
    ]
    if not pairs:
        return None
    only_arm = sum(ours.success and not theirs.success for ours, theirs in pairs)
    only_teacher = sum(theirs.success and not ours.success for ours, theirs in pairs)
    ratios: dict[Pricing, float | None] = {}
    break_even: dict[Pricing, BreakEven] = {}
    for pricing in PRICINGS:
        arm_usd = sum(episode_cost_usd(ours, pricing) for ours, _ in pairs) / len(pairs)
        teacher_usd = sum(episode_cost_usd(theirs, pricing) for _, theirs in pairs) / len(pairs)
        ratios[pricing] = arm_usd / teacher_usd if teacher_usd else None
        break_even[pricing] = BreakEven(
            *(
                break_even_episodes(bank_episodes, teacher_usd, arm_usd, bank_is_work=is_work)
                for is_work in (False, True)
            )
        )
    return AgainstTeacher(
        pairs=len(pairs),
        bank_episodes=bank_episodes,
        only_arm=only_arm,
        only_teacher=only_teacher,
        p=mcnemar_exact(only_arm, only_teacher),
        cost_ratio=ratios,
        break_even=break_even,
    )
