from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cascade.decided_steps import PLAN, UNUSABLE, step_after, voted

from tutelage.cascade.feature_threshold import FeatureThreshold
from tutelage.cascade.features import FEATURES
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Agreement, Decision, Reason

STEP = step_after("student")


def known(**features: float) -> Agreement:
    return dataclasses.replace(voted("look"), features=features)


@pytest.mark.parametrize("name", FEATURES)
def test_any_feature_of_a_step_may_decide(name: str) -> None:
    made = FeatureThreshold(PLAN, name, 0.5)
    assert made.plan(STEP) == made.plan(STEP, []) == PLAN
    assert made.decide(STEP, known(**{name: 0.5}), []).served == "student"


@given(value=st.floats(allow_nan=False), threshold=st.floats(allow_nan=False))
def test_the_student_serves_from_the_threshold_on(value: float, threshold: float) -> None:
    agreement = voted("look", logprob_mean=value, agreement=1.0)
    decision = FeatureThreshold(PLAN, "logprob_mean", threshold).decide(STEP, agreement, [])
    certain = value >= threshold
    assert decision.served == ("student" if certain else "teacher")
    assert decision.reason is (Reason.CONFIDENT if certain else Reason.UNCERTAIN)
    assert decision.score == value


@pytest.mark.parametrize("features", [{}, {"agreement": 1.0}, {"logprob_mean": math.nan}])
def test_a_step_without_the_feature_is_the_teachers(features: dict[str, float]) -> None:
    made = FeatureThreshold(PLAN, "logprob_mean", -math.inf)
    decision = made.decide(STEP, known(**features), [])
    assert decision == Decision(served="teacher", reason=Reason.UNCERTAIN)


def test_the_teacher_takes_a_step_for_which_the_student_names_no_action() -> None:
    made = FeatureThreshold(PLAN, "agreement", 0.0)
    assert made.decide(STEP, UNUSABLE, []) == Decision(served="teacher", reason=Reason.UNUSABLE)


def test_an_unknown_feature_is_one_clear_line() -> None:
    with pytest.raises(ConfigError, match=r"feature = 'logprob' is unknown: choose of agreement, "):
        FeatureThreshold(PLAN, "logprob", 0.0)
