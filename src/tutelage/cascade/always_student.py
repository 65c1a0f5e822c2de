"""The policy that never asks the teacher."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Agreement, Decision, Reason, Retrieved, SamplePlan, Step


class AlwaysStudent:
    """The student serves every step, also where its sample names no action.

    Source: the baselines "student zero-shot" and "student in context" of arXiv 2512.02543.

    Args:
        samples: Samples a step; more than one only pays where a guard or a report needs votes.
        temperature: Sampling temperature; ``None`` keeps the request's own.

    Raises:
        ConfigError: ``samples`` is below 1.
    """

    def __init__(self, samples: int = 1, temperature: float | None = 0.0) -> None:
        if samples < 1:
            raise ConfigError(f"samples = {samples}: the student needs at least 1 sample a step")
        self._plan = SamplePlan(samples, temperature)

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """One greedy sample, unless configured otherwise."""
        return self._plan

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The student, whatever was sampled."""
        return Decision(served="student", reason=Reason.ALWAYS)
