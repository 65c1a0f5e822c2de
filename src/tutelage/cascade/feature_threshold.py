"""A threshold on one feature of a step, uncalibrated: a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

from tutelage.cascade.features import FEATURES
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Agreement, Decision, Reason, Retrieved, SamplePlan, Step


class FeatureThreshold:
    """The student serves a step if one of its features reaches a threshold.

    ``logprob_mean`` is the rule of most published cascades. A missing feature is the teacher's.

    Args:
        plan: How the student is sampled.
        feature: Its name.
        threshold: Least value that is served.

    Raises:
        ConfigError: The feature is unknown.
    """

    def __init__(self, plan: SamplePlan, feature: str, threshold: float) -> None:
        if feature not in FEATURES:
            raise ConfigError(f"feature = {feature!r} is unknown: choose of {', '.join(FEATURES)}")
        self._plan = plan
        self._feature = feature
        self._threshold = threshold

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The same plan at every step."""
        return self._plan

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The student where the feature reaches the threshold."""
        if agreement.modal is None:
            return Decision(served="teacher", reason=Reason.UNUSABLE)
        value = agreement.features.get(self._feature, nan)
        if value >= self._threshold:
            return Decision(served="student", reason=Reason.CONFIDENT, score=value)
        return Decision(
            served="teacher", reason=Reason.UNCERTAIN, score=None if value != value else value
        )
