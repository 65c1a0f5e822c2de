from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tutelage.cascade.agreement import Unanimous
from tutelage.cascade.always_student import AlwaysStudent
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.guards.loop import LoopGuard
from tutelage.cascade.paper import Paper
from tutelage.runtime.errors import BadResponse, RateLimited, RetrievalError, StoreError
from tutelage.runtime.ledger import Ledger
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.pipeline import Runtime
from tutelage.runtime.pricing import Price
from tutelage.runtime.prompt import PromptSettings
from tutelage.runtime.store.memory import MemoryTraceStore
from tutelage.runtime.types import (
    ChatRequest,
    Demonstration,
    Message,
    Reason,
    Retrieved,
    Step,
    Trace,
    Turn,
    Usage,
)

LEDGER = Ledger({"teacher": Price(input=10, output=20, cache_read=1), "student": Price(1, 2)})


def request(*turns: str, **fields: Any) -> ChatRequest:
    messages = [
        Message(role="system", content="Act."),
        Message(role="user", content="Task: tidy.\nA room."),
    ]
    for position, text in enumerate(turns):
        messages.append(Message(role="user" if position % 2 else "assistant", content=text))
    return ChatRequest.model_validate({"model": "alias", "messages": messages, **fields})


@dataclass
class Shelf:
    """A retriever that always finds the same demonstration."""

    error: Exception | None = None
    asked: list[Step] = field(default_factory=list)

    async def search(self, step: Step) -> Sequence[Retrieved]:
        self.asked.append(step)
        if self.error is not None:
            raise self.error
        one = Demonstration(
            id="d:0",
            tenant=step.tenant,
            trajectory_id="d",
            step_index=0,
            goal="tidy the hall.",
            window=(Turn("A hall.", "sweep"),),
            source="oracle:test",
        )
        return [Retrieved(one, 0.9)]


class GoneStore(MemoryTraceStore):
    async def append(self, trace: Trace) -> None:
        raise StoreError("the disk is full")


class BrokenPolicy(Paper):
    def decide(self, *_: Any) -> Any:
        raise ValueError("no threshold")


def runtime(student: ScriptedModel | None, **parts: Any) -> Runtime:
    made: dict[str, Any] = {
        "teacher": ScriptedModel("teach", usage=Usage(input_tokens=100, output_tokens=10)),
        "student": student,
        "agreement": Unanimous(TextCanonicalizer()),
        "policy": Paper(),
        "traces": MemoryTraceStore(),
        "ledger": LEDGER,
        "count_tokens": lambda text: len(text.split()),
        **parts,
    }
    return Runtime(**made)


async def test_samples_that_agree_are_the_answer() -> None:
    student = ScriptedModel("go to desk 1", usage=Usage(input_tokens=50, output_tokens=9))
    answer = await runtime(student).complete(request())
    assert (answer.text, answer.decision.served) == ("go to desk 1", "student")
    assert answer.decision.reason is Reason.AGREED
    assert answer.completion.model == "alias"
    assert answer.completion.usage == Usage(input_tokens=5, output_tokens=4)
    assert answer.trace.usage == {"student": Usage(input_tokens=50, output_tokens=9)}
    assert answer.trace.cost_usd["student"] == pytest.approx((50 * 1 + 9 * 2) / 1e6)
    assert student.calls[0].n == 3
    assert student.requests[0].temperature == 0.7


async def test_samples_that_disagree_leave_the_step_to_the_teacher_who_sees_no_demonstration() -> (
    None
):
    teacher = ScriptedModel("teach", usage=Usage(input_tokens=100, output_tokens=10))
    made = runtime(ScriptedModel([["a", "b", "a"]]), teacher=teacher, retriever=Shelf())
    answer = await made.complete(request())
    assert (answer.text, answer.decision.reason) == ("teach", Reason.DISAGREED)
    assert teacher.requests == [request()]
    assert set(answer.trace.usage) == {"student", "teacher"}
    assert answer.trace.agreement == pytest.approx(2 / 3)
    assert [sample.action for sample in answer.trace.samples] == ["a", "b", "a"]


