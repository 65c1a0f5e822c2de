from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from tests.deliberations import (
    Failing,
    Hanging,
    Shelf,
    decided,
    deliberator,
    request,
    thought,
    words,
)

from tutelage.cascade.always_student import AlwaysStudent
from tutelage.cascade.always_teacher import AlwaysTeacher
from tutelage.cascade.guards.tools import ToolGuard
from tutelage.cascade.paper import Paper
from tutelage.cascade.random_mix import RandomMix
from tutelage.runtime.deliberation import (
    line,
    new_deliberation,
    unsupported,
)
from tutelage.runtime.errors import (
    BadResponse,
    ConfigError,
    IndexDamaged,
    RetrievalError,
    TutelageError,
)
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.prompt import PromptSettings
from tutelage.runtime.types import (
    Message,
    Mode,
    Reason,
    Usage,
)

WALK = {"type": "function", "function": {"name": "walk", "parameters": {"type": "object"}}}
WALKS = Message(
    role="assistant",
    tool_calls=[
        {"id": "1", "type": "function", "function": {"name": "walk", "arguments": "{}"}},
    ],
)


def test_nothing_is_known_of_a_new_deliberation_but_its_step() -> None:
    made = thought()
    assert (made.step.tenant, made.step.episode_id, made.step.goal) == ("acme", "e", "tidy.")
    assert (made.decision.served, made.student, made.samples) == ("teacher", None, ())
    assert made.student_usage(words) is None


# Who is asked.


async def test_a_call_that_is_passed_through_asks_nobody() -> None:
    student, shelf = ScriptedModel("go"), Shelf()
    made = deliberator(student, retriever=shelf)
    assert await decided(made, thought("passthrough")) == ("teacher", Reason.PASSTHROUGH)
    assert (student.calls, shelf.asked) == ([], 0)


@pytest.mark.parametrize("mode", ["cascade", "route"])
@pytest.mark.parametrize(
    ("student", "force", "reason"),
    [
        (ScriptedModel("go"), "teacher", Reason.FORCED),
        (None, None, Reason.ALWAYS),
        (None, "student", Reason.FORCED),
    ],
)
async def test_without_a_student_or_its_consent_the_teacher_serves(
    student: ScriptedModel | None, force: Any, reason: Reason, mode: Mode
) -> None:
    assert await decided(deliberator(student), thought(mode), force) == ("teacher", reason)
    assert student is None or student.calls == []


@pytest.mark.parametrize("force", [None, "student"])
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"messages": [{"role": "assistant", "content": "Well,"}]}, "messages"),
        ({"messages": []}, "messages"),
    ],
)
async def test_what_samples_cannot_honour_goes_to_the_teacher_even_if_the_student_is_forced(
    fields: dict[str, Any], named: str, force: Any
) -> None:
    student, about = ScriptedModel("go"), thought(**fields)
    assert await decided(deliberator(student), about, force) == ("teacher", Reason.UNSUPPORTED)
    assert (about.unsupported, student.calls) == (named, [])


async def test_what_the_wire_found_unsupported_stays_named() -> None:
    about = thought(n=2)
    about.unsupported = "web_search"
    assert await decided(deliberator(ScriptedModel("go")), about) == (
        "teacher",
        Reason.UNSUPPORTED,
    )
    assert about.unsupported == "web_search"


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1},
        {"n": None},
        {"logprobs": False},
        {"modalities": ["text"]},
        {"modalities": None},
        {"seed": 3, "user": "u"},
    ],
)
def test_what_samples_can_honour_is_supported(fields: dict[str, Any]) -> None:
    assert unsupported(request(**fields)) is None


# Mode cascade.


async def test_samples_that_agree_decide_for_the_student() -> None:
    student, about = ScriptedModel("go to desk 1"), thought()
    assert await decided(deliberator(student), about) == ("student", Reason.AGREED)
    assert about.agreement is not None
    assert about.agreement.share == 1.0
    assert [one.action for one in about.samples] == ["go to desk 1"] * 3
    assert set(about.latency_s) == {"retrieve", "render", "student", "agree"}


async def test_the_samples_are_no_stream_and_have_the_temperature_of_the_plan() -> None:
    student = ScriptedModel("go")
    await deliberator(student, policy=Paper(samples=4, temperature=0.2)).deliberate(
        thought(stream=True, temperature=1.5), None
    )
    (call,) = student.calls
    assert (call.n, call.request.temperature, call.request.stream) == (4, 0.2, None)


async def test_a_policy_that_is_sure_of_the_student_draws_one_cold_sample() -> None:
    student = ScriptedModel("go")
    made = deliberator(student, policy=AlwaysStudent())
    assert (await decided(made, thought()))[0] == "student"
    (call,) = student.calls
    assert call.n == 1


