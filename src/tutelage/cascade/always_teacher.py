"""The policy that never asks the student."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.runtime.types import Agreement, Decision, Reason, Retrieved, SamplePlan, Step


class AlwaysTeacher:
    """The teacher serves every step; the student is not sampled.

    Source: the baseline "teacher" of arXiv 2512.02543.
    """

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The teacher, without a sample."""
        return Decision(served="teacher", reason=Reason.ALWAYS)

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The teacher, whatever was sampled."""
        return Decision(served="teacher", reason=Reason.ALWAYS)
