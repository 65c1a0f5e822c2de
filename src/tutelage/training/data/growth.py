"""Which tasks to collect next: those at which the teacher beats the student (arXiv 2311.08213)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """Verified outcomes of both roles, each on its own, at one task."""

    task_id: str
    family: str
    teacher_wins: int
    teacher_runs: int
    student_wins: int
    student_runs: int

    @property
    def gap(self) -> float | None:
        """Success of the teacher less that of the student; ``None`` if one never played."""
        if not self.teacher_runs or not self.student_runs:
            return None
        return self.teacher_wins / self.teacher_runs - self.student_wins / self.student_runs


@dataclass(frozen=True, slots=True)
class Assessment:
    """Tasks by who does them."""

    difficult: tuple[str, ...]
    """Ids of the tasks at which the teacher is better by the margin or more."""
    easy: tuple[str, ...]
    """Ids of all others that both have played."""
    families: dict[str, float]
    """Share of difficult tasks by family, where it is not 0."""

    @property
    def difficult_share(self) -> float:
        """Difficult tasks over those assessed; 0 if there are none."""
        assessed = len(self.difficult) + len(self.easy)
        return len(self.difficult) / assessed if assessed else 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A task that could be collected."""

    task_id: str
    family: str
    is_synthetic: bool = False
    """Whether it was written, rather than met in traffic or given by a world."""


@dataclass(frozen=True, slots=True)
class Round:
    """What to collect, and what it may cost."""

    tasks: tuple[Candidate, ...]
    expected_usd: float


def assess(records: Iterable[TaskRecord], margin: float = 0.25) -> Assessment:
    """Compares verified success, not taste.

    Args:
        records: One for each task; those that one role has not played are passed over.
        margin: Least advantage of the teacher, above 0 and up to 1.
    """
    difficult: list[str] = []
    easy: list[str] = []
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for record in sorted(records, key=lambda one: one.task_id):
        if record.gap is None:
            continue
        is_difficult = record.gap > 0 and record.gap >= margin
        (difficult if is_difficult else easy).append(record.task_id)
        counts[record.family][0] += is_difficult
        counts[record.family][1] += 1
    shares = {name: hard / all_ for name, (hard, all_) in sorted(counts.items()) if hard}
    return Assessment(tuple(difficult), tuple(easy), shares)


def plan_round(
    assessment: Assessment,
    candidates: Sequence[Candidate],
    *,
    known: Collection[str],
    evaluation: Collection[str],
    episode_usd: float,
    budget_usd: float,
    seed: int,
    most_synthetic: float = 0.5,
) -> Round:
    """Tasks like the difficult ones, and as many like the easy ones, so that these are kept.

    Difficult families get places in proportion to their share of difficult tasks. Without a
    difficult family nothing is collected.

    Args:
        assessment: Of the student that is to be trained further.
        candidates: What could be collected.
        known: Ids of tasks that are in the pool already.
        evaluation: Ids of tasks that measure.
        episode_usd: What one episode of the teacher costs.
        budget_usd: What the round may cost.
        seed: Draws the tasks.
        most_synthetic: Highest share of written tasks in the round.
    """
    banned = {*known, *evaluation}
    unique = {one.task_id: one for one in candidates if one.task_id not in banned}
    pool = [unique[id] for id in sorted(unique)]
    places = int(budget_usd / episode_usd + 1e-9) if episode_usd > 0 else len(pool)
    if not assessment.families or places < 1:
        return Round((), 0.0)
    random = Random(seed)
    hard = [one for one in pool if one.family in assessment.families]
    weights = {one.task_id: assessment.families[one.family] for one in hard}
    # A weighted order without replacement (Efraimidis and Spirakis 2006).
    hard.sort(key=lambda one: random.random() ** (1 / weights[one.task_id]), reverse=True)
    easy = [one for one in pool if one.family not in assessment.families]
    random.shuffle(easy)
    places = min(places, len(pool))
    easy = easy[: max(places // 2, places - len(hard))]
    tasks = _capped([*hard[: places - len(easy)], *easy], most_synthetic)
    return Round(tuple(tasks), len(tasks) * episode_usd)


def goes_on(shares: Sequence[float], least_fall: float = 0.02) -> bool:
    """Whether another round is worth it: the share of difficult tasks still falls.

    Args:
        shares: ``Assessment.difficult_share`` after each round, oldest first.
        least_fall: Fall against the round before from which it counts.
    """
    if not shares or shares[-1] <= 0:
        return False
    return len(shares) == 1 or shares[-2] - shares[-1] >= least_fall


def _capped(tasks: Sequence[Candidate], most_synthetic: float) -> list[Candidate]:
    """Leaves out written tasks, latest first, until their share is allowed."""
    real = sum(not one.is_synthetic for one in tasks)
    written = sum(one.is_synthetic for one in tasks)
    while written and written > most_synthetic * (real + written) + 1e-9:
        written -= 1
    kept = []
    for one in tasks:
        if one.is_synthetic:
            if not written:
                continue
            written -= 1
        kept.append(one)
    return kept
