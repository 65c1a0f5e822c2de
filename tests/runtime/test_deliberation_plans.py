from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
from tests.deliberations import Shelf, decided, deliberator, thought, words

from tutelage.cascade.agreement import Unanimous
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.paper import Paper
from tutelage.runtime.errors import ConfigError, RetrievalError, StoreError
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.prompt import PromptSettings
from tutelage.runtime.protocols import rule_for
from tutelage.runtime.types import (
    Action,
    Agreement,
    ChatRequest,
    Completion,
    Decision,
    Mode,
    Reason,
    Retrieved,
    SamplePlan,
    Step,
    Usage,
)


class Looking(Paper):
    """A policy that plans when it sees the demonstrations."""

    def __init__(self, *plans: SamplePlan | Decision) -> None:
        super().__init__()
        self.plans = list(plans)
        self.seen: list[Sequence[Retrieved] | None] = []

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        self.seen.append(demonstrations)
        return SamplePlan(3, waits=True) if demonstrations is None else self.plans.pop(0)

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        self.agreement = agreement
        return Decision(served="student", reason=Reason.AGREED, score=agreement.share)


@pytest.mark.parametrize("mode", ["cascade", "route"])
async def test_a_plan_that_waits_is_made_when_the_demonstrations_are_there(mode: Mode) -> None:
    student = ScriptedModel("go")
    uncovered = Decision(served="teacher", reason=Reason.UNDECIDED)
    policy = Looking(uncovered)
    shelf = Shelf()
    made = deliberator(student, retriever=shelf, policy=policy)
    assert await decided(made, thought(mode)) == ("teacher", Reason.UNDECIDED)
    assert [seen if seen is None else len(seen) for seen in policy.seen] == [None, 1]
    assert (shelf.asked, student.calls) == (1, [])


@pytest.mark.parametrize("error", [RetrievalError("no bank"), StoreError("gone")])
async def test_a_plan_that_waits_for_what_cannot_be_found_is_the_teachers(
    error: Exception,
) -> None:
    student, about = ScriptedModel("go"), thought()
    made = deliberator(student, retriever=Shelf(error=error), policy=Looking())
    assert await decided(made, about) == ("teacher", Reason.RETRIEVAL_FAILED)
    assert about.error == f"{type(error).__name__}: {error}"
    assert student.calls == []


@pytest.mark.parametrize("mode", ["cascade", "route"])
async def test_a_recalled_action_is_served_without_a_model(mode: Mode) -> None:
    student = ScriptedModel("go")
    policy = Looking(SamplePlan(3, recalled="sweep", votes=(2, 3)))
    made, about = deliberator(student, retriever=Shelf(), policy=policy), thought(mode)
    assert await decided(made, about) == ("student", Reason.AGREED)
    assert student.calls == []
    assert about.student_answer(words).text == "sweep"
    assert about.student_usage(words) == Usage()
    assert policy.agreement.recalled
    assert policy.agreement.votes == ((Action("text", "sweep"), 2),)
    assert about.decision.score == pytest.approx(2 / 3)


async def test_a_recalled_tool_call_is_a_tool_call_again() -> None:
    call = '{"tool_calls":[{"name":"walk","arguments":"{}"}]}'
    policy = Looking(SamplePlan(1, recalled=call, votes=(1, 1)))
    about = thought()
    await deliberator(ScriptedModel("go"), retriever=Shelf(), policy=policy).deliberate(about, None)
    choice = about.student_answer(words).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0]["function"] == {"name": "walk", "arguments": "{}"}


async def test_samples_one_by_one_stop_at_the_first_disagreement() -> None:
    student = ScriptedModel(["go", "look", "go", "go", "go"])
    about = thought()
    made = deliberator(student, policy=Paper(5, 0.7, "sequential"))
    assert await decided(made, about) == ("teacher", Reason.DISAGREED)
    assert len(student.calls) == len(about.samples) == 2
    assert about.lost_calls == 0


async def test_what_was_drawn_before_a_late_sample_is_paid_for() -> None:
    class Slow(ScriptedModel):
        async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
            if self.calls:
                await asyncio.Event().wait()
            return await super().complete(request, n)

    student = Slow("go", usage=Usage(input_tokens=10, output_tokens=1))
    about = thought()
    made = deliberator(student, policy=Paper(3, 0.7, "sequential"), student_deadline_s=0.05)
    assert await decided(made, about) == ("teacher", Reason.STUDENT_LATE)
    assert about.lost_calls == 1
    assert about.prompt is not None
    lost_tokens = sum(words(message.text) for message in about.prompt.messages)
    assert about.student_usage(words) == Usage(input_tokens=10 + lost_tokens, output_tokens=1)