async def test_the_student_sees_the_retrieved_demonstrations() -> None:
    student = ScriptedModel("sweep")
    answer = await runtime(student, retriever=Shelf()).complete(request())
    assert [m.text for m in student.requests[0].messages] == [
        "Act.",
        "Task: tidy the hall.\nA hall.",
        "sweep",
        "Task: tidy.\nA room.",
    ]
    assert answer.trace.demonstrations == ("d:0",)
    assert answer.trace.prompt[2] == {"role": "assistant", "content": "sweep"}


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"retriever": Shelf(RetrievalError("no bank"))}, Reason.RETRIEVAL_FAILED),
        ({"policy": BrokenPolicy()}, Reason.POLICY_FAILED),
        ({"prompt": PromptSettings(max_prompt_tokens=3)}, Reason.STUDENT_FAILED),
    ],
)
async def test_what_fails_before_the_teacher_is_a_reason_not_an_error(
    parts: dict[str, Any], reason: Reason
) -> None:
    answer = await runtime(ScriptedModel("a"), **parts).complete(request())
    assert (answer.text, answer.decision.reason) == ("teach", reason)
    assert answer.trace.error


async def test_a_failing_student_is_replaced_by_the_teacher() -> None:
    student = ScriptedModel("a", failures={0: BadResponse("gone")})
    answer = await runtime(student).complete(request())
    assert (answer.text, answer.decision.reason) == ("teach", Reason.STUDENT_FAILED)
    assert answer.trace.error == "BadResponse: gone"


async def test_a_failing_teacher_is_raised() -> None:
    teacher = ScriptedModel("x", failures={0: RateLimited("slow down", retry_after_s=7)})
    made = runtime(ScriptedModel([["a", "b", "c"]]), teacher=teacher)
    with pytest.raises(RateLimited, match="slow down"):
        await made.complete(request())


async def test_what_was_spent_before_a_failing_teacher_is_on_the_books() -> None:
    store = MemoryTraceStore()
    teacher = ScriptedModel("x", failures={0: BadResponse("down"), 1: BadResponse("down")})
    student = ScriptedModel([["a", "b", "c"]] * 2, usage=Usage(input_tokens=50, output_tokens=9))
    made = runtime(student, teacher=teacher, traces=store)
    with pytest.raises(BadResponse):
        await made.complete(request())
    with pytest.raises(BadResponse):
        await collected(made.stream(request(stream=True)))
    traces = await store.traces("default")
    assert len(traces) == 2
    for trace in traces:
        assert (trace.answer, trace.error) == ("", "BadResponse: down")
        assert trace.usage == {"student": Usage(input_tokens=50, output_tokens=9)}
        assert trace.baseline_cost_usd is None


async def test_a_lost_trace_is_counted_and_fails_no_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = runtime(ScriptedModel("a"), traces=GoneStore())
    with caplog.at_level(logging.ERROR):
        answer = await made.complete(request())
    assert answer.text == "a"
    assert made.lost_traces == 1
    assert "the disk is full" in caplog.text


@pytest.mark.parametrize("text", ["", "   \n"])
async def test_an_empty_student_answer_goes_to_the_teacher(text: str) -> None:
    answer = await runtime(ScriptedModel(text)).complete(request())
    assert (answer.text, answer.decision.reason) == ("teach", Reason.UNUSABLE)


async def test_a_policy_that_never_asks_the_teacher_serves_even_an_unusable_answer() -> None:
    answer = await runtime(ScriptedModel(""), policy=AlwaysStudent()).complete(request())
    assert (answer.text, answer.decision.served) == ("", "student")


@pytest.mark.parametrize("fields", [{"n": 2}, {"logprobs": True}, {"modalities": ["audio"]}])
async def test_what_a_cascade_cannot_honour_goes_to_the_teacher_unaltered(
    fields: dict[str, Any],
) -> None:
    teacher = ScriptedModel("teach")
    asked = request(**fields)
    answer = await runtime(ScriptedModel("a"), teacher=teacher).complete(asked)
    assert answer.decision.reason is Reason.UNSUPPORTED
    assert teacher.requests == [asked]
    assert len(answer.completion.choices) == fields.get("n", 1)


async def test_without_a_student_the_teacher_serves() -> None:
    answer = await runtime(None).complete(request())
    assert (answer.decision.served, answer.decision.reason) == ("teacher", Reason.ALWAYS)


