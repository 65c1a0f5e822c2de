"""Curation of a real store and bank, with episodes that scripted models served."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.isolation import isolate

from tutelage.assembly import Assembly, open_assembly
from tutelage.curating import AfterFeedback, curator, with_dropout
from tutelage.gathering import gather
from tutelage.policies import Choice
from tutelage.retrieval.curation import Promotion
from tutelage.retrieval.exposures import Exposures, SqlExposureLog
from tutelage.runtime.config import load_config
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.types import ChatRequest, Step, Trajectory, Turn

FREE = {"input": 0.0, "output": 0.0}
VALUES: dict[str, Any] = {
    "retrieval.embedder": "hash",
    "teacher.price": FREE,
    "student.price": FREE,
}
ASKED = {
    "model": "m",
    "messages": [{"role": "user", "content": "Task: find the key.\nA room with a drawer 1."}],
}


@pytest.fixture
async def assembly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Assembly]:
    isolate(monkeypatch, tmp_path)
    async with open_assembly(load_config(environment={}, overrides=VALUES)) as opened:
        yield opened


async def play(assembly: Assembly, id: str, actors: tuple[str, ...], **given: Any) -> None:
    """An episode with one step an actor; it succeeds."""
    messages = [{"role": "user", "content": "Task: find the key.\nA room with a drawer 1."}]
    runtimes = {
        name: assembly.runtime(
            teacher=ScriptedModel(f"open drawer 1 for {name}"),
            student=ScriptedModel("look"),
            choice=Choice(policy=f"always-{name}", guards=()),
            **given,
        )
        for name in ("teacher", "student")
    }
    async with runtimes["teacher"].episode(goal="find the key", id=id) as episode:
        for actor in actors:
            request = ChatRequest.model_validate({"model": "m", "messages": list(messages)})
            answer = await runtimes[actor].complete(request, episode=episode)
            messages.append({"role": "assistant", "content": answer.text})
            messages.append({"role": "user", "content": f"{len(messages)}: {answer.text}."})
        await episode.feedback(success=True)


async def test_feedback_turns_the_teachers_answers_into_demonstrations(
    assembly: Assembly,
) -> None:
    await play(assembly, "mixed", ("student", "teacher", "student"))
    heard = AfterFeedback(curator(assembly, source="big"))

    heard.judged("default", "mixed")
    heard.judged("default", "unknown")
    await heard.aclose()

    (trajectory,) = await assembly.bank.trajectories("default")
    assert (trajectory.id, trajectory.source) == ("mixed", "big")
    assert [turn.served for turn in trajectory.turns] == ["student", "teacher", "student"]
    assert len(await assembly.bank.demonstrations("default")) == 1


async def test_what_cannot_be_promoted_now_fails_nothing(
    assembly: Assembly, caplog: pytest.LogCaptureFixture
) -> None:
    await play(assembly, "e", ("teacher",))
    heard = AfterFeedback(curator(assembly))
    with assembly.engine.begin() as connection:
        connection.execute(text("DROP TABLE demonstration_candidates"))

    with caplog.at_level(logging.WARNING):
        heard.judged("default", "e")
        await heard.aclose()

    assert "episode e of default is not harvested yet" in caplog.text


class Promoting:
    """Takes note of the episodes that it is asked about; fails for one of them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_go_on = asyncio.Event()

    async def promote(self, tenant: str, episode_id: str) -> Promotion:
        self.asked.append(episode_id)
        await self.may_go_on.wait()
        if episode_id == "broken":
            raise LookupError("no such row")
        return Promotion(episode_id, 1, 0, 0)


async def test_a_mistake_of_ours_is_logged_and_later_episodes_are_still_promoted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeper = Promoting()
    heard = AfterFeedback(keeper)  # type: ignore[arg-type]

    heard.judged("t", "broken")
    heard.judged("t", "next")
    keeper.may_go_on.set()
    await heard.aclose()

    assert keeper.asked == ["broken", "next"]
    assert "no such row" in caplog.text


async def test_an_episode_that_waits_is_not_promoted_twice_and_not_too_many_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeper = Promoting()
    heard = AfterFeedback(keeper, most_waiting=2)  # type: ignore[arg-type]

    for id in ("one", "one", "two", "three"):
        heard.judged("t", id)
    keeper.may_go_on.set()
    await heard.aclose()

    assert keeper.asked == ["one", "two"]
    assert "episode three of t waits for `tutelage demos curate`" in caplog.text


async def serve(assembly: Assembly, id: str, *, success: bool | None) -> None:
    """An episode of a teacher, served as the gateway and the library serve it."""
    runtime = assembly.runtime(
        teacher=ScriptedModel("open drawer 1"),
        student=ScriptedModel("look"),
        choice=Choice(policy="always-teacher"),
        releases=True,
    )
    async with runtime.episode(goal="find the key", id=id) as episode:
        await episode.complete(ChatRequest.model_validate(ASKED))
        if success is not None:
            await episode.feedback(success=success)


