from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cascade.decided_steps import PLAN, UNUSABLE, step_after, voted

from tutelage.cascade.calibrated import Calibrated
from tutelage.cascade.scores import IsotonicScore
from tutelage.runtime.types import Decision, Reason

STEP = step_after("student")
SCORE = IsotonicScore("agreement", (0.0, 1.0), (0.0, 1.0), missing_rate=0.25)


def test_the_student_is_sampled_as_in_the_calibration() -> None:
    made = Calibrated(PLAN, SCORE, 0.5)
    assert made.plan(STEP) == made.plan(step_after(), []) == PLAN


@given(share=st.floats(0, 1), threshold=st.floats(0, 1))
def test_the_student_serves_from_the_threshold_on(share: float, threshold: float) -> None:
    decision = Calibrated(PLAN, SCORE, threshold).decide(STEP, voted("a", agreement=share), [])
    certain = SCORE.score({"agreement": share}) >= threshold
    assert decision.served == ("student" if certain else "teacher")
    assert decision.reason is (Reason.CERTIFIED if certain else Reason.UNCERTAIN)
    assert decision.score == SCORE.score({"agreement": share})


@pytest.mark.parametrize("threshold", [2.0, math.inf, math.nan])
def test_above_one_the_teacher_serves_everything(threshold: float) -> None:
    decision = Calibrated(PLAN, SCORE, threshold).decide(STEP, voted("a", agreement=1.0), [])
    assert (decision.served, decision.reason) == ("teacher", Reason.UNCERTAIN)


def test_the_teacher_takes_a_step_for_which_the_student_names_no_action() -> None:
    made = Calibrated(PLAN, SCORE, 0.0)
    assert made.decide(STEP, UNUSABLE, []) == Decision(served="teacher", reason=Reason.UNUSABLE)


def test_a_step_without_the_feature_has_the_score_of_such_steps() -> None:
    assert (
        Calibrated(PLAN, SCORE, 0.25).decide(STEP, voted("a", step_index=0), []).served == "student"
    )
    assert (
        Calibrated(PLAN, SCORE, 0.26).decide(STEP, voted("a", step_index=0), []).served == "teacher"
    )