async def test_a_caller_can_force_either_role() -> None:
    made = runtime(ScriptedModel([["a", "b", "c"], "a"]))
    forced = await made.complete(request(), force="teacher")
    assert (forced.text, forced.decision.reason) == ("teach", Reason.FORCED)
    forced = await made.complete(request(), force="student")
    assert (forced.text, forced.decision.reason) == ("a", Reason.FORCED)


async def test_an_episode_remembers_who_served_and_stores_its_outcome() -> None:
    store = MemoryTraceStore()
    guarded = LoopGuard(Paper(), TextCanonicalizer())
    made = runtime(ScriptedModel("look"), policy=guarded, traces=store)
    async with made.episode(goal="tidy.", tenant="t", task_id="g1") as episode:
        first = await episode.complete(request())
        second = await episode.complete(request("look", "A room."))
        await episode.feedback(success=True, reward=0.5)
    assert [first.decision.served, second.decision.served] == ["student", "teacher"]
    assert second.decision.reason is Reason.LOOP
    assert episode.served == {0: "student", 1: "teacher"}
    record = await store.episode("t", episode.id)
    assert record is not None
    assert (record.success, record.reward, record.goal) == (True, 0.5, "tidy.")
    traces = await store.traces("t", episode_id=episode.id)
    assert {trace.step_index for trace in traces} == {0, 1}


async def test_requests_without_an_episode_are_joined_by_their_opening() -> None:
    made = runtime(ScriptedModel("look"))
    first = await made.complete(request())
    second = await made.complete(request("look", "A hall."))
    other = await made.complete(
        ChatRequest(model="alias", messages=[Message(role="user", content="Task: cook.")])
    )
    assert first.trace.episode_id == second.trace.episode_id != other.trace.episode_id


async def test_pinned_demonstrations_are_chosen_once_an_episode() -> None:
    pinned, near = Shelf(), Shelf()
    made = runtime(
        ScriptedModel("sweep"),
        retriever=near,
        pinned_retriever=pinned,
        prompt=PromptSettings(layout="pinned"),
    )
    async with made.episode(goal="tidy.") as episode:
        await episode.complete(request())
        await episode.complete(request("sweep", "Clean."))
    assert (len(pinned.asked), len(near.asked)) == (1, 2)


async def collected(stream: Any) -> tuple[str, list[dict[str, Any]]]:
    pieces = [chunk async for chunk in stream]
    text = "".join(
        choice["delta"].get("content") or "" for piece in pieces for choice in piece["choices"]
    )
    return text, pieces


async def test_an_agreed_answer_is_streamed_in_pieces() -> None:
    store = MemoryTraceStore()
    made = runtime(ScriptedModel("go to the far desk 1 and look at it"), traces=store)
    text, pieces = await collected(
        made.stream(request(stream=True, stream_options={"include_usage": True}))
    )
    assert text == "go to the far desk 1 and look at it"
    assert {piece["model"] for piece in pieces} == {"alias"}
    assert pieces[-1]["usage"]["completion_tokens"] == 10
    assert [trace.decision.served for trace in await store.traces("default")] == ["student"]


async def test_a_deferred_step_streams_the_teacher_live_and_is_traced() -> None:
    store = MemoryTraceStore()
    made = runtime(ScriptedModel([["a", "b", "c"]]), traces=store)
    text, pieces = await collected(made.stream(request(stream=True)))
    assert text == "teach"
    assert pieces[0]["model"] == "alias"
    (trace,) = await store.traces("default")
    assert (trace.answer, trace.decision.reason) == ("teach", Reason.DISAGREED)


async def test_a_stream_that_the_client_leaves_is_traced() -> None:
    store = MemoryTraceStore()
    made = runtime(None, traces=store, teacher=ScriptedModel("one two three four five six"))
    stream = made.stream(request(stream=True))
    await anext(stream)
    await stream.aclose()
    assert len(await store.traces("default")) == 1


async def test_one_info_line_a_request_without_the_prompt(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="tutelage"):
        await runtime(ScriptedModel("a"), policy=AlwaysStudent()).complete(request())
    lines = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert len(lines) == 1
    assert "served=student" in lines[0].getMessage()
    assert "tidy" not in caplog.text
