"""What a real runtime traces becomes what it serves: training and serving have one format."""

from __future__ import annotations

from typing import Any

import pytest
from tests.training.data.episodes import words

from tutelage.cascade.agreement import Unanimous
from tutelage.cascade.always_student import AlwaysStudent
from tutelage.cascade.always_teacher import AlwaysTeacher
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.runtime.ledger import Ledger
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.pipeline import Runtime
from tutelage.runtime.pricing import Price
from tutelage.runtime.prompt import PromptSettings
from tutelage.runtime.store.memory import MemoryTraceStore
from tutelage.runtime.types import ChatRequest, EpisodeRecord, Message
from tutelage.training.data.dataset import DatasetSettings, build_dataset
from tutelage.training.data.examples import ExampleSettings
from tutelage.training.data.recorded import record_episodes
from tutelage.training.data.trace_gate import TraceRules

ACTIONS = ["go to desk 1", "open drawer 1", "take pen 1", "go to shelf 2", "put pen 1 on shelf 2"]
CALL: dict[str, Any] = {
    "id": "x",
    "type": "function",
    "function": {"name": "search", "arguments": '{"what": "pen"}'},
}
TOOL = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}
CALL_ANSWER = Message(role="assistant", content=None, tool_calls=[CALL])


def transcript(upto: int, *, calls: bool) -> list[dict[str, Any]]:
    """An agent's messages; with ``calls`` its second action is a tool call."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You tidy rooms."},
        {"role": "user", "content": "Task: tidy up.\nA room."},
    ]
    for index, action in enumerate(ACTIONS[:upto]):
        if calls and index == 1:
            messages.append({"role": "assistant", "content": None, "tool_calls": [CALL]})
            messages.append({"role": "tool", "content": "Saw 1.", "tool_call_id": "x"})
        else:
            messages.append({"role": "assistant", "content": action})
            messages.append({"role": "user", "content": f"Saw {index}."})
    return messages


def without_ids(messages: Any) -> list[dict[str, Any]]:
    plain = []
    for message in messages:
        kept = {name: value for name, value in message.items() if name != "tool_call_id"}
        if kept.get("tool_calls"):
            kept["tool_calls"] = [one["function"] for one in kept["tool_calls"]]
        plain.append(kept)
    return plain


@pytest.mark.parametrize("calls", [False, True])
@pytest.mark.parametrize("history", [1, 2, None])
async def test_a_step_is_trained_on_as_the_student_will_be_asked(
    history: int | None, calls: bool
) -> None:
    prompt = PromptSettings(history_turns=history)
    store, student = MemoryTraceStore(), ScriptedModel("look")
    canonical = Unanimous(TextCanonicalizer())
    ledger = Ledger({"teacher": Price(input=10, output=20), "student": Price(1, 2)})

    def answer(request: ChatRequest) -> str | Message:
        step = sum(message.role == "assistant" for message in request.messages)
        return CALL_ANSWER if calls and step == 1 else ACTIONS[step]

    for policy, id in ((AlwaysTeacher(), "taught"), (AlwaysStudent(), "served")):
        runtime = Runtime(
            teacher=ScriptedModel(answer),
            student=student,
            agreement=canonical,
            policy=policy,
            traces=store,
            ledger=ledger,
            prompt=prompt,
            count_tokens=words,
        )
        async with runtime.episode(goal="tidy up.", id=id) as episode:
            for step in range(len(ACTIONS)):
                request: dict[str, Any] = {
                    "model": "agent",
                    "messages": transcript(step, calls=calls),
                    **({"tools": [TOOL]} if calls else {}),
                }
                await runtime.complete(ChatRequest.model_validate(request), episode=episode)
            await episode.feedback(success=True)
        await runtime.aclose()

    traces = await store.traces("default", episode_id="taught")
    record = await store.episode("default", "taught")
    assert isinstance(record, EpisodeRecord)
    dataset = build_dataset(
        record_episodes(traces, [record]),
        DatasetSettings(TraceRules(frozenset({"default"})), ExampleSettings(prompt=prompt)),
        words,
    )

    asked = [
        [message.model_dump(exclude_unset=True) for message in request.messages]
        for request in student.requests
    ]
    trained = [list(example.messages[:-1]) for example in dataset.examples]
    assert len(trained) == len(asked) == len(ACTIONS)
    offered = [list(example.tools) or None for example in dataset.examples]
    assert offered == [request.tools for request in student.requests]
    assert [without_ids(one) for one in trained] == [without_ids(one) for one in asked]
