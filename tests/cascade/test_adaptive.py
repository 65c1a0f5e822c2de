from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cascade.decided_steps import PLAN, STUDENT, TEACHER, Fixed, shown, step_after, voted

from tutelage.cascade.adaptive import Adaptive, least_sure
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.features import StepDescriber
from tutelage.cascade.gate import Gate
from tutelage.cascade.scores import IsotonicScore
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.protocols import DeferralPolicy
from tutelage.runtime.types import Decision, SamplePlan

FORM = TextCanonicalizer()
STEP = step_after()
PRIOR = IsotonicScore("similarity", (0.0, 1.0), (0.0, 1.0), missing_rate=0.25)


def adaptive(policy: DeferralPolicy | None = None, sure: float = 0.5) -> Adaptive:
    return Adaptive(policy or Fixed(STUDENT), StepDescriber(FORM), PRIOR, sure)


@given(similarity=st.floats(0, 1), sure=st.floats(0, 1))
def test_one_sample_is_drawn_from_the_level_on(similarity: float, sure: float) -> None:
    planned = adaptive(sure=sure).plan(STEP, [shown("look", similarity)])

    assert isinstance(planned, SamplePlan)
    assert planned.samples == (1 if similarity >= sure else PLAN.samples)
    assert planned.temperature == PLAN.temperature


def test_the_number_waits_for_the_demonstrations() -> None:
    assert adaptive().plan(STEP) == dataclasses.replace(PLAN, waits=True)


@pytest.mark.parametrize("plan", [TEACHER, STUDENT, SamplePlan(1, 0.0)])
def test_what_needs_no_more_than_one_sample_waits_for_nothing(
    plan: SamplePlan | Decision,
) -> None:
    assert adaptive(Fixed(plan=plan)).plan(STEP) == plan


def test_the_policy_decides() -> None:
    made = adaptive(Fixed(TEACHER))

    assert made.decide(STEP, voted("look"), []) == TEACHER


def test_below_the_floor_of_a_gate_nothing_is_drawn_and_above_the_level_one_sample() -> None:
    gated = Gate(adaptive(sure=0.8), StepDescriber(FORM), PRIOR, 0.4)

    drawn = [gated.plan(STEP, [shown("look", prior)]) for prior in (0.2, 0.6, 0.9)]

    assert [getattr(one, "samples", 0) for one in drawn] == [0, PLAN.samples, 1]


def test_the_level_is_the_lowest_that_recorded_steps_certify() -> None:
    episodes = [f"e{n % 200}" for n in range(2000)]
    priors = [(n // 200) / 10 for n in range(2000)]

    level = least_sure(episodes, priors, [prior >= 0.4 for prior in priors], alpha=0.05, delta=0.05)

    assert level == pytest.approx(0.4)


def test_steps_that_differ_or_are_too_few_certify_no_level() -> None:
    episodes = [f"e{n}" for n in range(200)]

    assert least_sure(episodes, [0.5] * 200, [False] * 200, alpha=0.05, delta=0.05) is None
    assert least_sure(["a"], [0.5], [True], alpha=0.05, delta=0.05) is None
    assert least_sure([], [], [], alpha=0.05, delta=0.05) is None
    with pytest.raises(ConfigError):
        least_sure(episodes, [0.5] * 200, [True] * 200, alpha=0.0, delta=0.05)
