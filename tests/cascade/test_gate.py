from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cascade.decided_steps import PLAN, STUDENT, TEACHER, Fixed, shown, step_after, voted
from tests.deliberations import Shelf, decided, deliberator, thought, words

from tutelage.cascade.agreement import Unanimous
from tutelage.cascade.always_student import AlwaysStudent
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.features import StepDescriber
from tutelage.cascade.gate import Gate
from tutelage.cascade.paper import Paper
from tutelage.cascade.routing import Radius, Routed
from tutelage.cascade.scores import IsotonicScore
from tutelage.runtime.ledger import Ledger
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.pipeline import Runtime
from tutelage.runtime.pricing import Price
from tutelage.runtime.protocols import DeferralPolicy
from tutelage.runtime.store.memory import MemoryTraceStore
from tutelage.runtime.types import (
    Agreement,
    Decision,
    Mode,
    Reason,
    Retrieved,
    SamplePlan,
    Step,
)

FORM = TextCanonicalizer()
STEP = step_after()
PRIOR = IsotonicScore("similarity", (0.0, 1.0), (0.0, 1.0), missing_rate=0.25)


def gate(policy: DeferralPolicy | None = None, floor: float = 0.5) -> Gate:
    return Gate(policy or Fixed(STUDENT), StepDescriber(FORM), PRIOR, floor)


@given(similarity=st.floats(0, 1), floor=st.floats(0, 1))
def test_the_student_is_asked_from_the_floor_on(similarity: float, floor: float) -> None:
    planned = gate(floor=floor).plan(STEP, [shown("look", similarity)])
    if similarity >= floor:
        assert planned == PLAN
    else:
        assert planned == Decision(served="teacher", reason=Reason.UNLIKELY, score=similarity)


def test_the_plan_waits_for_the_demonstrations() -> None:
    assert gate().plan(STEP) == dataclasses.replace(PLAN, waits=True)


@pytest.mark.parametrize("decision", [TEACHER, STUDENT])
def test_a_decision_of_the_policy_waits_for_nothing_and_stands(decision: Decision) -> None:
    made = gate(Fixed(plan=decision), floor=1.0)
    assert made.plan(STEP) == made.plan(STEP, [shown("look", 0.1)]) == decision


def test_a_step_without_demonstrations_has_the_prior_of_such_steps() -> None:
    assert gate(floor=0.25).plan(STEP, []) == PLAN
    unlikely = Decision(served="teacher", reason=Reason.UNLIKELY, score=0.25)
    assert gate(floor=0.26).plan(STEP, []) == unlikely


def test_the_prior_sees_what_the_episode_was_like() -> None:
    deferring = IsotonicScore("deferrals", (0.0, 1.0), (0.9, 0.9), missing_rate=0.0)
    made = Gate(Fixed(STUDENT), StepDescriber(FORM), deferring, 0.5)
    assert made.plan(step_after("teacher", "student"), []) == PLAN


def test_what_was_sampled_is_the_policys() -> None:
    policy = Fixed(TEACHER)
    assert gate(policy, floor=1.0).decide(STEP, voted("look"), [shown("look", 0.1)]) == TEACHER
    assert policy.asked == ["decide"]


def test_the_gate_comes_before_a_recall() -> None:
    made = Routed(gate(floor=0.95), FORM, recall=Radius(0.8), recall_mutating=True)
    both = [shown("look", 0.9), shown("look", 0.9)]
    planned = made.plan(STEP, both)
    assert isinstance(planned, Decision)
    assert planned.reason is Reason.UNLIKELY
    opened = Routed(gate(floor=0.85), FORM, recall=Radius(0.8), recall_mutating=True)
    assert opened.plan(STEP, both) == SamplePlan(1, recalled="look", votes=(2, 2))


# Through a deliberation: the shelf's demonstration has the score 0.9.


@pytest.mark.parametrize(
    ("mode", "floor", "expected", "calls"),
    [
        ("cascade", 0.95, ("teacher", Reason.UNLIKELY), 0),
        ("cascade", 0.85, ("student", Reason.AGREED), 1),
        ("route", 0.95, ("teacher", Reason.UNLIKELY), 0),
        # What was calibrated on votes is not decided without them.
        ("route", 0.85, ("teacher", Reason.UNDECIDED), 0),
    ],
)
async def test_below_the_floor_no_sample_is_paid_for(
    mode: Mode, floor: float, expected: tuple[str, Reason], calls: int
) -> None:
    student, shelf = ScriptedModel("sweep"), Shelf()
    made = deliberator(student, retriever=shelf, policy=gate(Paper(), floor))
    assert await decided(made, thought(mode)) == expected
    assert (shelf.asked, len(student.calls)) == (1, calls)


@pytest.mark.parametrize("mode", ["cascade", "route"])
@pytest.mark.parametrize(
    ("floor", "expected"),
    [(0.85, ("student", Reason.ALWAYS)), (0.95, ("teacher", Reason.UNLIKELY))],
)
async def test_the_gate_stands_before_a_policy_that_needs_no_votes(
    floor: float, expected: tuple[str, Reason], mode: Mode
) -> None:
    policy = gate(AlwaysStudent(), floor)
    made = deliberator(ScriptedModel("sweep"), retriever=Shelf(), policy=policy)
    assert await decided(made, thought(mode)) == expected


async def test_a_forced_student_is_asked_below_the_floor() -> None:
    student = ScriptedModel("sweep")
    made = deliberator(student, retriever=Shelf(), policy=gate(Paper(), 0.95))
    assert await decided(made, thought(), "student") == ("student", Reason.FORCED)
    (call,) = student.calls
    assert (call.n, call.request.temperature) == (1, 0.0)


@pytest.mark.parametrize(
    ("floor", "reason", "calls"), [(0.95, Reason.UNLIKELY, 0), (0.85, Reason.AGREED, 1)]
)
async def test_aside_the_student_is_not_asked_below_the_floor_either(
    floor: float, reason: Reason, calls: int
) -> None:
    student, traces = ScriptedModel("sweep"), MemoryTraceStore()
    runtime = Runtime(
        teacher=ScriptedModel("open the door"),
        student=student,
        retriever=Shelf(),
        policy=gate(Paper(), floor),
        agreement=Unanimous(FORM),
        traces=traces,
        ledger=Ledger({"teacher": Price(10, 20), "student": Price(1, 2)}),
        count_tokens=words,
    )
    answer = await runtime.complete(thought().request, mode="shadow")
    await runtime.aclose()
    assert (answer.text, answer.decision.served) == ("open the door", "teacher")
    (trace,) = await traces.traces("default")
    assert trace.shadow is not None
    assert trace.shadow.reason is reason
    assert len(student.calls) == calls


async def test_a_prior_that_fails_leaves_the_step_to_the_teacher() -> None:
    class Odd:
        def describe(
            self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
        ) -> Mapping[str, float]:
            raise ValueError("shapes (768,) and (512,) not aligned")

    student = ScriptedModel("sweep")
    made = deliberator(student, retriever=Shelf(), policy=Gate(Paper(), Odd(), PRIOR, 0.5))
    assert await decided(made, thought()) == ("teacher", Reason.POLICY_FAILED)
    assert student.calls == []