async def test_a_policy_that_is_sure_of_the_teacher_asks_nobody_else() -> None:
    student = ScriptedModel("go")
    made = deliberator(student, policy=AlwaysTeacher())
    assert await decided(made, thought()) == ("teacher", Reason.ALWAYS)
    assert student.calls == []


@pytest.mark.parametrize("policy", [AlwaysTeacher(), Paper(), RandomMix(p_teacher=1.0, seed=0)])
async def test_a_forced_student_serves_whatever_the_policy_says(policy: Any) -> None:
    made = deliberator(ScriptedModel([["a", "b", "c"]]), policy=policy)
    assert await decided(made, thought(), "student") == ("student", Reason.FORCED)


@pytest.mark.parametrize(
    ("tools", "reserved", "reason"),
    [([WALK], ["walk"], Reason.TEACHER_ONLY_TOOL), (None, [], Reason.UNKNOWN_TOOL)],
)
async def test_a_forced_student_may_call_no_tool_that_is_not_its_own(
    tools: Any, reserved: list[str], reason: Reason
) -> None:
    made = deliberator(ScriptedModel([WALKS] * 2), policy=ToolGuard(Paper(), reserved))
    assert await decided(made, thought(tools=tools), "student") == ("teacher", reason)


# Mode route.


async def test_a_routed_student_is_chosen_but_not_asked_yet() -> None:
    student, about = ScriptedModel("go"), thought("route")
    made = deliberator(student, policy=AlwaysStudent(), retriever=Shelf())
    assert (await decided(made, about))[0] == "student"
    assert (student.calls, about.student, about.agreement) == ([], None, None)
    assert about.prompt is not None
    assert about.streams_live


async def test_a_policy_that_needs_votes_routes_to_the_teacher() -> None:
    student = ScriptedModel("go")
    assert await decided(deliberator(student), thought("route")) == ("teacher", Reason.UNDECIDED)
    assert student.calls == []


@pytest.mark.parametrize(
    ("reserved", "expected"),
    [([], "student"), (["walk"], "teacher")],
)
async def test_a_routed_student_with_tools_is_heard_before_the_client_hears_it(
    reserved: list[str], expected: str
) -> None:
    student, about = ScriptedModel([WALKS]), thought("route", tools=[WALK])
    made = deliberator(student, policy=ToolGuard(AlwaysStudent(), reserved))
    assert (await decided(made, about))[0] == expected
    assert not about.streams_live
    assert len(student.calls) == 1


# What fails.


class Odd(TutelageError):
    """An error that has no name here."""


@pytest.mark.parametrize("mode", ["cascade", "route"])
@pytest.mark.parametrize(
    ("parts", "reason", "error"),
    [
        (
            {"retriever": Shelf(error=RetrievalError("no bank"))},
            Reason.RETRIEVAL_FAILED,
            "RetrievalError: no bank",
        ),
        (
            {"retriever": Shelf(error=IndexDamaged("a bit"))},
            Reason.RETRIEVAL_FAILED,
            "IndexDamaged: a bit",
        ),
        ({"retriever": Shelf(error=Odd("else"))}, Reason.STUDENT_FAILED, "Odd: else"),
        ({"policy": Failing(ValueError("v"), plans=True)}, Reason.POLICY_FAILED, "ValueError: v"),
        ({"policy": Failing(KeyError("k"))}, Reason.POLICY_FAILED, "KeyError: 'k'"),
        (
            {"policy": Failing(ZeroDivisionError("z"))},
            Reason.POLICY_FAILED,
            "ZeroDivisionError: z",
        ),
        ({"policy": Failing(ConfigError("c"))}, Reason.POLICY_FAILED, "ConfigError: c"),
    ],
)
async def test_what_fails_becomes_a_reason_for_the_teacher(
    mode: Mode, parts: dict[str, Any], reason: Reason, error: str
) -> None:
    about = thought(mode)
    made = deliberator(ScriptedModel("go"), **{"policy": AlwaysStudent(), **parts})
    if mode == "cascade" and "retriever" in parts:
        made = deliberator(ScriptedModel("go"), **parts)
    assert await decided(made, about) == ("teacher", reason)
    assert about.error == error


@pytest.mark.parametrize("force", [None, "student"])
async def test_a_failing_student_leaves_the_step_to_the_teacher_and_costs_nothing(
    force: Any,
) -> None:
    about = thought()
    student = ScriptedModel("go", failures={0: BadResponse("out of memory")})
    assert await decided(deliberator(student), about, force) == ("teacher", Reason.STUDENT_FAILED)
    assert about.error == "BadResponse: out of memory"
    assert about.student_usage(words) is None


