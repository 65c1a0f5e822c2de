from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.deliberations import Failing, Hanging, Shelf, decided, deliberator, thought, words

from tutelage.cascade.always_student import AlwaysStudent
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.guards.loop import LoopGuard
from tutelage.cascade.holdout import Holdout
from tutelage.cascade.paper import Paper
from tutelage.runtime.deliberation import Deliberation, Deliberator
from tutelage.runtime.errors import BadResponse, RetrievalError
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.prompt import PromptSettings
from tutelage.runtime.protocols import DeferralPolicy
from tutelage.runtime.types import (
    Agreement,
    Decision,
    Reason,
    Retrieved,
    SamplePlan,
    Step,
    Turn,
    Usage,
)

UNAIDED = PromptSettings(unaided_first=True)
SPLIT = ["go", "stay", "go"]


class Describing:
    """Tells how many demonstrations it was shown."""

    def describe(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Mapping[str, float]:
        return {"shown": float(len(demonstrations))}


class Once(Paper):
    """Draws one sample, or sees demonstrations before it plans."""

    def __init__(self, plan: SamplePlan) -> None:
        super().__init__()
        self.planned = plan

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        return self.planned if demonstrations is None else replace(self.planned, waits=False)


def asking(student: Any, shelf: Shelf, **parts: Any) -> Deliberator:
    parts = {"describer": Describing(), **parts}
    return deliberator(student, retriever=shelf, prompt=UNAIDED, **parts)


def shows(call: Any) -> bool:
    return any("A hall." in message.text for message in call.request.messages)


def features(about: Deliberation) -> Mapping[str, float]:
    assert about.agreement is not None
    return about.agreement.features


async def test_samples_that_agree_without_demonstrations_are_the_answer() -> None:
    student, shelf, about = ScriptedModel("go"), Shelf(), thought()
    assert await decided(asking(student, shelf), about) == ("student", Reason.AGREED)
    (call,) = student.calls
    assert (call.n, shows(call), shelf.asked) == (3, False, 0)
    assert (about.demonstrations, about.near) == ((), ())
    assert features(about) == {"shown": 0.0, "unaided": 1.0, "unaided_agreement": 1.0}
    assert len(about.samples) == 3


async def test_samples_that_differ_are_drawn_again_with_demonstrations() -> None:
    usage = Usage(input_tokens=10, cache_read_tokens=4, output_tokens=3)
    student, shelf = ScriptedModel([SPLIT, ["go"]], usage=usage), Shelf()
    about = thought()
    assert await decided(asking(student, shelf), about) == ("student", Reason.AGREED)
    assert [shows(call) for call in student.calls] == [False, True]
    assert about.student_usage(words) == usage + usage
    assert [one.demonstration.id for one in about.demonstrations] == ["d:0"]
    assert features(about) == {
        "shown": 1.0,
        "unaided": 0.0,
        "unaided_agreement": pytest.approx(2 / 3),
        "unaided_same": 1.0,
    }
    assert [sample.text for sample in about.samples] == ["go"] * 3
    assert {"unaided", "student"} <= set(about.latency_s)


async def test_what_both_kinds_of_samples_name_is_compared() -> None:
    about = thought()
    await decided(asking(ScriptedModel([SPLIT, ["stay"]]), Shelf()), about)
    assert features(about)["unaided_same"] == 0.0


async def test_without_the_switch_nothing_is_asked_unaided() -> None:
    student, about = ScriptedModel("go"), thought()
    made = deliberator(student, retriever=Shelf(), describer=Describing())
    await decided(made, about)
    assert [shows(call) for call in student.calls] == [True]
    assert features(about) == {"shown": 1.0}


async def test_a_guard_that_refuses_the_unaided_action_leaves_the_step_to_the_other() -> None:
    about = thought()
    turns = tuple(Turn("A room.", "go", "student") for _ in range(3))
    about.step = replace(about.step, history=turns, index=3, observation="A room.")
    student = ScriptedModel([["go"], ["sweep"]])
    policy: DeferralPolicy = LoopGuard(Paper(), TextCanonicalizer())
    assert await decided(asking(student, Shelf(), policy=policy), about) == (
        "student",
        Reason.AGREED,
    )
    assert [sample.text for sample in about.samples] == ["sweep"] * 3


async def test_an_episode_that_is_held_out_asks_nobody() -> None:
    student, shelf = ScriptedModel("go"), Shelf()
    about = thought()
    made = asking(student, shelf, policy=Holdout(Paper(), 0.999))
    assert await decided(made, about) == ("teacher", Reason.HOLDOUT)
    assert (student.calls, shelf.asked) == ([], 0)


async def test_the_chance_of_the_holdout_stands_in_an_unaided_decision() -> None:
    about = thought()
    await decided(asking(ScriptedModel("go"), Shelf(), policy=Holdout(Paper(), 0.001)), about)
    assert (about.decision.served, about.decision.propensity) == ("student", 0.999)


@pytest.mark.parametrize(
    "policy", [Once(SamplePlan(1)), Once(SamplePlan(3, recalled="sweep", waits=True))]
)
async def test_where_no_samples_vote_there_is_nothing_to_ask_first(policy: Paper) -> None:
    student, shelf, about = ScriptedModel("go"), Shelf(), thought()
    await decided(asking(student, shelf, policy=policy), about)
    assert shelf.asked == 1
    assert all(shows(call) for call in student.calls)


async def test_a_policy_that_needs_no_sample_is_shown_demonstrations() -> None:
    student, shelf, about = ScriptedModel("go"), Shelf(), thought()
    await decided(asking(student, shelf, policy=AlwaysStudent()), about)
    assert [shows(call) for call in student.calls] == [True]


async def test_without_demonstrations_to_save_the_student_is_asked_once() -> None:
    student = ScriptedModel([SPLIT, ["go"]])
    about = thought()
    made = deliberator(student, prompt=UNAIDED)
    assert await decided(made, about) == ("teacher", Reason.DISAGREED)
    assert len(student.calls) == 1


async def test_what_was_found_for_the_plan_is_not_looked_for_again() -> None:
    student, shelf, about = ScriptedModel([SPLIT, ["go"]]), Shelf(), thought()
    made = asking(student, shelf, policy=Once(SamplePlan(3, waits=True)))
    assert await decided(made, about) == ("student", Reason.AGREED)
    assert shelf.asked == 1
    assert [shows(call) for call in student.calls] == [False, True]
    assert len(about.near) == 1


async def test_unaided_tokens_count_where_retrieval_then_fails() -> None:
    usage = Usage(input_tokens=10, output_tokens=3)
    student, about = ScriptedModel([SPLIT], usage=usage), thought()
    made = asking(student, Shelf(error=RetrievalError("the bank is gone")))
    assert await decided(made, about) == ("teacher", Reason.RETRIEVAL_FAILED)
    assert about.student_usage(words) == usage
    assert about.estimated == set()


async def test_unaided_tokens_count_where_the_second_call_fails() -> None:
    usage = Usage(input_tokens=10, output_tokens=3)
    student = ScriptedModel([SPLIT], usage=usage, failures={1: BadResponse("broken")})
    about = thought()
    assert await decided(asking(student, Shelf()), about) == ("teacher", Reason.STUDENT_FAILED)
    assert about.student_usage(words) == usage


async def test_a_student_that_fails_unaided_is_not_asked_again() -> None:
    student, shelf = ScriptedModel("go", failures={0: BadResponse("broken")}), Shelf()
    about = thought()
    assert await decided(asking(student, shelf), about) == ("teacher", Reason.STUDENT_FAILED)
    assert (len(student.calls), shelf.asked, about.student_usage(words)) == (1, 0, None)


async def test_unaided_samples_that_are_given_up_are_counted_with_their_own_prompt() -> None:
    usage = Usage(input_tokens=10, output_tokens=1)
    student = ScriptedModel([["go"], ["stay"], ["go"]], usage=usage)
    plan = Paper(samples=3, draw="sequential")
    about = thought()
    made = asking(student, Shelf(error=RetrievalError("gone")), policy=plan)
    await decided(made, about)
    # The second sample settles that they differ.
    assert about.student_usage(words) == usage + usage


async def test_a_late_retrieval_leaves_the_step_to_the_teacher_with_the_unaided_tokens() -> None:
    usage = Usage(input_tokens=10, output_tokens=3)
    student, about = ScriptedModel([SPLIT], usage=usage), thought()
    made = deliberator(student, retriever=Hanging(), prompt=UNAIDED, student_deadline_s=0.05)
    assert await decided(made, about) == ("teacher", Reason.STUDENT_LATE)
    assert about.student_usage(words) == usage


async def test_a_policy_that_fails_leaves_the_step_to_the_teacher() -> None:
    student, about = ScriptedModel("go"), thought()
    made = asking(student, Shelf(), policy=Failing(ValueError("shapes")))
    assert await decided(made, about) == ("teacher", Reason.POLICY_FAILED)
    assert len(student.calls) == 2