async def test_an_episode_is_searchable_soon_after_its_feedback_and_gone_when_that_is_taken_back(
    assembly: Assembly,
) -> None:
    assert assembly.after_feedback is not None
    step = Step(tenant="default", episode_id="x", index=0, goal="find the key", observation="room")

    await serve(assembly, "judged", success=True)
    await serve(assembly, "not judged", success=None)
    await assembly.after_feedback.aclose()
    found = await assembly.retriever().search(step)
    await serve(assembly, "judged", success=False)
    await assembly.after_feedback.aclose()

    assert [one.demonstration.trajectory_id for one in found] == ["judged"]
    assert await assembly.retriever().search(step) == []


async def test_another_worker_shows_what_feedback_has_brought(assembly: Assembly) -> None:
    assert assembly.after_feedback is not None
    given = {**VALUES, "curation.refresh_s": 1e-9}
    async with open_assembly(load_config(environment={}, overrides=given)) as other:
        student = ScriptedModel("look")
        runtime = other.runtime(
            teacher=ScriptedModel("wait"),
            student=student,
            choice=Choice(policy="always-student"),
            releases=True,
        )
        await serve(assembly, "judged", success=True)
        await assembly.after_feedback.aclose()
        shown: tuple[str, ...] = ()
        async with asyncio.timeout(30):
            while not shown:
                answer = await runtime.complete(ChatRequest.model_validate(ASKED))
                shown = answer.trace.demonstrations

    assert shown == ("judged:0",)


async def test_what_does_harm_is_found_in_traffic_and_quarantined(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The student fails where its prompt shows one demonstration, and succeeds otherwise."""
    isolate(monkeypatch, tmp_path)
    given = {**VALUES, "curation.dropout_share": 0.3}
    async with open_assembly(load_config(environment={}, overrides=given)) as opened:
        for id, action in (("good", "open drawer 1"), ("bad", "close the door")):
            turns = (Turn("A room with a drawer 1.", action),)
            await opened.bank.add(
                [
                    Trajectory(
                        id=id,
                        tenant="default",
                        goal="find the key",
                        turns=turns,
                        success=True,
                        source="teacher",
                    )
                ]
            )
        runtime = opened.runtime(
            teacher=ScriptedModel("wait"),
            student=ScriptedModel("look"),
            choice=Choice(policy="always-student"),
            releases=True,
        )
        for number in range(40):
            async with runtime.episode(goal="find the key", id=f"e{number}") as episode:
                answer = await episode.complete(ChatRequest.model_validate(ASKED))
                await episode.feedback(success="bad:0" not in answer.trace.demonstrations)
        await opened.exposures.flush()
        keeper = curator(opened)
        worth = {one.trajectory_id: one.episodes for one in await keeper.worth("default")}
        curated = await keeper.curate("default")
        held = await keeper.quarantined("default")

    bad, good = worth["bad"], worth["good"]
    assert bad is not None
    assert good is not None
    assert bad.shown + bad.left_out == good.shown + good.left_out == 40
    assert min(bad.left_out, good.left_out) >= 3
    assert bad.is_harmful
    assert not good.is_harmful
    assert curated.harmful == 1
    assert [one.trajectory_id for one in held] == ["bad"]


async def test_nothing_is_promoted_at_once_where_that_is_switched_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    isolate(monkeypatch, tmp_path)
    given = {**VALUES, "curation.after_feedback": False}
    async with open_assembly(load_config(environment={}, overrides=given)) as opened:
        await serve(opened, "judged", success=True)
        assert opened.after_feedback is None
        before = await opened.bank.size("default")
        await curator(opened).curate("default")

        assert (before, await opened.bank.size("default")) == (0, 1)


async def test_a_harvest_and_a_full_run_agree(assembly: Assembly) -> None:
    await play(assembly, "whole", ("teacher", "teacher"))
    gathered = await gather(assembly, "default")

    done = await curator(assembly).curate("default")

    assert gathered.added == 1
    # The harvest took note of both answers; the full run finds their trajectory in the bank.
    assert (done.candidates, done.promoted) == (0, 2)
    assert len(await assembly.bank.trajectories("default")) == 1


async def test_a_harvest_says_what_the_gate_held_back(assembly: Assembly) -> None:
    await play(assembly, "one", ("teacher",))
    await play(assembly, "two", ("teacher",))

    gathered = await gather(assembly, "default")

    assert gathered.added == 1
    assert gathered.rejected == {"the bank has the same already": 1}


async def test_what_is_left_out_by_chance_is_not_in_the_prompt(assembly: Assembly) -> None:
    await play(assembly, "whole", ("teacher", "teacher"))
    await gather(assembly, "default")
    log = SqlExposureLog(assembly.engine)
    almost_all = with_dropout(assembly.retriever(), log, share=0.999999, seed=1)

    await play(assembly, "next", ("student", "student"), retriever=almost_all)
    await log.aclose()

    for trace in await assembly.traces.traces("default", episode_id="next"):
        assert trace.demonstrations == ()
    notes = Exposures(assembly.engine).of_tenant("default")
    assert [(one.episode_id, one.shown, one.left_out) for one in notes] == [
        ("next", (), ("whole",)),
        ("next", (), ("whole",)),
    ]
