from __future__ import annotations

import json
from typing import Any

import pytest

from tutelage.cascade.always_student import AlwaysStudent
from tutelage.cascade.guards.arguments import ArgumentCheck
from tutelage.cascade.guards.form import broken_demand
from tutelage.cascade.guards.tools import ToolGuard
from tutelage.cascade.paper import Paper
from tutelage.runtime.answer_form import AnswerForm
from tutelage.runtime.types import Action, Agreement, Decision, Message, Reason, Step

WHERE = {"type": "object", "properties": {"Where": {"type": "string"}}, "required": ["Where"]}
NO_CALL: tuple[str, ...] = ()
CHECK = ArgumentCheck()


def said(text: str) -> Message:
    return Message(role="assistant", content=text)


@pytest.mark.parametrize(
    ("form", "text", "called", "broken"),
    [
        (AnswerForm(must_call=True), "go", NO_CALL, "tool_choice"),
        (AnswerForm(must_call=True), "", ("walk",), None),
        (AnswerForm(callable=frozenset()), "go", NO_CALL, None),
        (AnswerForm(callable=frozenset()), "", ("walk",), "tool_choice"),
        (AnswerForm(callable=frozenset({"run"})), "", ("walk",), "tool_choice"),
        (AnswerForm(callable=frozenset({"run"})), "", ("run", "walk"), "tool_choice"),
        (AnswerForm(callable=frozenset({"run"})), "go", NO_CALL, None),
        (AnswerForm(most_calls=1), "", ("walk",), None),
        (AnswerForm(most_calls=1), "", ("walk", "walk"), "parallel_tool_calls"),
        (AnswerForm(is_json=True), "go", NO_CALL, "response_format"),
        (AnswerForm(is_json=True), "", NO_CALL, "response_format"),
        (AnswerForm(is_json=True), '{"a": 1}', NO_CALL, None),
        (AnswerForm(is_json=True), "[1]", NO_CALL, "response_format"),
        (AnswerForm(is_json=True), '{"a": NaN}', NO_CALL, "response_format"),
        (AnswerForm(is_json=True), '{"a": 1, "a": 2}', NO_CALL, "response_format"),
        (AnswerForm(is_json=True), '```json\n{"a": 1}\n```', NO_CALL, "response_format"),
        (AnswerForm(is_json=True), "[" * 100_000, NO_CALL, "response_format"),
        (AnswerForm(is_json=True), "go", ("walk",), None),
        (AnswerForm(is_json=True, schema={}), "[1]", NO_CALL, None),
        (AnswerForm(is_json=True, schema=WHERE), '{"Where": "desk 1"}', NO_CALL, None),
        (AnswerForm(is_json=True, schema=WHERE), '{"where": "desk 1"}', NO_CALL, "response_format"),
        (AnswerForm(is_json=True, schema=WHERE), '{"Where": 1}', NO_CALL, "response_format"),
        (AnswerForm(unknown="tool_choice"), "go", NO_CALL, "tool_choice"),
    ],
)
def test_an_answer_is_held_to_what_is_demanded(
    form: AnswerForm, text: str, called: tuple[str, ...], broken: str | None
) -> None:
    assert broken_demand(form, said(text), called, CHECK) == broken


def agreed(answer: Message | None, modal: Action | None = None) -> Agreement:
    modal = modal or Action("text", "go")
    return Agreement(votes=((modal, 3),), samples=3, chosen=0, agreed=True, answer=answer)


def step(form: AnswerForm | None, *names: str) -> Step:
    tools = tuple({"type": "function", "function": {"name": name}} for name in names)
    return Step("t", "e", 0, "g", "o", tools=tools, form=form)


def call(name: str, arguments: Any = "{}") -> Message:
    function = {"name": name, "arguments": arguments}
    return Message(role="assistant", tool_calls=[{"type": "function", "function": function}])


