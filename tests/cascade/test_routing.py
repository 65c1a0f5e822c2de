from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cascade.decided_steps import (
    PLAN,
    STUDENT,
    TEACHER,
    UNUSABLE,
    Fixed,
    shown,
    step_after,
    voted,
)

from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.canonical.tool_canonicalizer import ToolCanonicalizer
from tutelage.cascade.guards.composition import GUARDS, GuardOptions, guarded
from tutelage.cascade.guards.tools import ToolGuard
from tutelage.cascade.routing import Radius, Routed, most_shown
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import (
    Action,
    Agreement,
    Decision,
    Message,
    Reason,
    Retrieved,
    SamplePlan,
    Step,
    Turn,
)

FORM = TextCanonicalizer()
STEP = step_after()
NEAR = Radius(0.8, votes=2)


def routed(policy: Any = None, **options: Any) -> Routed:
    return Routed(policy or Fixed(STUDENT), FORM, **options)


def recalled(key: str, votes: int = 2) -> Agreement:
    return dataclasses.replace(voted(key, votes, votes), recalled=True)


def test_the_plan_waits_for_the_demonstrations() -> None:
    assert routed(coverage=0.5).plan(STEP) == dataclasses.replace(PLAN, waits=True)


def test_a_decision_of_the_policy_waits_for_nothing() -> None:
    made = routed(Fixed(plan=TEACHER), coverage=0.5, recall=NEAR)
    assert made.plan(STEP) == made.plan(STEP, [shown("look")]) == TEACHER


@pytest.mark.parametrize(
    ("demonstrations", "score"), [([shown("look", 0.4), shown("look", 0.3)], 0.4), ([], None)]
)
def test_what_no_demonstration_covers_is_the_teachers(
    demonstrations: list[Retrieved], score: float | None
) -> None:
    expected = Decision(served="teacher", reason=Reason.UNCOVERED, score=score)
    assert routed(coverage=0.5).plan(STEP, demonstrations) == expected


def test_what_is_covered_is_the_policys() -> None:
    made = routed(coverage=0.5)
    assert made.plan(STEP, [shown("look", 0.2), shown("open", 0.5)]) == PLAN
    assert routed(recall=NEAR, easy=NEAR).plan(STEP, []) == PLAN
    assert made.decide(STEP, voted("look"), [shown("look", 0.5)]) == STUDENT


def test_what_all_demonstrations_show_is_recalled() -> None:
    made = routed(recall=NEAR, recall_mutating=True)
    plan = made.plan(STEP, [shown("Open the drawer 1.", 0.7), shown("open drawer 1", 0.9)])
    assert plan == SamplePlan(1, recalled="open drawer 1", votes=(2, 2))


@pytest.mark.parametrize(
    "demonstrations",
    [
        [shown("look", 0.79), shown("look", 0.79)],
        [shown("look", 0.9)],
        [shown("look", 0.9), shown("look", 0.9), shown("open", 0.1)],
        [shown("look", 0.9), shown("look", 0.9), shown("", 0.1)],
    ],
)
def test_nothing_is_recalled_outside_the_radius_or_without_unanimity(
    demonstrations: list[Retrieved],
) -> None:
    made = routed(recall=NEAR, easy=NEAR, recall_mutating=True)
    assert made.plan(STEP, demonstrations) == PLAN


def test_only_what_is_known_to_read_is_recalled_unless_it_is_said_otherwise() -> None:
    both = [shown("look", 0.9), shown("look", 0.8)]
    only_look = {"is_mutating": lambda action: action.key != "look"}
    assert routed(recall=NEAR).plan(STEP, both) == PLAN
    planned = routed(recall=NEAR, **only_look).plan(STEP, both)
    assert isinstance(planned, SamplePlan)
    assert planned.recalled == "look"
    opening = [shown("open", 0.9), shown("open", 0.8)]
    assert routed(recall=NEAR, **only_look).plan(STEP, opening) == PLAN


def test_a_recalled_action_is_the_students() -> None:
    made = routed(Fixed(TEACHER), recall=NEAR, recall_mutating=True)
    decision = made.decide(STEP, recalled("look"), [shown("look"), shown("Look!")])
    assert decision == Decision(served="student", reason=Reason.RECALLED, score=1.0)


@pytest.mark.parametrize(
    ("agreement", "demonstrations"),
    [
        (recalled("look"), [shown("open"), shown("open")]),
        (recalled("look"), []),
        (dataclasses.replace(UNUSABLE, recalled=True), [shown("look")]),
    ],
)
def test_a_recall_that_became_something_else_is_the_teachers(
    agreement: Agreement, demonstrations: list[Retrieved]
) -> None:
    made = routed(recall=NEAR, recall_mutating=True)
    assert made.decide(STEP, agreement, demonstrations).reason is Reason.UNUSABLE


