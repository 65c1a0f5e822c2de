"""Whether agreement among samples still tells right steps from wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from tutelage.training.gates.evaluation import Evaluation, StepRow
from tutelage.training.gates.resampling import quantile, resampled_counts
from tutelage.training.gates.verdict import Verdict

Array = NDArray[np.float64]


def auroc(right: Array, wrong: Array) -> Array:
    """Probability that a right step has more agreement than a wrong one; ties count half.

    Args:
        right: Right steps by ascending agreement, (..., values).
        wrong: Wrong steps by ascending agreement, (..., values).

    Returns:
        (...); NaN without a right or without a wrong step.
    """
    below = np.cumsum(wrong, axis=-1) - wrong / 2
    area = (right * below).sum(axis=-1)
    whole = right.sum(axis=-1) * wrong.sum(axis=-1)
    found: Array = np.divide(area, whole, out=np.full_like(area, np.nan), where=whole > 0)
    return found


@dataclass(frozen=True, slots=True)
class AgreementQuality:
    """Blocks a candidate whose agreement is shown to tell right from wrong less well.

    AUROC of the share of agreeing samples against "the step is right", candidate minus current,
    with a percentile bootstrap over tasks that keeps both students of a task together. It blocks
    where the whole one-sided interval is below ``-tolerance``: with the default of 0 an equal
    candidate is blocked with a probability of about ``1 - confidence``. Training sharpens students:
    all samples agree, also on wrong steps, and a cascade hands over too little. Where there are
    too few right or wrong steps nothing is blocked, but a warning stands: a calibration on the
    candidate must tell then. With ``required`` that blocks, too: for students that were trained to
    be surer, whose agreement nobody may trust unmeasured.

    Args:
        confidence: One-sided.
        tolerance: Fall of the AUROC that is allowed.
        fewest: Right, and wrong, steps of each student without which nothing is said.
        resamples: How many resamples are drawn.
        seed: Of the resampling.
        blocking: Whether it forbids a promotion.
        required: Whether it also forbids one where too few steps were judged.
    """

    confidence: float = 0.95
    tolerance: float = 0.0
    fewest: int = 30
    resamples: int = 1000
    seed: int = 0
    blocking: bool = True
    required: bool = False

    def check(self, evaluation: Evaluation) -> Verdict:
        """Compares the AUROC of both students' steps."""
        tasks = evaluation.by_task()
        arms = [
            [[row for one in task for row in getattr(one, arm).rows] for task in tasks]
            for arm in ("candidate", "current")
        ]
        counted = [_by_value(arm) for arm in arms]
        least = min(int(table.sum()) for arm in counted for table in arm)
        if least < self.fewest:
            text = (
                f"not measured: it takes {self.fewest} right and {self.fewest} wrong steps of each "
                f"student, and there are {least}"
            )
            return self._verdict(False, None, None, text, self.blocking and self.required)
        values = [float(auroc(right.sum(axis=0), wrong.sum(axis=0))) for right, wrong in counted]
        picks = resampled_counts(len(tasks), self.resamples, self.seed)
        drawn = [auroc(picks @ right, picks @ wrong) for right, wrong in counted]
        changes = drawn[0] - drawn[1]
        bound = quantile(np.sort(changes[np.isfinite(changes)]), self.confidence)
        value = values[0] - values[1]
        text = (
            f"AUROC {values[0]:.3f} against {values[1]:.3f}: {value:+.3f}, at most {bound:+.3f} "
            f"with confidence {self.confidence:g}{_entropies(evaluation)}"
        )
        return self._verdict(bound >= -self.tolerance, value, bound, text, self.blocking)

    def _verdict(
        self, passed: bool, value: float | None, bound: float | None, text: str, blocking: bool
    ) -> Verdict:
        return Verdict(
            gate="agreement quality",
            passed=passed,
            blocking=blocking,
            value=value,
            bound=bound,
            threshold=-self.tolerance,
            text=text,
        )


def _by_value(tasks: Sequence[Sequence[StepRow]]) -> tuple[Array, Array]:
    """Right and wrong steps by task and ascending agreement, each (tasks, values)."""
    shares = sorted({row.agreement for task in tasks for row in task if row.right is not None})
    places = {share: place for place, share in enumerate(shares)}
    tables = np.zeros((2, len(tasks), len(shares)))
    for number, task in enumerate(tasks):
        for row in task:
            if row.right is not None:
                tables[0 if row.right else 1, number, places[row.agreement]] += 1
    return tables[0], tables[1]


def _entropies(evaluation: Evaluation) -> str:
    means = []
    for candidate in (True, False):
        known = [row.entropy for row in evaluation.rows(candidate=candidate)]
        measured = [one for one in known if one is not None]
        if not measured:
            return ""
        means.append(fmean(measured))
    return f"; entropy {means[0]:.3f} against {means[1]:.3f} nats"