async def test_log_probabilities_of_samples_are_not_shown_to_the_client() -> None:
    class Telling(ScriptedModel):
        async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
            made = await super().complete(request, n)
            told = [c.model_copy(update={"logprobs": {"content": []}}) for c in made.choices]
            return made.model_copy(update={"choices": told})

    about = thought()
    await deliberator(Telling("go")).deliberate(about, None)
    assert about.student_answer(words).choices[0].logprobs is None


async def test_ids_of_recalled_calls_are_never_the_same_in_a_conversation() -> None:
    two = '{"tool_calls":[{"name":"walk","arguments":"{}"},{"name":"look","arguments":"{}"}]}'
    ids: list[str] = []
    for name in ("0" * 32, "1" * 32):
        policy = Looking(SamplePlan(1, recalled=two, votes=(1, 1)))
        about = thought()
        about.id = name
        await deliberator(ScriptedModel("go"), retriever=Shelf(), policy=policy).deliberate(
            about, None
        )
        calls = about.student_answer(words).choices[0].message.tool_calls
        assert calls is not None
        ids += [call["id"] for call in calls]
    assert len(set(ids)) == 4
    # OpenAI takes 40 characters at most.
    assert max(map(len, ids)) <= 40


# What is told of a step.


class Describing:
    """Tells how many demonstrations it was shown, or has a fault."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def describe(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Mapping[str, float]:
        if self.error is not None:
            raise self.error
        return {"shown": float(len(demonstrations)), "agreement": agreement.share}


async def test_only_what_was_found_for_this_step_tells_of_it() -> None:
    policy = Looking(SamplePlan(3))
    made = deliberator(
        ScriptedModel("go"),
        retriever=Shelf("near"),
        pinned_retriever=Shelf("pinned"),
        prompt=PromptSettings(layout="pinned"),
        policy=policy,
        describer=Describing(),
    )
    about = thought()
    await made.deliberate(about, None)
    assert [one.demonstration.id for one in about.near] == ["near:0"]
    assert len(about.demonstrations) == 2
    assert policy.seen == [None, about.near]
    assert policy.agreement.features == {"shown": 1.0, "agreement": 1.0}


@pytest.mark.parametrize("error", [ValueError("shapes"), KeyError("k"), ConfigError("c")])
async def test_a_step_that_cannot_be_described_is_decided_without_features(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    about = thought()
    made = deliberator(ScriptedModel("go"), describer=Describing(error))
    assert await decided(made, about) == ("student", Reason.AGREED)
    assert about.agreement is not None
    assert about.agreement.features == {}
    assert about.error is None
    assert "a step cannot be described: " in caplog.text


async def test_log_probabilities_are_those_of_the_answer_that_is_served() -> None:
    class Telling(ScriptedModel):
        async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
            made = await super().complete(request, n)
            told: list[Any] = [
                {"content": [{"logprob": -0.5}]},
                {"content": [{"logprob": -1}, {"logprob": None}, {"logprob": math.inf}, "x"]},
                {"content": None},
            ]
            choices = [
                choice.model_copy(update={"logprobs": one})
                for choice, one in zip(made.choices, told, strict=True)
            ]
            return made.model_copy(update={"choices": choices})

    about = thought()
    await deliberator(Telling([["", "go", "go"]])).deliberate(about, None)
    assert about.agreement is not None
    assert (about.agreement.chosen, about.agreement.logprobs) == (1, (-1.0,))


async def test_samples_are_compared_by_the_tools_of_the_step() -> None:
    class Aware(Unanimous):
        asked: ClassVar[list[Any]] = []

        def for_tools(self, tools: Sequence[Mapping[str, Any]]) -> Unanimous:
            self.asked.append(tools)
            return Unanimous(TextCanonicalizer())

        def measure(self, choices: Any, planned: int | None = None) -> Agreement:
            raise AssertionError("the rule without tools was asked")

    tool = {"type": "function", "function": {"name": "walk"}}
    about = thought(tools=[tool])
    made = deliberator(ScriptedModel("go"), agreement=Aware(TextCanonicalizer()))
    assert await decided(made, about) == ("student", Reason.AGREED)
    assert {len(tools) for tools in Aware.asked} == {1}
    plain = Unanimous(TextCanonicalizer())
    assert rule_for(plain, [tool]) is plain
    aware = Aware(TextCanonicalizer())
    assert rule_for(aware, []) is aware
