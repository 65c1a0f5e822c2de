from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from tutelage.cascade.agreement import Unanimous
from tutelage.cascade.always_student import AlwaysStudent
from tutelage.cascade.always_teacher import AlwaysTeacher
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.guards.tools import ToolGuard
from tutelage.cascade.paper import Paper
from tutelage.cascade.random_mix import RandomMix
from tutelage.runtime.deliberation import (
    Deliberation,
    Deliberator,
    line,
    new_deliberation,
    unsupported,
)
from tutelage.runtime.episode import Episode
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
    Action,
    Agreement,
    ChatRequest,
    Completion,
    Decision,
    Demonstration,
    Message,
    Mode,
    Reason,
    Retrieved,
    SamplePlan,
    Step,
    Turn,
    Usage,
)

WALK = {"type": "function", "function": {"name": "walk", "parameters": {"type": "object"}}}
WALKS = Message(
    role="assistant",
    tool_calls=[
        {"id": "1", "type": "function", "function": {"name": "walk", "arguments": "{}"}},
    ],
)


def words(text: str) -> int:
    return len(text.split())


class NoServer:
    """Episodes are only looked at here."""

    async def complete(self, request: ChatRequest, *, episode: Episode | None = None) -> Any:
        raise AssertionError("no episode serves itself")

    async def record_episode(self, episode: Episode, **outcome: Any) -> None:
        raise AssertionError("no episode is recorded")


class Shelf:
    """Finds what it is told to; counts how often it is asked."""

    def __init__(self, id: str = "d", error: Exception | None = None) -> None:
        self.id, self.error, self.asked = id, error, 0

    async def search(self, step: Step) -> Sequence[Retrieved]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        shown = Demonstration(
            id=f"{self.id}:0",
            tenant=step.tenant,
            trajectory_id=self.id,
            step_index=0,
            goal="tidy the hall.",
            window=(Turn("A hall.", "sweep"),),
            source="oracle:test",
        )
        return [Retrieved(shown, 0.9)]


class Hanging:
    """A student or retriever that never comes back."""

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        await asyncio.Event().wait()
        yield {}

    async def search(self, step: Step) -> Sequence[Retrieved]:
        await asyncio.Event().wait()
        return ()


class Failing(Paper):
    """A policy with a fault, in its plan or in its decision."""

    def __init__(self, error: Exception, *, plans: bool = False) -> None:
        super().__init__()
        self.error, self.plans = error, plans

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        if self.plans:
            raise self.error
        return super().plan(step, demonstrations)

    def decide(self, *_: Any) -> Decision:
        raise self.error


def request(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate(
        {
            "model": "alias",
            "messages": [{"role": "user", "content": "Task: tidy.\nA room."}],
            **fields,
        }
    )


def thought(mode: Mode = "cascade", **fields: Any) -> Deliberation:
    episode = Episode(NoServer(), id="e", tenant="acme")
    return new_deliberation(request(**fields), episode, "id", 0.0, mode)


def deliberator(student: Any = None, **parts: Any) -> Deliberator:
    made: dict[str, Any] = {
        "student": student,
        "retriever": None,
        "pinned_retriever": None,
        "agreement": Unanimous(TextCanonicalizer()),
        "policy": Paper(),
        "prompt": PromptSettings(),
        "count_tokens": words,
        "student_deadline_s": None,
        "timer": lambda: 1.0,
        **parts,
    }
    return Deliberator(**made)


async def decided(made: Deliberator, about: Deliberation, force: Any = None) -> tuple[str, Reason]:
    await made.deliberate(about, force)
    return about.decision.served, about.decision.reason


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


# Plans that wait for demonstrations, and actions that are recalled.


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
