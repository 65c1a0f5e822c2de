"""The policy whose threshold is certified."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from tutelage.cascade.scores import ScoreModel
from tutelage.cascade.watch import PolicyWatch
from tutelage.runtime.types import Agreement, Decision, Reason, Retrieved, SamplePlan, Step


class Calibrated:
    """The student serves a step whose score reaches a threshold; else the teacher takes it.

    The score is P(the student's action is right) from the features of the step. The threshold is
    the most permissive one that Learn-then-Test certifies (arXiv 2110.01052): at most alpha of the
    risk, with confidence 1 - delta, under the conditions of the calibration.

    Args:
        plan: How the student is sampled, as in the calibration.
        student: The score model.
        threshold: Least score that is served; above 1 the teacher serves everything.
        watch: Raises the threshold where traffic has drifted; absent: nothing does.
    """

    def __init__(
        self,
        plan: SamplePlan,
        student: ScoreModel,
        threshold: float,
        watch: PolicyWatch | None = None,
    ) -> None:
        self._plan = plan
        self._student = student
        self._certified = threshold
        self._watch = watch

    @property
    def threshold(self) -> float:
        """The threshold in force."""
        return self._certified if self._watch is None else self._watch.threshold(self._certified)

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The same plan at every step; the teacher where an alarm has taken the student out."""
        if self.threshold == inf:
            return Decision(served="teacher", reason=Reason.ALARM)
        return self._plan

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The student where its score reaches the threshold."""
        # A step that could not be described would be scored by the means of all features.
        if agreement.modal is None or not agreement.features:
            return Decision(served="teacher", reason=Reason.UNUSABLE)
        score = self._student.score(agreement.features)
        if score >= self.threshold:
            return Decision(served="student", reason=Reason.CERTIFIED, score=score)
        return Decision(served="teacher", reason=Reason.UNCERTAIN, score=score)
