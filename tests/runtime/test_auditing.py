from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from tutelage.cascade.agreement import Unanimous
from tutelage.cascade.always_student import AlwaysStudent
from tutelage.cascade.audit import RandomAudits
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.episode_budget import EpisodeBudget, EpisodeLimits
from tutelage.cascade.holdout import Holdout
from tutelage.cascade.paper import Paper
from tutelage.cascade.routing import Radius, Routed
from tutelage.runtime.auditing import Auditing
from tutelage.runtime.errors import BadResponse, StoreError
from tutelage.runtime.ledger import Ledger
from tutelage.runtime.models.scripted import Breakdown, ScriptedModel
from tutelage.runtime.pipeline import Runtime
from tutelage.runtime.pricing import Price
from tutelage.runtime.store.memory import MemoryTraceStore
from tutelage.runtime.types import (
    Answer,
    ChatRequest,
    Completion,
    Demonstration,
    Message,
    Mode,
    Reason,
    Retrieved,
    Step,
    StepAudit,
    Turn,
    Usage,
)

FORM = TextCanonicalizer()
LEDGER = Ledger({"teacher": Price(input=10, output=20, cache_read=1), "student": Price(1, 2)})
TAUGHT = Usage(input_tokens=60, cache_read_tokens=40, output_tokens=10)
COST_USD = (60 * 10 + 40 * 1 + 10 * 20) / 1e6
UNCACHED_COST_USD = (100 * 10 + 10 * 20) / 1e6
WALK = {"type": "function", "function": {"name": "walk", "parameters": {"type": "object"}}}


class Kept:
    """Audits in memory; the store may be gone."""

    def __init__(self, error: Exception | None = None) -> None:
        self.all: list[StepAudit] = []
        self.error = error

    async def record_audit(self, audit: StepAudit) -> None:
        if self.error is not None:
            raise self.error
        self.all.append(audit)


class Waiting(ScriptedModel):
    """A model that answers when it is told to."""

    def __init__(self, answers: str) -> None:
        super().__init__(answers, usage=TAUGHT)
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        made = await super().complete(request, n)
        self.asked.set()
        await self.go.wait()
        return made


class Shelf:
    """Finds two demonstrations that show the same."""

    async def search(self, step: Step) -> Sequence[Retrieved]:
        return [
            Retrieved(
                Demonstration(
                    id=f"{name}:0",
                    tenant=step.tenant,
                    trajectory_id=name,
                    step_index=0,
                    goal="tidy the hall.",
                    window=(Turn("A hall.", "sweep"),),
                    source="oracle:test",
                ),
                0.9,
            )
            for name in ("d1", "d2")
        ]


def request(**fields: Any) -> ChatRequest:
    messages = [Message(role="user", content="Task: tidy.\nA room.")]
    return ChatRequest.model_validate({"model": "alias", "messages": messages, **fields})


class Audited:
    """A runtime whose every served step is audited, unless told otherwise."""

    def __init__(
        self,
        student: str | ScriptedModel = "sweep",
        teacher: str | ScriptedModel = "sweep",
        *,
        kept: Kept | None = None,
        share: float = 1.0,
        waits: bool = False,
        **parts: Any,
    ) -> None:
        self.teacher = ScriptedModel(teacher, usage=TAUGHT) if isinstance(teacher, str) else teacher
        self.student = ScriptedModel(student) if isinstance(student, str) else student
        self.kept = kept or Kept()
        self.traces = MemoryTraceStore()
        agreement = Unanimous(FORM)
        self.auditing = Auditing(
            teacher=self.teacher,
            agreement=agreement,
            trigger=RandomAudits(share),
            audits=self.kept,
            ledger=LEDGER,
            clock=lambda: 77.0,
            waits=waits,
        )
        made: dict[str, Any] = {
            "policy": Paper(),
            "agreement": agreement,
            "ledger": LEDGER,
            "count_tokens": lambda text: len(text.split()),
            **parts,
        }
        self.runtime = Runtime(
            teacher=self.teacher,
            student=self.student,
            traces=self.traces,
            auditing=self.auditing,
            **made,
        )

    async def answer(self, **options: Any) -> Answer:
        answer = await self.runtime.complete(request(), **options)
        await self.runtime.aclose()
        return answer


