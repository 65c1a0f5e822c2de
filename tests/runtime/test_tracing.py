from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from tutelage.runtime.deliberation import Deliberation, new_deliberation
from tutelage.runtime.episode import Episode
from tutelage.runtime.errors import PriceUnknown, StoreError
from tutelage.runtime.ledger import Ledger
from tutelage.runtime.pricing import Price
from tutelage.runtime.store.memory import MemoryTraceStore
from tutelage.runtime.tracing import Tracer
from tutelage.runtime.types import (
    Agreement,
    ChatRequest,
    Choice,
    Completion,
    Decision,
    Demonstration,
    Message,
    Mode,
    Reason,
    Retrieved,
    Sample,
    Trace,
    Turn,
    Usage,
)

TEACHER, STUDENT = Price(input=10, output=20, cache_read=1), Price(input=1, output=2)
BOTH = Ledger({"teacher": TEACHER, "student": STUDENT})
MILLION = 1_000_000


class GoneStore(MemoryTraceStore):
    async def append(self, trace: Trace) -> None:
        raise StoreError("the disk is full")


class Timer:
    """Stands at the same moment."""

    def __call__(self) -> float:
        return 7.5


def words(text: str) -> int:
    return len(text.split())


def tracer(traces: MemoryTraceStore | None = None, ledger: Ledger = BOTH) -> Tracer:
    store = traces if traces is not None else MemoryTraceStore()
    return Tracer(store, ledger, words, lambda: 1_800_000_000.0, Timer())


def thought(mode: Mode = "cascade", **fields: Any) -> Deliberation:
    request = ChatRequest.model_validate(
        {
            "model": "alias",
            "messages": [{"role": "user", "content": "Task: tidy.\nA room."}],
            **fields,
        }
    )
    episode = Episode(None, id="e", tenant="acme")  # type: ignore[arg-type]
    return new_deliberation(request, episode, "id", 5.0, mode)


def completion(text: str = "go", usage: Usage = Usage(), **message: Any) -> Completion:  # noqa: B008
    said = Message(role="assistant", content=text, **message)
    return Completion(id="c", model="m", choices=[Choice(index=0, message=said)], usage=usage)


def sampled(about: Deliberation, usage: Usage) -> Deliberation:
    """As if the student had been asked."""
    about.student, about.student_asked = completion("go", usage), True
    about.agreement = Agreement(votes=(), samples=3, chosen=None, agreed=False)
    about.samples = (Sample(text="go", action="go"),)
    about.prompt = about.request.model_copy(
        update={"messages": [Message(role="user", content="an example"), *about.request.messages]}
    )
    return about


def test_a_trace_says_whose_step_it_was_and_how_it_was_served() -> None:
    about = thought()
    about.key_id, about.no_train = "key_1", True
    about.decision = Decision(served="teacher", reason=Reason.DISAGREED, score=0.5)
    trace = tracer().trace(about, completion("look"), Usage(input_tokens=3))
    assert (trace.id, trace.tenant, trace.episode_id, trace.step_index) == ("id", "acme", "e", 0)
    assert (trace.model, trace.mode, trace.key_id, trace.no_train) == (
        "alias",
        "cascade",
        "key_1",
        True,
    )
    assert (trace.goal, trace.observation, trace.answer) == ("tidy.", "A room.", "look")
    assert trace.decision is about.decision
    assert trace.created_at_s == 1_800_000_000.0
    assert trace.latency_s["total"] == pytest.approx(2.5)
    assert trace.prompt == ({"role": "user", "content": "Task: tidy.\nA room."},)


def test_the_tokens_of_both_roles_are_priced_apart() -> None:
    about = sampled(thought(), Usage(input_tokens=MILLION, output_tokens=MILLION))
    spent = Usage(input_tokens=MILLION, cache_read_tokens=MILLION, output_tokens=MILLION)
    trace = tracer().trace(about, completion(usage=spent), spent)
    assert trace.usage == {"student": about.student_usage(words), "teacher": spent}
    assert trace.cost_usd == {"student": pytest.approx(3.0), "teacher": pytest.approx(31.0)}
    assert trace.uncached_cost_usd["teacher"] == pytest.approx(40.0)
    assert trace.baseline_cost_usd == pytest.approx(40.0)


def test_a_step_of_the_student_is_compared_with_what_the_teacher_would_have_cost() -> None:
    about = sampled(thought(), Usage(input_tokens=3 * MILLION))
    answer = completion(usage=Usage(input_tokens=MILLION, output_tokens=MILLION))
    trace = tracer().trace(about, answer, None)
    assert trace.cost_usd == {"student": pytest.approx(3.0)}
    assert trace.baseline_cost_usd == pytest.approx(30.0)
    assert [sample.action for sample in trace.samples] == ["go"]
    assert trace.prompt[0]["content"] == "an example"


def test_a_teacher_with_a_price_of_its_own_is_billed_by_it() -> None:
    about = thought()
    about.teacher_price = Price(input=100, output=0)
    trace = tracer().trace(about, completion(), Usage(input_tokens=MILLION))
    assert trace.cost_usd == {"teacher": pytest.approx(100.0)}
    assert trace.baseline_cost_usd == pytest.approx(100.0)