def test_guards_veto_what_is_recalled() -> None:
    made = guarded(
        routed(recall=NEAR, recall_mutating=True), GUARDS, GuardOptions(canonicalizer=FORM)
    )
    both = [shown("look"), shown("look")]
    again = Step("t", "e", 1, "g", "o", (Turn("o", "look", "student"),))
    assert made.decide(again, recalled("look"), both).reason is Reason.LOOP
    refused = step_after("student", now="Nothing happens.")
    assert made.plan(refused, both) == Decision(served="teacher", reason=Reason.REJECTED)


def test_the_tool_guard_vetoes_what_is_recalled() -> None:
    made = ToolGuard(routed(recall=NEAR, recall_mutating=True))
    text = '{"tool_calls":[{"name":"wipe","arguments":"{}"}]}'
    call = {"id": "c", "type": "function", "function": {"name": "wipe", "arguments": "{}"}}
    action = FORM.past(text)
    assert action is not None
    agreement = Agreement(
        votes=((action, 2),),
        samples=2,
        chosen=0,
        agreed=True,
        recalled=True,
        answer=Message(role="assistant", tool_calls=[call]),
    )
    decision = made.decide(STEP, agreement, [shown(text), shown(text)])
    assert (decision.served, decision.reason, decision.detail) == (
        "teacher",
        Reason.UNKNOWN_TOOL,
        "wipe",
    )


def test_within_the_easy_radius_one_sample_is_enough() -> None:
    made = routed(easy=NEAR)
    both = [shown("look", 0.9), shown("look", 0.7)]
    assert made.plan(STEP, both) == SamplePlan(1, 0.0)
    assert made.decide(STEP, voted("look", 1, 1), both) == Decision(
        served="student", reason=Reason.AGREED, score=1.0
    )
    assert made.decide(STEP, voted("open", 1, 1), both) == Decision(
        served="teacher", reason=Reason.DISAGREED, score=0.0
    )
    unusable = dataclasses.replace(UNUSABLE, samples=1)
    assert made.decide(STEP, unusable, both).reason is Reason.UNUSABLE


def test_more_samples_or_less_likeness_leave_the_decision_to_the_policy() -> None:
    made = routed(Fixed(TEACHER), easy=NEAR)
    both = [shown("look", 0.9), shown("look", 0.7)]
    assert made.decide(STEP, voted("look"), both) == TEACHER
    far = [shown("look", 0.1), shown("look", 0.1)]
    assert made.decide(STEP, voted("look", 1, 1), far) == TEACHER
    assert made.decide(STEP, voted("look", 1, 1), []) == TEACHER


def test_recall_comes_before_the_easy_sample() -> None:
    both = [shown("look", 0.9), shown("look", 0.9)]
    made = routed(recall=Radius(0.9), easy=Radius(0.5), recall_mutating=True)
    planned = made.plan(STEP, both)
    assert isinstance(planned, SamplePlan)
    assert planned.recalled == "look"
    further = [shown("look", 0.6), shown("look", 0.6)]
    assert made.plan(STEP, further) == SamplePlan(1, 0.0)


def test_nothing_is_shown_by_unusable_demonstrations() -> None:
    assert most_shown(FORM, []) is None
    assert most_shown(FORM, [shown(""), shown(" ")]) is None
    assert routed(recall=NEAR, coverage=0.1).plan(STEP, [shown("")]) == PLAN


@given(st.permutations([("look", 0.5), ("open", 0.9), ("Look.", 0.7), ("open", 0.6), ("", 0.95)]))
def test_of_equals_the_better_scored_is_shown_in_any_order(
    demonstrations: list[tuple[str, float]],
) -> None:
    found = most_shown(FORM, [shown(action, score) for action, score in demonstrations])
    assert found is not None
    assert (found.action, found.text) == (Action("text", "open"), "open")
    assert (found.votes, found.demonstrations, found.is_unanimous) == (2, 5, False)


def test_demonstrations_are_compared_by_the_tools_of_the_step() -> None:
    parameters = {"type": "object", "properties": {"n": {"type": "integer", "default": 3}}}
    tools = ({"type": "function", "function": {"name": "f", "parameters": parameters}},)
    both = [
        shown(f'{{"tool_calls":[{{"name":"f","arguments":"{text}"}}]}}', score)
        for text, score in (("{}", 0.95), (r"{\"n\":3}", 0.9))
    ]
    form = ToolCanonicalizer(FORM)
    made = Routed(Fixed(STUDENT), form, recall=NEAR, recall_mutating=True)
    step = dataclasses.replace(STEP, tools=tools)
    assert made.plan(STEP, both) == PLAN
    planned = made.plan(step, both)
    assert planned == SamplePlan(1, recalled=both[0].demonstration.action, votes=(2, 2))
    action = form.for_tools(tools).past(both[1].demonstration.action)
    assert action is not None
    agreement = Agreement(votes=((action, 2),), samples=2, chosen=0, agreed=True, recalled=True)
    assert made.decide(step, agreement, both).reason is Reason.RECALLED
    assert made.decide(STEP, agreement, both).reason is Reason.UNUSABLE


def test_one_demonstration_alone_is_no_agreement() -> None:
    with pytest.raises(ConfigError, match="votes = 1"):
        Radius(0.8, votes=1)
