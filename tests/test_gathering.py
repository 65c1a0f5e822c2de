"""A user's episodes in a real store and bank, served by scripted models."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate

from tutelage.assembly import Assembly, open_assembly
from tutelage.benchmarks.arms import find_arms
from tutelage.benchmarks.progress import Unwatched
from tutelage.gathering import gather
from tutelage.policies import Choice
from tutelage.rehearsal import Play, collect, replay
from tutelage.runtime.config import Config, load_config
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.types import ChatRequest, EpisodeRecord, Message

TEACHER = ("open drawer 1", "take key 1 from drawer 1")
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"what":"key"}'}}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def given(**changes: Any) -> Config:
    free = {"input": 0.0, "output": 0.0}
    values = {"retrieval.embedder": "hash", "teacher.price": free, "student.price": free}
    return load_config(environment={}, overrides=values | changes)


@pytest.fixture
async def assembly() -> AsyncIterator[Assembly]:
    async with open_assembly(given()) as opened:
        yield opened


async def play(
    assembly: Assembly,
    id: str,
    policies: tuple[str, ...] = ("always-teacher", "always-teacher"),
    *,
    success: bool | None = True,
    tenant: str = "default",
    model: str = "gpt-4.1",
    task_id: str | None = None,
) -> None:
    """An episode of one step a policy, with its feedback."""
    messages = [{"role": "user", "content": "Task: find the key.\nA room with a drawer 1."}]
    first = assembly.runtime(teacher=ScriptedModel(""), student=None, choice=Choice(guards=()))
    opened = first.episode(goal="find the key", tenant=tenant, id=id, task_id=task_id)
    async with opened as episode:
        for action, policy in zip(TEACHER, policies, strict=False):
            runtime = assembly.runtime(
                teacher=ScriptedModel(action),
                student=ScriptedModel("look"),
                choice=Choice(policy=policy, guards=()),
            )
            request = ChatRequest.model_validate({"model": model, "messages": list(messages)})
            answer = await runtime.complete(request, episode=episode)
            messages.append({"role": "assistant", "content": answer.text})
            messages.append({"role": "user", "content": f"You did: {answer.text}."})
        if success is not None:
            await episode.feedback(success=success)


async def test_the_teachers_successful_episodes_become_demonstrations_once(
    assembly: Assembly,
) -> None:
    await play(assembly, "good")
    await play(assembly, "failed", success=False)
    await play(assembly, "open", success=None)

    first = await gather(assembly, "default")
    again = await gather(assembly, "default")

    assert (first.successful, first.added, first.duplicates, first.rejected) == (1, 1, 0, {})
    assert first.demonstrations == 2
    assert (again.successful, again.added, again.duplicates) == (1, 0, 1)
    (trajectory,) = await assembly.bank.trajectories("default")
    assert (trajectory.id, trajectory.goal, trajectory.source) == (
        "good",
        "find the key",
        "gpt-4.1",
    )
    assert [turn.action for turn in trajectory.turns] == list(TEACHER)
    assert [turn.observation for turn in trajectory.turns] == [
        "A room with a drawer 1.",
        "You did: open drawer 1.",
    ]


async def test_what_was_gathered_is_retrieved_for_the_next_episode(assembly: Assembly) -> None:
    await play(assembly, "good")
    await gather(assembly, "default")

    await play(assembly, "next", ("always-student",))

    (trace,) = await assembly.traces.traces("default", episode_id="next")
    shown = [message["content"] for message in trace.prompt if message["role"] == "assistant"]
    assert trace.demonstrations == ("good:0",)
    assert shown == ["open drawer 1"]


async def test_episodes_with_student_steps_are_taken_only_when_asked_for(
    assembly: Assembly,
) -> None:
    await play(assembly, "both", ("always-student", "always-teacher"))
    await play(assembly, "student", ("always-student", "always-student"))

    plain = await gather(assembly, "default")
    mixed = await gather(assembly, "default", mixed=True)

    assert plain.added == 0
    assert plain.rejected == {
        "the student took a step (--mixed takes such episodes)": 1,
        "the student took every step": 1,
    }
    assert (mixed.added, mixed.rejected) == (1, {"the student took every step": 1})
    (demonstration,) = await assembly.bank.demonstrations("default")
    assert (demonstration.id, demonstration.action) == ("both:1", TEACHER[1])
    assert [turn.served for turn in demonstration.window] == ["student", "teacher"]


async def test_episodes_without_all_of_their_steps_are_not_taken(assembly: Assembly) -> None:
    record = EpisodeRecord(id="bare", tenant="default", success=True, created_at_s=1.0)
    await assembly.traces.record_episode(record)
    await play(assembly, "whole")
    (last, _) = await assembly.traces.traces("default", episode_id="whole")
    await assembly.traces.append(last.model_copy(update={"id": "t", "episode_id": "torn"}))
    await assembly.traces.record_episode(record.model_copy(update={"id": "torn"}))

    gathered = await gather(assembly, "default")

    assert (gathered.successful, gathered.added) == (3, 1)
    assert gathered.rejected == {
        "a step is missing or names no action": 1,
        "none of its steps is stored": 1,
    }


async def test_what_the_bank_rejects_is_told(assembly: Assembly) -> None:
    runtime = assembly.runtime(
        teacher=ScriptedModel("wait"), student=None, choice=Choice(guards=())
    )
    request = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user"}]})
    async with runtime.episode(id="aimless") as episode:
        await episode.complete(request)
        await episode.feedback(success=True)

    gathered = await gather(assembly, "default")

    assert (gathered.added, gathered.rejected) == (0, {"it has no goal": 1})


async def test_a_retired_episode_stays_retired(assembly: Assembly) -> None:
    await play(assembly, "good")
    await gather(assembly, "default")
    assert await assembly.bank.retire("default", "good")

    again = await gather(assembly, "default")

    assert (again.successful, again.added, again.duplicates) == (1, 0, 1)
    assert again.demonstrations == 0


async def test_tool_calls_become_demonstrations(assembly: Assembly) -> None:
    told = Message(role="assistant", tool_calls=[CALL])
    runtime = assembly.runtime(
        teacher=ScriptedModel([[told]]), student=None, choice=Choice(guards=())
    )
    request = ChatRequest.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": "Where is the key?"}]}
    )
    async with runtime.episode(goal="find the key") as episode:
        await episode.complete(request)
        await episode.feedback(success=True)

    assert (await gather(assembly, "default")).added == 1

    (demonstration,) = await assembly.bank.demonstrations("default")
    assert json.loads(demonstration.action) == {
        "tool_calls": [{"name": "find", "arguments": '{"what":"key"}'}]
    }


async def test_tenants_are_kept_apart(assembly: Assembly) -> None:
    await play(assembly, "theirs", tenant="acme")

    assert (await gather(assembly, "default")).successful == 0
    assert (await gather(assembly, "acme")).added == 1
    assert await assembly.bank.size("default") == 0
    assert await assembly.bank.size("acme") == 2


async def test_the_teacher_is_named_by_the_caller_or_the_configuration() -> None:
    async with open_assembly(given(**{"teacher.model": "big"})) as assembly:
        await play(assembly, "one")
        await gather(assembly, "default")
        await play(assembly, "two")
        await gather(assembly, "default", source="claude")
        trajectories = await assembly.bank.trajectories("default")

    assert [trajectory.source for trajectory in trajectories] == ["big", "claude"]


async def test_benchmark_episodes_are_left_to_collect(tmp_path: Path) -> None:
    async with open_assembly(given(**{"cascade.grammar": "household"})) as assembly:
        bank = Play("household", "train:1", tmp_path / "bank", jobs=1)
        test = Play("household", "test:1", tmp_path / "test", jobs=1)
        await collect(assembly, bank, Unwatched())
        await replay(assembly, test, find_arms(["teacher"]), Unwatched())
        # A user's own episode may look alike, up to the model that is asked for.
        await play(assembly, f"agent-{'0' * 32}", task_id="own")

        gathered = await gather(assembly, "default")

        assert (gathered.benchmark, gathered.successful, gathered.added) == (2, 1, 1)
        assert len(await assembly.bank.trajectories("default")) == 2


def test_the_command_line_says_how_many_were_taken_and_why_not(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fill() -> None:
        async with open_assembly(given()) as assembly:
            await play(assembly, "good")
            await play(assembly, "both", ("always-student", "always-teacher"))

    def harvest(*options: str) -> str:
        from tutelage.cli.main import main

        command = ("tutelage", "demos", "harvest", "--set", "retrieval.embedder=hash", *options)
        monkeypatch.setattr(sys, "argv", list(command))
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capfd.readouterr().out

    nothing = harvest()
    asyncio.run(fill())
    plain = harvest()
    mixed = json.loads(harvest("--mixed", "--source", "big", "--json"))

    assert nothing.splitlines()[-1] == (
        "an episode counts once it has had `feedback(success=True)`"
    )
    assert plain.splitlines() == [
        "2 successful episodes: 1 added to the bank, 0 there already, 1 not taken",
        "  1: the student took a step (--mixed takes such episodes)",
        "bank: 2 demonstrations",
    ]
    assert mixed == {
        "successful": 2,
        "added": 1,
        "duplicates": 1,
        "rejected": {},
        "benchmark": 0,
        "demonstrations": 3,
    }
