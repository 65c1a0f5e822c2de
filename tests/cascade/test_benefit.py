from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cascade.decided_steps import PLAN, UNUSABLE, step_after, voted

from tutelage.cascade.benefit import Benefit
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Decision, Reason

STEP = step_after("student")
shares = st.floats(0, 1)


class Read:
    """P(right) is the feature ``right``."""

    def score(self, features: Mapping[str, float]) -> float:
        return features["right"]

    def to_json(self) -> dict[str, Any]:
        return {}


def benefit(p_teacher: float = 0.9, value_usd: float = 1.0, cost_usd: float = 0.1) -> Benefit:
    return Benefit(
        PLAN,
        Read(),
        p_teacher=p_teacher,
        value_usd=value_usd,
        teacher_cost_usd=lambda step: cost_usd,
    )


def test_the_student_is_sampled_the_same_at_every_step() -> None:
    assert benefit().plan(STEP) == benefit().plan(step_after(), []) == PLAN


def test_the_teacher_is_worth_its_price_where_it_gains_more() -> None:
    decision = benefit().decide(STEP, voted("look", right=0.7), [])
    assert (decision.served, decision.reason) == ("teacher", Reason.BENEFIT)
    assert decision.score == pytest.approx(0.2 - 0.1)


def test_the_student_serves_where_the_teacher_costs_more_than_it_gains() -> None:
    decision = benefit().decide(STEP, voted("look", right=0.85), [])
    assert (decision.served, decision.reason) == ("student", Reason.NO_BENEFIT)
    assert decision.score == pytest.approx(0.05 - 0.1)


def test_a_teacher_that_is_no_better_is_never_asked_even_for_nothing() -> None:
    made = benefit(p_teacher=0.6, cost_usd=0.0)
    for right in (0.6, 0.9):
        assert made.decide(STEP, voted("look", right=right), []) == Decision(
            served="student", reason=Reason.NO_BENEFIT, score=0.0
        )


def test_the_teacher_takes_a_step_for_which_the_student_names_no_action() -> None:
    made = benefit(value_usd=0.0)
    assert made.decide(STEP, UNUSABLE, []) == Decision(served="teacher", reason=Reason.UNUSABLE)


@given(p_teacher=shares, right=shares, value_usd=st.floats(0, 10), cost_usd=st.floats(0, 10))
def test_it_defers_iff_the_gain_exceeds_the_cost(
    p_teacher: float, right: float, value_usd: float, cost_usd: float
) -> None:
    decision = benefit(p_teacher, value_usd, cost_usd).decide(STEP, voted("a", right=right), [])
    # As the documentation says it.
    wanted = (p_teacher - right) * value_usd > cost_usd
    assert (decision.served == "teacher") == wanted


@given(right=shares, first=st.floats(0, 2), second=st.floats(0, 2))
def test_a_dearer_call_is_never_made_where_a_cheaper_one_was_not(
    right: float, first: float, second: float
) -> None:
    cheap, dear = sorted((first, second))
    asked = [
        benefit(cost_usd=cost).decide(STEP, voted("a", right=right), []).served == "teacher"
        for cost in (cheap, dear)
    ]
    assert asked[0] >= asked[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p_teacher": 1.1}, "p_teacher = 1.1"),
        ({"p_teacher": -0.1}, "p_teacher = -0.1"),
        ({"value_usd": -1.0}, "value_usd = -1.0"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        benefit(**options)
