"""Curation of a real store and bank, with episodes that scripted models served."""

from __future__ import annotations

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
from tutelage.retrieval.exposures import Exposures, SqlExposureLog
from tutelage.runtime.config import load_config
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.types import ChatRequest

FREE = {"input": 0.0, "output": 0.0}


@pytest.fixture
async def assembly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Assembly]:
    isolate(monkeypatch, tmp_path)
    values = {"retrieval.embedder": "hash", "teacher.price": FREE, "student.price": FREE}
    async with open_assembly(load_config(environment={}, overrides=values)) as opened:
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
