from __future__ import annotations

import dataclasses

import pytest
from tests.cascade.decided_steps import (
    PLAN,
    STUDENT,
    TEACHER,
    UNSAMPLED,
    UNUSABLE,
    Fixed,
    step_after,
    voted,
)

from tutelage.cascade.always_teacher import AlwaysTeacher
from tutelage.cascade.episode_budget import EpisodeBudget, EpisodeLimits
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Decision, Reason, SamplePlan, Step

SPENT = EpisodeLimits(deferrals=0)
FREE = EpisodeLimits()


@pytest.mark.parametrize(
    ("limits", "step", "expected"),
    [
        (EpisodeLimits(), step_after("teacher", "teacher"), False),
        (EpisodeLimits(steps=2), step_after("student"), False),
        (EpisodeLimits(steps=2), step_after("student", "student"), True),
        (EpisodeLimits(deferrals=2), step_after("teacher", "student", None), False),
        (EpisodeLimits(deferrals=2), step_after("teacher", "student", "teacher"), True),
        (EpisodeLimits(cost_usd=0.5), step_after(), False),
        (EpisodeLimits(cost_usd=0.5), dataclasses.replace(step_after(), spent_usd=0.5), True),
        (EpisodeLimits(cost_usd=0.0), step_after(), True),
        (EpisodeLimits(cost_usd=9.0, steps=9, deferrals=1), step_after("teacher"), True),
    ],
)
def test_each_limit_ends_the_teachers_share(
    limits: EpisodeLimits, step: Step, expected: bool
) -> None:
    assert limits.are_spent(step) is expected


def test_within_the_budget_the_policy_decides() -> None:
    for policy in (Fixed(STUDENT), Fixed(TEACHER, TEACHER)):
        budget = EpisodeBudget(policy, FREE)
        assert budget.plan(step_after()) == policy.planned
        assert budget.decide(step_after(), voted("look"), []) == policy.decision


def test_beyond_it_the_student_is_asked_once_where_the_teacher_was_wanted() -> None:
    budget = EpisodeBudget(AlwaysTeacher(), SPENT)
    assert budget.plan(step_after()) == SamplePlan(1, 0.0)
    decision = budget.decide(step_after(), voted("look", 1, 1), [])
    assert decision == Decision(served="student", reason=Reason.BUDGET)


def test_beyond_it_the_students_own_steps_stay_as_they_are() -> None:
    budget = EpisodeBudget(Fixed(STUDENT), SPENT)
    assert budget.plan(step_after()) == PLAN
    assert budget.decide(step_after(), voted("look"), []) == STUDENT


def test_the_score_of_the_policy_is_kept() -> None:
    decision = EpisodeBudget(Fixed(TEACHER), SPENT).decide(step_after(), voted("look"), [])
    assert decision == Decision(served="student", reason=Reason.BUDGET, score=TEACHER.score)


def test_the_teacher_still_takes_a_step_for_which_the_student_has_no_action() -> None:
    assert EpisodeBudget(Fixed(TEACHER), SPENT).decide(step_after(), UNUSABLE, []) == TEACHER


def test_a_step_that_is_decided_without_samples_is_within_the_budget_too() -> None:
    decision = EpisodeBudget(Fixed(TEACHER), SPENT).decide(step_after(), UNSAMPLED, [])
    assert (decision.served, decision.reason) == ("student", Reason.BUDGET)


@pytest.mark.parametrize("name", ["cost_usd", "steps", "deferrals"])
def test_a_limit_below_nothing_is_one_clear_line(name: str) -> None:
    with pytest.raises(ConfigError, match=f"episode {name} = -1: give 0 or more"):
        EpisodeLimits(**{name: -1})
