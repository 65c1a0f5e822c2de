"""Evaluations of students whose worth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tutelage.training.gates.evaluation import Evaluation, PairedEpisode, PlayedEpisode, StepRow


@dataclass(frozen=True, slots=True)
class Student:
    """How a student behaves, on average."""

    success: float = 0.9
    teacher_share: float = 0.3
    right: float = 0.8
    """Share of steps at which it is right."""
    sure_if_wrong: float = 0.5
    """How often a sample joins the most frequent one at a wrong step; 0.85 at a right one."""
    tokens: float = 20.0
    same: float = 0.7


def play(student: Student, generator: np.random.Generator) -> PlayedEpisode:
    steps = int(generator.integers(6, 15))
    teacher_steps = int(generator.binomial(steps, student.teacher_share))
    rows = []
    for _ in range(steps):
        right = bool(generator.random() < student.right)
        agreeing = generator.binomial(4, 0.85 if right else student.sure_if_wrong) + 1
        same = bool(generator.random() < student.same)
        rows.append(StepRow(agreeing / 5, right, 0.5, same, 0.8 if same else 0.3))
    cost_usd = 0.0003 * steps + 0.004 * teacher_steps
    return PlayedEpisode(
        success=bool(generator.random() < student.success),
        cost_usd=cost_usd,
        uncached_cost_usd=2 * cost_usd,
        steps=steps,
        teacher_steps=teacher_steps,
        output_tokens=int(generator.poisson(student.tokens * steps)),
        rows=tuple(rows),
    )


def planted(
    candidate: Student, seed: int, *, current: Student | None = None, tasks: int = 250
) -> Evaluation:
    """Both students on the same tasks, none of which was trained on."""
    generator = np.random.default_rng(seed)
    before = current or Student()
    return Evaluation(
        tuple(
            PairedEpisode(f"test-{one}", play(before, generator), play(candidate, generator))
            for one in range(tasks)
        ),
        training_tasks=frozenset({"train-1", "train-2"}),
    )


def outcomes(pairs: list[tuple[bool, bool]], repeats: int = 1) -> Evaluation:
    """Episodes by (current, candidate) success alone; tasks are played ``repeats`` times."""
    return Evaluation(
        tuple(
            PairedEpisode(
                f"task-{place // repeats}",
                PlayedEpisode(before, 0.0, 0.0, 1),
                PlayedEpisode(after, 0.0, 0.0, 1),
                seed=place % repeats,
            )
            for place, (before, after) in enumerate(pairs)
        )
    )