async def test_a_late_student_leaves_the_step_to_the_teacher_and_its_prompt_is_counted() -> None:
    about = thought()
    made = deliberator(Hanging(), student_deadline_s=0.01)
    assert await decided(made, about) == ("teacher", Reason.STUDENT_LATE)
    assert about.student_usage(words) == Usage(input_tokens=4)
    assert "student" in about.latency_s


@pytest.mark.parametrize("mode", ["cascade", "route"])
async def test_late_demonstrations_leave_the_step_to_the_teacher(mode: Mode) -> None:
    student, about = ScriptedModel("go"), thought(mode)
    made = deliberator(
        student, retriever=Hanging(), student_deadline_s=0.01, policy=AlwaysStudent()
    )
    assert await decided(made, about) == ("teacher", Reason.STUDENT_LATE)
    assert student.calls == []
    assert about.student_usage(words) is None


async def test_a_cancelled_deliberation_is_no_reason_for_anybody() -> None:
    about = thought()
    task = asyncio.create_task(
        deliberator(Hanging(), student_deadline_s=30.0).deliberate(about, None)
    )
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert about.decision.reason is Reason.ALWAYS
    assert about.student_asked


async def test_what_an_endpoint_says_of_a_prompt_is_in_the_trace_and_in_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Endpoints quote the prompt in their errors, and prompts are logged at DEBUG at most."""
    about = thought()
    said: dict[str, object] = {"message": "cannot read 'the canary'"}
    error = BadResponse("http://x answered 500: cannot read 'the canary'", status=500, body=said)
    student = ScriptedModel("go", failures={0: error})
    with caplog.at_level(logging.DEBUG, "tutelage"):
        await deliberator(student).deliberate(about, None)
    loud = [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG]
    assert about.error is not None
    assert "the canary" in about.error
    assert loud == ["the teacher takes the step (student_failed): BadResponse, status 500"]


async def test_what_we_say_of_a_failure_ourselves_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = BadResponse("http://x broke the connection: check its log")
    with caplog.at_level(logging.WARNING, "tutelage"):
        await deliberator(ScriptedModel("go", failures={0: error})).deliberate(thought(), None)
    assert "BadResponse: http://x broke the connection: check its log" in caplog.text


# What the student sees, and what it says.


async def test_pinned_demonstrations_are_found_once_an_episode() -> None:
    pinned, near = Shelf("pinned"), Shelf("near")
    made = deliberator(
        ScriptedModel("go"),
        retriever=near,
        pinned_retriever=pinned,
        prompt=PromptSettings(layout="pinned"),
    )
    about = thought()
    await made.deliberate(about, None)
    again = new_deliberation(request(), about.episode, "id2", 0.0, "cascade")
    await made.deliberate(again, None)
    assert (pinned.asked, near.asked) == (1, 2)
    assert {one.demonstration.id for one in again.demonstrations} == {"pinned:0", "near:0"}
    assert about.episode.pinned is not None


async def test_nothing_is_pinned_in_another_layout() -> None:
    pinned = Shelf("pinned")
    about = thought()
    await deliberator(ScriptedModel("go"), pinned_retriever=pinned).deliberate(about, None)
    assert (pinned.asked, about.episode.pinned) == (0, ())


async def test_the_answer_is_the_agreed_sample_under_the_clients_own_names_and_counts() -> None:
    about = thought()
    student = ScriptedModel([["", "go to desk 1", "go to desk 1"]], usage=Usage(input_tokens=90))
    made = deliberator(student)
    await made.deliberate(about, "student")
    answer = about.student_answer(words)
    assert answer.text == "go to desk 1"
    assert (answer.model, answer.choices[0].index, len(answer.choices)) == ("alias", 0, 1)
    assert answer.usage == Usage(input_tokens=4, output_tokens=4)
    assert about.student_usage(words) == Usage(input_tokens=90)


async def test_an_answer_that_names_no_action_is_served_where_nobody_else_may() -> None:
    about = thought()
    await deliberator(ScriptedModel([["", "", ""]])).deliberate(about, "student")
    assert about.agreement is not None
    assert about.agreement.chosen is None
    assert about.student_answer(words).text == ""


@pytest.mark.parametrize(
    ("mode", "tools", "expected"),
    [
        ("route", None, True),
        ("route", [WALK], False),
        ("cascade", None, False),
        ("shadow", None, False),
    ],
)
def test_only_a_routed_answer_that_can_call_nothing_goes_out_as_it_comes(
    mode: Mode, tools: Any, expected: bool
) -> None:
    assert thought(mode, tools=tools).streams_live is expected


def test_an_error_is_one_line_with_its_name() -> None:
    assert line(BadResponse("no JSON")) == "BadResponse: no JSON"