def test_an_answer_that_never_came_has_no_baseline() -> None:
    about = thought()
    about.error, about.finished = "ModelTimeout: 5 s", False
    trace = tracer().trace(about, None, Usage(input_tokens=MILLION))
    assert (trace.answer, trace.finished, trace.error) == ("", False, "ModelTimeout: 5 s")
    assert trace.cost_usd == {"teacher": pytest.approx(10.0)}
    assert trace.baseline_cost_usd is None


def test_a_model_without_a_price_costs_nothing_that_is_known() -> None:
    made = tracer(ledger=Ledger({"student": STUDENT}))
    trace = made.trace(sampled(thought(), Usage(input_tokens=MILLION)), completion(), Usage())
    assert made.price("teacher", "alias") is None
    assert trace.cost_usd == {"student": pytest.approx(1.0)}
    assert set(trace.usage) == {"student", "teacher"}
    assert trace.baseline_cost_usd is None
    with pytest.raises(PriceUnknown):
        made.check_prices("alias")


def test_prices_of_both_roles_are_found() -> None:
    made = tracer()
    made.check_prices("alias")
    assert (made.price("teacher", "x"), made.price("student", "x")) == (TEACHER, STUDENT)


def test_a_shadow_is_traced_beside_the_decision_that_counted() -> None:
    about = thought("shadow")
    about.decision = Decision(served="teacher", reason=Reason.SHADOW)
    about.latency_s["teacher"] = 1.0
    aside = about.aside = sampled(thought(), Usage(input_tokens=MILLION))
    aside.decision = Decision(served="student", reason=Reason.AGREED, score=1.0)
    aside.latency_s, aside.error = {"student": 2.0}, "RetrievalError: none"
    shown = Demonstration(
        id="d:0",
        tenant="acme",
        trajectory_id="d",
        step_index=0,
        goal="g",
        window=(Turn("o", "a"),),
        source="s",
    )
    aside.demonstrations = (Retrieved(shown, 0.5),)
    trace = tracer().trace(about, completion("teach"), Usage(output_tokens=MILLION))
    assert (trace.answer, trace.decision.reason) == ("teach", Reason.SHADOW)
    assert trace.shadow is aside.decision
    assert trace.demonstrations == ("d:0",)
    assert trace.cost_usd == {"student": pytest.approx(1.0), "teacher": pytest.approx(20.0)}
    assert (trace.latency_s["student"], trace.latency_s["teacher"]) == (2.0, 1.0)
    assert trace.error == "RetrievalError: none"


def test_tool_calls_stand_in_a_trace_as_json() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "walk", "arguments": "{}"}}
    trace = tracer().trace(thought(), completion("", tool_calls=[call]), None)
    assert trace.answer == '{"tool_calls":[{"name":"walk","arguments":"{}"}]}'


async def test_a_trace_is_kept() -> None:
    traces = MemoryTraceStore()
    made = tracer(traces)
    trace = made.trace(thought(), completion(), None)
    await made.store(trace)
    assert await traces.trace("acme", "id") == trace
    assert made.lost == 0


async def test_a_trace_that_cannot_be_kept_is_counted_and_fails_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = tracer(GoneStore())
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            await made.store(made.trace(thought(), completion(), None))
    assert made.lost == 2
    assert "trace id is lost: the disk is full" in caplog.text


class PostedStore(MemoryTraceStore):
    """Takes traces for which nobody waits, up to a number, and tells the fate of each at once."""

    def __init__(self, room: int, outcome: StoreError | None = None) -> None:
        super().__init__()
        self.room = room
        self.outcome = outcome
        self.posted: list[Trace] = []

    def post(self, trace: Trace, settle: Callable[[StoreError | None], object]) -> bool:
        if len(trace.id) > 10:
            raise StoreError("the id is too long")
        if len(self.posted) == self.room:
            return False
        self.posted.append(trace)
        settle(self.outcome)
        return True


def test_a_trace_is_posted_where_the_store_has_room() -> None:
    store = PostedStore(room=1)
    made = tracer(store)
    trace = made.trace(thought(), completion(), None)
    assert [made.post(trace), made.post(trace)] == [True, False]
    assert store.posted == [trace]
    assert made.lost == 0
    assert not tracer(MemoryTraceStore()).post(trace), "this store has no way"


def test_a_posted_trace_that_is_lost_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    made = tracer(PostedStore(room=2, outcome=StoreError("the disk is full")))
    trace = made.trace(thought(), completion(), None)
    with caplog.at_level(logging.ERROR):
        assert made.post(trace)
        assert made.post(trace.model_copy(update={"id": "x" * 11}))
    assert made.lost == 2
    assert "trace id is lost: the disk is full" in caplog.text
    assert "is lost: the id is too long" in caplog.text


async def test_the_log_tells_of_a_request_but_nothing_that_was_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = tracer()
    about = sampled(thought(), Usage(input_tokens=MILLION))
    with caplog.at_level(logging.DEBUG):
        await made.store(made.trace(about, completion("the answer"), None))
    (record,) = caplog.records
    assert record.getMessage() == (
        "served=teacher reason=always samples=1 demos=0 cost_usd=1.000000 latency_s=2.500"
    )
