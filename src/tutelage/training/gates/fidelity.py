"""How much a student does as its teacher does, beside how well it does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.runtime.errors import TrainingError
from tutelage.training.gates.evaluation import Evaluation, StepRow
from tutelage.training.gates.verdict import Verdict

Array = NDArray[np.float64]
Form = Literal["distance", "divergence"]
"""Jensen-Shannon distance, which is the square root of the divergence, or the divergence."""


def label_loyalty(student: Sequence[str], teacher: Sequence[str]) -> float:
    """Share of examples at which both prefer the same label, in [0, 1].

    Source: Xu et al. 2021 (Beyond Preserved Accuracy).
    """
    _check_lengths(len(student), len(teacher))
    return fmean(ours == theirs for ours, theirs in zip(student, teacher, strict=True))


def probability_loyalty(student: Array, teacher: Array, form: Form = "distance") -> Array:
    """``1 - JS`` of two distributions, in bits: 1 if they are equal, 0 if they share nothing.

    With ``m = (p + q) / 2`` the divergence is ``KL(p || m) / 2 + KL(q || m) / 2``. Source: Xu et
    al. 2021, whose code takes the distance.

    Args:
        student: (examples, labels), rows sum to 1.
        teacher: (examples, labels); several teachers: the mean of their rows.
        form: Distance or divergence; always say which.

    Returns:
        (examples,), in [0, 1].

    Raises:
        TrainingError: Shapes differ, or a row is no distribution.
    """
    if student.shape != teacher.shape or student.ndim != 2:
        raise TrainingError(
            f"loyalty: shapes {student.shape} and {teacher.shape}: give (examples, labels) of both"
        )
    for name, rows in (("student", student), ("teacher", teacher)):
        if (rows < 0).any() or not np.allclose(rows.sum(axis=1), 1, atol=1e-6):
            raise TrainingError(f"loyalty: a row of the {name} is no distribution: let it sum to 1")
    middle = (student + teacher) / 2
    divergence = np.clip((_kl(student, middle) + _kl(teacher, middle)) / 2, 0.0, 1.0)
    loyalty: Array = 1 - (np.sqrt(divergence) if form == "distance" else divergence)
    return loyalty


@dataclass(frozen=True, slots=True)
class ScoreCloseness:
    """How close scores are to the teacher's; not what papers call regression loyalty."""

    closeness: float
    """``1 - RMSE / range``; may be negative."""
    correlation: float | None
    """Pearson's; ``None`` where one of both is constant."""


def score_closeness(
    student: Sequence[float], teacher: Sequence[float], score_range: float
) -> ScoreCloseness:
    """Compares scores, such as ratings.

    Args:
        student: (examples,).
        teacher: (examples,).
        score_range: Highest minus lowest possible score, above 0.
    """
    _check_lengths(len(student), len(teacher))
    if score_range <= 0:
        raise TrainingError(f"closeness: score_range = {score_range}: give a range above 0")
    ours, theirs = np.asarray(student, dtype=np.float64), np.asarray(teacher, dtype=np.float64)
    error = sqrt(float(np.mean((ours - theirs) ** 2)))
    a, b = ours - ours.mean(), theirs - theirs.mean()
    scale = sqrt(float(a @ a) * float(b @ b))
    return ScoreCloseness(1 - error / score_range, float(a @ b) / scale if scale else None)


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Warns where success and loyalty move apart; never blocks.

    Success rising while loyalty falls: the student found its own way, and what was certified
    against the teacher no longer describes it. Loyalty rising without success: it copies the
    teacher's manner. Point estimates; the figures stand side by side and are never merged.

    Args:
        least: A change of less than this, as a share, is none.
    """

    least: float = 0.02

    def check(self, evaluation: Evaluation) -> Verdict:
        """Compares the changes of success and of loyalty."""
        candidate = _label_loyalty(evaluation.rows(candidate=True))
        current = _label_loyalty(evaluation.rows(candidate=False))
        if candidate is None or current is None or not evaluation.episodes:
            return self._verdict(True, None, "not measured: the teacher's actions are not known")
        risen = fmean(one.candidate.success - one.current.success for one in evaluation.episodes)
        change = candidate - current
        text = f"success {risen:+.3f}; label loyalty {candidate:.3f} against {current:.3f}"
        soft = [
            _probability_loyalty(evaluation.rows(candidate=candidate))
            for candidate in (True, False)
        ]
        if soft[0] is not None and soft[1] is not None:
            text += f"; probability loyalty {soft[0]:.3f} against {soft[1]:.3f}"
        if risen >= self.least and change <= -self.least:
            return self._verdict(False, change, f"{text}: better, but less like the teacher")
        if change >= self.least and risen < self.least:
            return self._verdict(False, change, f"{text}: more like the teacher, but no better")
        return self._verdict(True, change, text)

    def _verdict(self, passed: bool, value: float | None, text: str) -> Verdict:
        return Verdict(
            gate="fidelity",
            passed=passed,
            blocking=False,
            value=value,
            threshold=self.least,
            text=text,
        )


def _label_loyalty(rows: Iterable[StepRow]) -> float | None:
    known = [row.same_as_teacher for row in rows if row.same_as_teacher is not None]
    return fmean(known) if known else None


def _probability_loyalty(rows: Iterable[StepRow]) -> float | None:
    known = [row.probability_loyalty for row in rows if row.probability_loyalty is not None]
    return fmean(known) if known else None


def _kl(rows: Array, middle: Array) -> Array:
    """``KL(rows || middle)`` in bits; ``middle`` is above 0 wherever ``rows`` is."""
    ratios = np.divide(rows, middle, out=np.ones_like(rows), where=rows > 0)
    found: Array = (rows * np.log2(ratios)).sum(axis=1)
    return found


def _check_lengths(ours: int, theirs: int) -> None:
    if ours != theirs or not ours:
        raise TrainingError(
            f"loyalty: {ours} examples of the student and {theirs} of the teacher: give as many of "
            "both, and at least one"
        )
