from __future__ import annotations

from typing import Any

from tests.deliberations import Shelf

from tutelage.cascade.agreement import Unanimous
from tutelage.cascade.always_teacher import AlwaysTeacher
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.paper import Paper
from tutelage.runtime.ledger import Ledger
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.pipeline import Runtime
from tutelage.runtime.pricing import Price
from tutelage.runtime.prompt import TOKENS_PER_MESSAGE, PromptSettings, render
from tutelage.runtime.protocols import DeferralPolicy
from tutelage.runtime.steps import read_step
from tutelage.runtime.store.memory import MemoryTraceStore
from tutelage.runtime.types import ChatRequest, Demonstration, Retrieved, Trace, Turn


def words(text: str) -> int:
    return len(text.split())


def asked() -> ChatRequest:
    messages = [
        {"role": "system", "content": "do as told"},
        {"role": "user", "content": "Task: tidy up\na desk"},
    ]
    return ChatRequest.model_validate({"model": "agent", "messages": messages})


def shown(id: str) -> Retrieved:
    demonstration = Demonstration(
        id=f"{id}:0",
        tenant="default",
        trajectory_id=id,
        step_index=0,
        goal="sweep",
        window=(Turn("a shelf", "go to shelf"),),
        source="teacher",
    )
    return Retrieved(demonstration, 1.0)


def test_a_prompt_knows_what_its_tokens_are_for() -> None:
    request = asked()
    step = read_step(request, tenant="default", episode_id="e")

    rendered = render(request, step, [shown("a"), shown("b")], PromptSettings(), words)

    assert rendered.parts == {
        "system": 3 + TOKENS_PER_MESSAGE,
        # "Task: sweep a shelf" and "go to shelf", twice.
        "demonstrations": 2 * (4 + 3 + 2 * TOKENS_PER_MESSAGE),
        "history": 5 + TOKENS_PER_MESSAGE,
    }
    assert sum(rendered.parts.values()) == sum(
        words(message.text) + TOKENS_PER_MESSAGE for message in rendered.request.messages
    )


def test_a_demonstration_that_does_not_fit_is_no_part() -> None:
    request = asked()
    step = read_step(request, tenant="default", episode_id="e")
    settings = PromptSettings(max_prompt_tokens=40)

    parts = render(request, step, [shown("a"), shown("b")], settings, words).parts

    assert parts["demonstrations"] == 17
    assert sum(parts.values()) <= 40


async def served(policy: DeferralPolicy, student: ScriptedModel, **changes: Any) -> Trace:
    """One step of a runtime that shows one demonstration."""
    traces = MemoryTraceStore()
    runtime = Runtime(
        teacher=ScriptedModel("go"),
        student=student,
        retriever=Shelf(),
        agreement=Unanimous(TextCanonicalizer()),
        policy=policy,
        traces=traces,
        ledger=Ledger({"teacher": Price(1, 1), "student": Price(1, 1)}),
        count_tokens=words,
        **changes,
    )
    answer = await runtime.complete(asked())
    await runtime.aclose()
    return answer.trace


async def test_a_trace_tells_them_where_a_student_was_asked() -> None:
    student = ScriptedModel("go")

    trace = await served(Paper(), student)
    alone = await served(AlwaysTeacher(), ScriptedModel("go"))

    assert set(trace.prompt_parts) == {"system", "demonstrations", "history"}
    assert sum(trace.prompt_parts.values()) == sum(
        words(str(message["content"])) + TOKENS_PER_MESSAGE for message in trace.prompt
    )
    assert (alone.prompt_parts, alone.demonstrations) == ({}, ())
    assert Trace.model_validate_json(trace.model_dump_json()).prompt_parts == trace.prompt_parts


async def test_prompts_of_samples_that_were_set_aside_are_counted_too() -> None:
    settings = PromptSettings(unaided_first=True)
    split, agreeing = [["go", "stay", "go"], ["go"]], "go"

    once = (await served(Paper(), ScriptedModel(agreeing), prompt=settings)).prompt_parts
    twice = (await served(Paper(), ScriptedModel(split), prompt=settings)).prompt_parts
    shown = (await served(Paper(), ScriptedModel(agreeing))).prompt_parts

    assert once["demonstrations"] == 0
    assert twice["demonstrations"] == shown["demonstrations"] > 0
    assert twice["system"] == once["system"] + shown["system"] == 2 * once["system"]