async def test_an_audited_step_is_answered_at_once_and_the_audit_kept_later() -> None:
    teacher = Waiting("open the door")
    made = Audited(teacher=teacher)
    answer = await made.runtime.complete(request())
    assert (answer.text, answer.decision.served) == ("sweep", "student")
    assert await made.traces.traces("default") == [answer.trace]
    assert made.kept.all == []
    closing = asyncio.create_task(made.runtime.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    teacher.go.set()
    await closing
    (audit,) = made.kept.all
    assert audit == StepAudit(
        trace_id=answer.trace_id,
        tenant="default",
        episode_id=answer.trace.episode_id,
        step_index=0,
        created_at_s=77.0,
        propensity=1.0,
        action="open door",
        agrees=False,
        cost_usd=audit.cost_usd,
        uncached_cost_usd=audit.uncached_cost_usd,
    )
    assert audit.cost_usd == pytest.approx(COST_USD)
    assert audit.uncached_cost_usd == pytest.approx(UNCACHED_COST_USD)


async def test_an_audit_is_on_no_trace_and_no_bill_of_the_episode() -> None:
    made = Audited(policy=EpisodeBudget(Paper(), EpisodeLimits(cost_usd=1.0)))
    answer = await made.answer()
    assert set(answer.trace.cost_usd) == {"student"}
    assert len(made.teacher.calls) == 1
    episode = made.runtime.episode(id="e")
    await made.runtime.complete(request(), episode=episode)
    await made.runtime.aclose()
    assert episode.spent_usd == pytest.approx(sum(answer.trace.cost_usd.values()))


async def test_the_teacher_sees_the_clients_own_request() -> None:
    made = Audited(retriever=Shelf())
    await made.answer()
    assert [m.text for m in made.teacher.requests[0].messages] == ["Task: tidy.\nA room."]
    assert len(made.student.requests[0].messages) > 1


@pytest.mark.parametrize(
    ("student", "teacher", "agrees"),
    [("Sweep.", "Action: sweep", True), ("sweep", "look", False), ("sweep", "", False)],
)
async def test_actions_are_compared_not_texts(student: str, teacher: str, agrees: bool) -> None:
    made = Audited(student, teacher)
    await made.answer()
    assert [audit.agrees for audit in made.kept.all] == [agrees]


async def test_a_failing_teacher_gives_an_audit_without_an_opinion(
    caplog: pytest.LogCaptureFixture,
) -> None:
    teacher = ScriptedModel("sweep", failures={0: BadResponse("the teacher is ill")})
    made = Audited(teacher=teacher)
    with caplog.at_level(logging.WARNING, "tutelage"):
        answer = await made.answer()
    assert answer.text == "sweep"
    (audit,) = made.kept.all
    assert (audit.trace_id, audit.propensity) == (answer.trace_id, 1.0)
    assert (audit.action, audit.agrees) == (None, None)
    assert (audit.cost_usd, audit.uncached_cost_usd) == (0.0, 0.0)
    assert "an audit has no answer: BadResponse" in caplog.text


async def test_an_audit_that_cannot_be_kept_is_counted_and_fails_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = Audited(kept=Kept(StoreError("the disk is full")))
    with caplog.at_level(logging.ERROR, "tutelage"):
        answer = await made.answer()
    assert (answer.text, made.auditing.lost) == ("sweep", 1)
    assert f"the audit of trace {answer.trace_id} is lost: the disk is full" in caplog.text


async def test_an_answer_without_an_action_is_one_that_the_teacher_does_not_share() -> None:
    made = Audited(student="", teacher="", policy=AlwaysStudent())
    answer = await made.answer()
    assert (answer.text, answer.decision.served) == ("", "student")
    assert [audit.agrees for audit in made.kept.all] == [False]


async def test_a_recalled_action_is_audited_too() -> None:
    policy = Routed(Paper(), FORM, recall=Radius(0.5), recall_mutating=True)
    made = Audited(teacher="look", policy=policy, retriever=Shelf())
    answer = await made.answer()
    assert (answer.decision.reason, answer.text, made.student.calls) == (
        Reason.RECALLED,
        "sweep",
        [],
    )
    assert answer.trace.cost_usd == {"student": 0.0}
    assert [audit.agrees for audit in made.kept.all] == [False]


async def test_a_tool_call_is_audited_as_the_call_that_it_is() -> None:
    def calling(arguments: str) -> Message:
        function = {"name": "walk", "arguments": arguments}
        call = {"id": "c", "type": "function", "function": function}
        return Message(role="assistant", tool_calls=[call])

    student = ScriptedModel([[calling('{"to":"a","by":"b"}')]])
    teacher = ScriptedModel([calling('{"by": "b", "to": "a"}')], usage=TAUGHT)
    made = Audited(student, teacher)
    await made.runtime.complete(request(tools=[WALK]))
    await made.runtime.aclose()
    assert [audit.agrees for audit in made.kept.all] == [True]


@pytest.mark.parametrize("mode", ["passthrough", "shadow"])
async def test_the_teachers_own_steps_are_never_audited(mode: Mode) -> None:
    made = Audited()
    answer = await made.answer(mode=mode)
    assert answer.decision.served == "teacher"
    assert made.kept.all == []
    assert len(made.teacher.calls) == 1


async def test_a_deferred_step_is_not_audited() -> None:
    made = Audited(ScriptedModel([["a", "b", "c"]]))
    answer = await made.answer()
    assert answer.decision.served == "teacher"
    assert made.kept.all == []


async def test_nothing_is_audited_that_the_client_forbids_to_learn_from() -> None:
    made = Audited()
    thought = made.runtime.begin(request(), no_train=True)
    await made.runtime.deliberate(thought)
    chunks = [chunk async for chunk in made.runtime.answer(thought)]
    await made.runtime.aclose()
    assert chunks
    assert thought.decision.served == "student"
    assert (made.kept.all, made.teacher.calls) == ([], [])


async def test_a_share_of_nothing_asks_about_nothing() -> None:
    made = Audited(share=0.0)
    await made.answer()
    assert (made.kept.all, made.teacher.calls) == ([], [])


async def test_the_recorded_propensity_is_the_share() -> None:
    made = Audited(share=0.5)
    answers = [await made.runtime.complete(request()) for _ in range(40)]
    await made.runtime.aclose()
    assert {audit.propensity for audit in made.kept.all} == {0.5}
    assert {audit.trace_id for audit in made.kept.all} < {answer.trace_id for answer in answers}


async def test_a_streamed_answer_is_audited_without_streaming() -> None:
    made = Audited()
    streamed = made.runtime.stream(request(stream=True, stream_options={"include_usage": True}))
    assert [chunk async for chunk in streamed]
    await made.runtime.aclose()
    assert [audit.agrees for audit in made.kept.all] == [True]
    assert [call.streamed for call in made.teacher.calls] == [False]
    assert made.teacher.requests[0].stream is None


async def _broken_live(made: Audited) -> None:
    with pytest.raises(BadResponse, match="half way"):
        async for _ in made.runtime.stream(request(), mode="route"):
            pass


async def _left_live(made: Audited) -> None:
    async with contextlib.aclosing(made.runtime.stream(request(), mode="route")) as live:
        await anext(live)
        await anext(live)


async def test_a_live_answer_is_audited_when_it_is_complete() -> None:
    made = Audited(policy=AlwaysStudent())
    assert [chunk async for chunk in made.runtime.stream(request(), mode="route")]
    await made.runtime.aclose()
    assert [audit.agrees for audit in made.kept.all] == [True]


@pytest.mark.parametrize("leave", [_broken_live, _left_live])
async def test_an_answer_that_broke_off_is_never_audited(leave: Any) -> None:
    failures = {0: Breakdown(BadResponse("half way"), 2)} if leave is _broken_live else {}
    student = ScriptedModel("sweep the room", failures=failures)
    made = Audited(student, policy=AlwaysStudent())
    await leave(made)
    await made.runtime.aclose()
    (trace,) = await made.traces.traces("default")
    assert (trace.decision.served, trace.finished) == ("student", False)
    assert (made.kept.all, made.teacher.calls) == ([], [])


async def test_a_request_that_its_caller_cancels_is_never_audited() -> None:
    student = Waiting("sweep")
    made = Audited(student)
    asking = asyncio.create_task(made.runtime.complete(request()))
    await student.asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await made.runtime.aclose()
    (trace,) = await made.traces.traces("default")
    assert trace.finished is False
    assert (made.kept.all, made.teacher.calls) == ([], [])


async def test_a_caller_that_leaves_after_its_answer_does_not_stop_the_audit() -> None:
    teacher = Waiting("sweep")
    made = Audited(teacher=teacher)

    async def one_step() -> None:
        await made.runtime.complete(request())
        await asyncio.Event().wait()

    asking = asyncio.create_task(one_step())
    await teacher.asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    teacher.go.set()
    await made.runtime.aclose()
    assert [audit.agrees for audit in made.kept.all] == [True]


async def test_where_the_teacher_looks_at_the_world_the_answer_waits() -> None:
    teacher = Waiting("sweep")
    made = Audited(teacher=teacher, waits=True)
    asking = asyncio.create_task(made.runtime.complete(request()))
    await teacher.asked.wait()
    assert not asking.done()
    teacher.go.set()
    await asking
    assert [audit.agrees for audit in made.kept.all] == [True]


async def test_the_price_is_that_of_the_endpoint_that_answers() -> None:
    made = Audited()
    thought = made.runtime.begin(request())
    thought.teacher_price = Price(input=1, output=1)
    await made.runtime.deliberate(thought)
    made.runtime.conclude(thought, thought.student_answer(len), None)
    await made.runtime.aclose()
    assert [audit.cost_usd for audit in made.kept.all] == [pytest.approx(110 / 1e6)]


# The holdout in the whole.


def held_out_id(share: float) -> str:
    holdout = Holdout(AlwaysStudent(), share)
    for number in range(1000):
        step = Step("default", f"e{number}", 0, "g", "o")
        if holdout.decide(step, _nothing(), []).reason is Reason.HOLDOUT:
            return step.episode_id
    raise AssertionError("no episode is held out")


def _nothing() -> Any:
    return Unanimous(FORM).measure([])


@pytest.mark.parametrize("mode", ["cascade", "route"])
async def test_a_held_out_episode_is_the_teachers_in_every_mode(mode: Mode) -> None:
    made = Audited(policy=Holdout(AlwaysStudent(), 0.1))
    episode = made.runtime.episode(id=held_out_id(0.1))
    for _ in range(3):
        answer = await made.runtime.complete(request(), episode=episode, mode=mode)
        assert (answer.decision.served, answer.decision.reason) == ("teacher", Reason.HOLDOUT)
        assert answer.trace.decision.propensity == 0.1
    assert (made.student.calls, made.kept.all) == ([], [])


async def test_in_shadow_a_held_out_episode_is_not_sampled_either() -> None:
    made = Audited(policy=Holdout(AlwaysStudent(), 0.1))
    episode = made.runtime.episode(id=held_out_id(0.1))
    await made.runtime.complete(request(), episode=episode, mode="shadow")
    await made.runtime.aclose()
    (trace,) = await made.traces.traces("default")
    assert trace.decision.reason is Reason.SHADOW
    assert trace.shadow is not None
    assert trace.shadow.reason is Reason.HOLDOUT
    assert made.student.calls == []


async def test_whoever_insists_on_the_student_gets_it_in_a_held_out_episode_too() -> None:
    made = Audited(policy=Holdout(AlwaysStudent(), 0.1))
    episode = made.runtime.episode(id=held_out_id(0.1))
    answer = await made.runtime.complete(request(), episode=episode, force="student")
    assert (answer.decision.served, answer.decision.reason) == ("student", Reason.FORCED)
    assert answer.decision.propensity is None


async def test_a_routed_episode_beyond_its_budget_is_the_students() -> None:
    policy = EpisodeBudget(Holdout(Paper(), 0.0), EpisodeLimits(deferrals=1))
    made = Audited(policy=policy, share=0.0)
    episode = made.runtime.episode(id="e")
    first = await made.runtime.complete(request(), episode=episode, mode="route")
    assert (first.decision.served, first.decision.reason) == ("teacher", Reason.UNDECIDED)
    again = request(
        messages=[
            {"role": "user", "content": "Task: tidy.\nA room."},
            {"role": "assistant", "content": first.text},
            {"role": "user", "content": "A desk."},
        ]
    )
    second = await made.runtime.complete(again, episode=episode, mode="route")
    assert (second.decision.served, second.decision.reason) == ("student", Reason.BUDGET)
    await made.runtime.aclose()
