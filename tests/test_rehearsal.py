from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate
from tests.scripted_endpoint import ScriptedEndpoint

from tutelage.assembly import Assembly, open_assembly
from tutelage.benchmarks.accuracy import ScoreFile
from tutelage.benchmarks.arms import find_arms
from tutelage.benchmarks.manifest import read_manifest
from tutelage.benchmarks.progress import Unwatched
from tutelage.benchmarks.results import read_results
from tutelage.rehearsal import Play, collect, measure_accuracy, replay, teacher_kind
from tutelage.runtime.config import load_config
from tutelage.runtime.errors import BenchmarkError, ConfigError

WATCHER = Unwatched()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture
def student() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint() as made:
        yield made


def given(student: ScriptedEndpoint, **changes: Any) -> Any:
    values = {
        "retrieval.embedder": "hash",
        "cascade.grammar": "household",
        "teacher.priced_as": "claude-sonnet-4-5",
        "student.base_url": student.base_url,
        "student.model": "small",
        "student.priced_as": "gpt-4.1-mini",
        "student.attempts": 1,
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    return load_config(environment={}, overrides=values)


@pytest.fixture
async def assembly(student: ScriptedEndpoint) -> AsyncIterator[Assembly]:
    async with open_assembly(given(student)) as opened:
        yield opened


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(world="household", split="test:1", out=tmp_path / "out", jobs=1, max_steps=6)


def test_the_teacher_is_an_oracle_or_the_configured_model() -> None:
    assert (teacher_kind("oracle"), teacher_kind("model")) == ("oracle", "model")
    with pytest.raises(ConfigError, match="--teacher 'gpt' is unknown"):
        teacher_kind("gpt")


async def test_the_manifest_tells_what_the_results_depend_on(
    assembly: Assembly, play: Play, student: ScriptedEndpoint
) -> None:
    arms = find_arms(["student", "demos"])
    bank = replace(play, out=play.out.parent / "bank", split="train:2", max_steps=50)
    await collect(assembly, bank, WATCHER)

    summary = await replay(assembly, play, arms, WATCHER)

    manifest = read_manifest(play.out)
    assert manifest is not None
    settings = manifest.settings
    assert (summary.stopped, summary.done) == ("finished", 2)
    assert settings.teacher == "a scripted searcher that knows only what it has seen"
    assert settings.student == "small"
    assert settings.teacher_priced_as == "claude-sonnet-4-5"
    assert settings.prices_date[:2] == "20"
    assert settings.bank_episodes == 2
    assert settings.more["bank"] == await assembly.bank.version("default")
    assert read_manifest(bank.out) is not None


async def test_arms_without_demonstrations_do_not_depend_on_the_bank(
    assembly: Assembly, play: Play
) -> None:
    await replay(assembly, play, find_arms(["student"]), WATCHER)

    manifest = read_manifest(play.out)
    assert manifest is not None
    assert manifest.settings.bank_episodes == 0
    assert manifest.settings.more["bank"] is None
    assert manifest.settings.more["retrieval"] is None


async def test_the_teacher_alone_needs_no_student(
    student: ScriptedEndpoint, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(self: Assembly) -> Any:
        raise AssertionError("the student was made")

    monkeypatch.setattr(Assembly, "student", never)
    async with open_assembly(given(student)) as assembly:
        await replay(assembly, play, find_arms(["teacher", "recall"]), WATCHER)

    assert {result.arm for result in read_results(play.out)} == {"teacher", "recall"}
    assert student.bodies == []


async def test_the_vote_of_retrieved_actions_uses_no_model(
    assembly: Assembly, play: Play, student: ScriptedEndpoint
) -> None:
    bank = replace(play, out=play.out.parent / "bank", split="train:4", max_steps=50)
    await collect(assembly, bank, WATCHER)

    await replay(assembly, play, find_arms(["recall"]), WATCHER)

    (result,) = read_results(play.out)
    assert student.bodies == []
    assert result.student_steps == result.steps > 0
    assert result.total_cost_usd == 0


async def test_what_is_agreed_on_is_what_is_done(
    assembly: Assembly, play: Play, student: ScriptedEndpoint
) -> None:
    spoken = iter(["Action: Look.", "look", "LOOK"] * 100)
    student.say = lambda body, index: next(spoken)

    await replay(assembly, replace(play, max_steps=1), find_arms(["cascade"]), WATCHER)

    (result,) = read_results(play.out)
    assert result.reasons == {"agreed": 1}
    assert result.refused_steps == {}


async def test_settings_that_fit_no_arm_are_found_before_a_world_starts(
    student: ScriptedEndpoint, play: Play
) -> None:
    async with open_assembly(given(student, cascade__samples=1)) as assembly:
        with pytest.raises(ConfigError, match="agreement needs at least 2 samples"):
            await replay(assembly, play, find_arms(["student", "cascade"]), WATCHER)

    assert not play.out.exists()


async def test_a_stopped_collection_keeps_what_is_done(assembly: Assembly, play: Play) -> None:
    stop = asyncio.Event()

    class Stops(Unwatched):
        def finished(self, result: Any) -> None:
            stop.set()

    many = replace(play, split="train:3", max_steps=50)
    stopped = await collect(assembly, many, Stops(), stop)
    resumed = await collect(assembly, many, WATCHER)

    assert (stopped.summary.stopped, stopped.added) == ("interrupted", 1)
    assert (resumed.added, resumed.duplicates) == (2, 1)


async def test_failed_episodes_teach_nothing(assembly: Assembly, play: Play) -> None:
    collected = await collect(assembly, replace(play, max_steps=1), WATCHER)

    assert not read_results(play.out)[0].success
    assert (collected.added, collected.rejected, collected.demonstrations) == (0, 0, 0)


async def test_an_unnamed_teacher_model_is_called_teacher(
    student: ScriptedEndpoint, play: Play
) -> None:
    values = {"teacher__base_url": student.base_url, "teacher__model": "big"}
    async with open_assembly(given(student, **values)) as assembly:
        limited = replace(play, teacher="model", max_steps=1)
        await replay(assembly, limited, find_arms(["teacher"]), WATCHER)

    manifest = read_manifest(play.out)
    assert manifest is not None
    assert (manifest.settings.teacher, manifest.settings.teacher_kind) == ("big", "model")
    assert student.bodies[0]["model"] == "big"


async def test_an_in_process_student_is_named_by_its_folder(
    student: ScriptedEndpoint, play: Play, tiny_llama: Path, tmp_path: Path
) -> None:
    here = {"student__base_url": None, "student__model": None}
    for checkpoint, name in ((str(tiny_llama), tiny_llama.name), (None, "SmolLM2-135M-Instruct")):
        config = given(student, **here, student__checkpoint=checkpoint)
        out = tmp_path / name
        async with open_assembly(config) as assembly:
            await replay(assembly, replace(play, out=out), find_arms(["teacher"]), WATCHER)
        manifest = read_manifest(out)
        assert manifest is not None
        assert manifest.settings.student == f"{name} in this process"


async def test_accuracy_is_measured_on_the_teachers_own_states(
    assembly: Assembly, play: Play, student: ScriptedEndpoint
) -> None:
    await replay(assembly, replace(play, max_steps=50), find_arms(["teacher"]), WATCHER)
    scores = ScoreFile(play.out / "steps.jsonl")
    told: list[tuple[str, int, int]] = []

    await measure_accuracy(
        assembly,
        play.out,
        scores,
        names=["student", "recall"],
        steps=3,
        progress=lambda *report: told.append(report),
    )

    assert told[0] == ("student", 0, 3)
    assert told[-1] == ("recall", 3, 3)
    assert {(one.arm, one.agreed) for one in scores.scores} == {("student", True), ("recall", None)}
    greedy = [body for body in student.bodies if "n" not in body]
    assert {body["temperature"] for body in greedy} == {0.0}
    assert {body["n"] for body in student.bodies if "n" in body} == {3}


async def test_a_step_too_long_for_the_student_counts_as_wrong(
    student: ScriptedEndpoint, play: Play
) -> None:
    async with open_assembly(given(student)) as assembly:
        await replay(assembly, replace(play, max_steps=50), find_arms(["teacher"]), WATCHER)
    scores = ScoreFile(play.out / "steps.jsonl")

    async with open_assembly(given(student, prompt__max_prompt_tokens=64)) as assembly:
        await measure_accuracy(assembly, play.out, scores, names=["student"], steps=2)

    assert [(one.named, one.agreed, one.exact) for one in scores.scores] == [
        (None, False, False)
    ] * 2
    assert student.bodies == []


async def test_a_stopped_measurement_asks_nothing_more(
    assembly: Assembly, play: Play, student: ScriptedEndpoint
) -> None:
    await replay(assembly, replace(play, max_steps=50), find_arms(["teacher"]), WATCHER)
    scores = ScoreFile(play.out / "steps.jsonl")
    stop = asyncio.Event()
    stop.set()

    await measure_accuracy(assembly, play.out, scores, names=["student"], steps=3, stop=stop)

    assert student.bodies == []
    assert scores.scores == []


async def test_a_folder_of_another_store_has_no_steps(
    student: ScriptedEndpoint, assembly: Assembly, play: Play
) -> None:
    await replay(assembly, replace(play, max_steps=50), find_arms(["teacher"]), WATCHER)
    other = given(student, store__url="sqlite:///other.sqlite")

    async with open_assembly(other) as elsewhere:
        with pytest.raises(BenchmarkError, match=r"is in sqlite:///other.sqlite: play some first"):
            await measure_accuracy(
                elsewhere, play.out, ScoreFile(play.out / "s.jsonl"), names=["student"], steps=3
            )