@pytest.mark.parametrize("policy", [Paper(), AlwaysStudent()])
def test_a_text_is_no_answer_where_a_call_is_due(policy: Any) -> None:
    asked = step(AnswerForm(must_call=True), "walk")
    assert ToolGuard(policy).decide(asked, agreed(said("go")), []) == Decision(
        served="teacher",
        reason=Reason.WRONG_FORM,
        score=policy.decide(asked, agreed(said("go")), []).score,
        detail="tool_choice",
    )


def test_the_sample_itself_is_judged_and_not_its_canonical_form() -> None:
    asked = step(AnswerForm(is_json=True, schema=WHERE))
    agreement = agreed(said('{"Where": "desk 1"}'), Action("text", '{"where": "desk 1"}'))
    assert ToolGuard(Paper()).decide(asked, agreement, []).served == "student"


def test_a_canonical_form_stands_for_a_sample_that_is_not_at_hand() -> None:
    calls = json.dumps({"tool_calls": [{"name": "walk", "arguments": {}}]})
    asked = step(AnswerForm(must_call=True, callable=frozenset({"run"})), "walk", "run")
    decision = ToolGuard(Paper()).decide(asked, agreed(None, Action("tool", calls)), [])
    assert (decision.reason, decision.detail) == (Reason.WRONG_FORM, "tool_choice")
    decision = ToolGuard(Paper()).decide(asked, agreed(None), [])
    assert (decision.reason, decision.detail) == (Reason.WRONG_FORM, "tool_choice")


def test_nothing_is_objected_to_before_anything_is_said() -> None:
    nothing = Agreement(votes=(), samples=0, chosen=None, agreed=False)
    asked = step(AnswerForm(must_call=True), "walk")
    assert ToolGuard(AlwaysStudent()).decide(asked, nothing, []).served == "student"


def test_a_demand_in_unknown_words_is_the_teachers_before_anybody_is_sampled() -> None:
    plan = ToolGuard(Paper()).plan(step(AnswerForm(unknown="response_format")))
    assert plan == Decision(served="teacher", reason=Reason.UNSUPPORTED, detail="response_format")


@pytest.mark.parametrize(
    "answer",
    [
        call("walk", "not JSON"),
        call("walk", "[]"),
        call("walk", 1),
        Message(role="assistant", tool_calls=[{"type": "function", "function": "walk"}]),
        Message(role="assistant", tool_calls=[{"type": "custom", "custom": {"name": "walk"}}]),
        Message.model_validate({"role": "assistant", "function_call": {"name": "walk"}}),
    ],
    ids=["no-json", "a-list", "a-number", "no-function", "custom", "old"],
)
def test_a_malformed_call_that_names_no_action_is_not_served(answer: Message) -> None:
    """The policy that never asks the teacher serves what it cannot compare, too."""
    unusable = Agreement(votes=(), samples=1, chosen=None, agreed=False, answer=answer)
    decision = ToolGuard(AlwaysStudent()).decide(step(None, "walk"), unusable, [])
    assert (decision.served, decision.reason) == ("teacher", Reason.UNKNOWN_TOOL)


def test_a_reserved_tool_cannot_be_called_with_arguments_that_are_not_json() -> None:
    unusable = Agreement(votes=(), samples=1, chosen=None, agreed=False, answer=call("pay", "{"))
    decision = ToolGuard(AlwaysStudent(), ["pay"]).decide(step(None, "pay"), unusable, [])
    assert (decision.reason, decision.detail) == (Reason.TEACHER_ONLY_TOOL, "pay")


def test_a_call_without_arguments_may_leave_them_empty() -> None:
    decision = ToolGuard(AlwaysStudent()).decide(step(None, "walk"), agreed(call("walk", " ")), [])
    assert decision.served == "student"


def test_the_guard_can_be_made_ready_before_the_first_call() -> None:
    guard = ToolGuard(AlwaysStudent())
    guard.prepare()
    assert guard.decide(step(None, "walk"), agreed(call("walk")), []).served == "student"
