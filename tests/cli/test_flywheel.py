from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from tests.scripted_endpoint import ScriptedEndpoint

from tutelage import loop
from tutelage.cli.duration import seconds
from tutelage.cli.training_bar import listeners
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.store.database import open_engine
from tutelage.runtime.store.locks import SqlLocks
from tutelage.training.canary import CanaryState
from tutelage.training.flywheel import FlywheelResult
from tutelage.training.recipes.recipe import TrainingProgress
from tutelage.training.runs import SqlRuns

LOCK = loop.lock_name("default", "student")


@pytest.fixture
def options(endpoint: ScriptedEndpoint) -> tuple[str, ...]:
    return (
        *("--set", "releases.student=student"),
        *("--set", "retrieval.embedder=hash"),
        *endpoint.settings("student"),
        *endpoint.settings("teacher"),
    )


def test_without_traces_a_run_waits(tutelage: Any, options: tuple[str, ...]) -> None:
    ran = tutelage("flywheel", "run", *options)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("waiting: 0 new verified traces")
    assert "gather: begins" in ran.err
    told = tutelage("flywheel", "run", "--json", *options).json
    assert told["state"] == "waiting"
    status = tutelage("flywheel", "status", *options).out
    assert "running at: nowhere; new verified traces: 0" in status
    assert "gather" in status
    found = tutelage("flywheel", "status", "--json", *options).json
    assert (found["holder"], found["new_traces"], len(found["runs"])) == (None, 0, 1)
    assert found["runs"][0]["id"] == told["run"]


def test_another_process_is_left_alone(
    tutelage: Any, options: tuple[str, ...], tmp_path: Path
) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'tutelage.sqlite'}")
    SqlLocks(engine, time.time).take(LOCK, "elsewhere:1", 100)
    ran = tutelage("flywheel", "run", *options)
    assert (ran.code, ran.out) == (0, "busy: elsewhere:1 is at it\n")
    assert "running at: elsewhere:1" in tutelage("flywheel", "status", *options).out
    engine.dispose()


def test_a_run_that_is_given_up_ends_with_an_error(
    tutelage: Any, options: tuple[str, ...], tmp_path: Path
) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'tutelage.sqlite'}")
    locks = SqlLocks(engine, time.time)
    locks.take(LOCK, "dead", 100)
    runs = SqlRuns(engine, time.time, lock=LOCK, holder="dead")
    run = runs.begin("default", "student")
    for _ in range(3):
        runs.begin_stage(run.id, "gather")
        runs.fail_stage(run.id, "gather", "the disk is full")
    locks.free(LOCK, "dead")
    engine.dispose()
    ran = tutelage("flywheel", "run", *options)
    assert ran.code == 1
    assert "error: gather failed 3 times: the disk is full" in ran.err


@pytest.mark.parametrize("given", [("--every", "6h"), ("--when-new", "10"), ()])
def test_it_turns_as_often_as_it_is_told(
    tutelage: Any,
    options: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[str, ...],
) -> None:
    asked: list[tuple[float, int | None]] = []

    async def again(assembly: Any, tenant: str, every_s: float, heard: Any, **more: Any) -> None:
        asked.append((every_s, more["when_new"]))
        more["told"](FlywheelResult("r", "finished", "student@1 was promoted"))
        more["failed"](ConfigError("out of memory"))

    async def once(*_: Any) -> FlywheelResult:
        return FlywheelResult("r", "finished", "student@1 was promoted")

    monkeypatch.setattr(loop, "turn_again_and_again", again)
    monkeypatch.setattr(loop, "turn", once)
    ran = tutelage("flywheel", "run", *given, *options)
    assert ran.out == "finished: student@1 was promoted\n"
    expected = {(): [], ("--every", "6h"): [(21600.0, None)], ("--when-new", "10"): [(300.0, 10)]}
    assert asked == expected[given]
    assert ("error: out of memory" in ran.err) is bool(given)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("flywheel", "run", "--every", "often"), "--every 'often' is no duration"),
        (("flywheel", "status", "--set", "tenant=x"), "releases.student is not set"),
        (("flywheel", "run", "--set", "training.recipe=x", "--set", "tenant=x"), "student"),
    ],
)
def test_wrong_usage_is_one_line(
    tutelage: Any, arguments: tuple[str, ...], said: str, endpoint: ScriptedEndpoint
) -> None:
    prices = [*endpoint.settings("student"), *endpoint.settings("teacher")]
    ran = tutelage(*arguments, "--set", "retrieval.embedder=hash", *prices)
    assert ran.code == 2
    assert said in ran.line


def test_training_without_traces_says_what_is_missing(
    tutelage: Any, options: tuple[str, ...]
) -> None:
    ran = tutelage("train", *options)
    assert ran.code == 1
    assert "0 new verified traces" in ran.err


def test_training_tells_where_the_checkpoint_is(
    tutelage: Any, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def once(*_: Any, **__: Any) -> dict[str, object]:
        return {"checkpoint": "out/train/student", "tokens": 7}

    monkeypatch.setattr(loop, "train_once", once)
    assert "wrote out/train/student" in tutelage("train", *options).out
    assert tutelage("train", "--json", *options).json["tokens"] == 7


@pytest.mark.parametrize(
    ("text", "wanted"), [("90s", 90), ("30m", 1800), ("6h", 21600), ("1d", 86400), ("1.5 H", 5400)]
)
def test_durations_are_read(text: str, wanted: float) -> None:
    assert seconds(text, "--every") == wanted


@pytest.mark.parametrize("text", ["", "6", "h", "-1h", "0s", "1w", "1h30m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write 90s"):
        seconds(text, "--every")


def test_progress_has_loss_speed_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    async def look() -> None:
        with listeners(quiet=False) as heard:
            assert heard.stage is not None
            assert heard.training is not None
            assert heard.canary is not None
            heard.stage("train", "begins")
            for step in (1, 2):
                heard.training(TrainingProgress(step, 4, 1.25, 100, 321.0, 7.0))
            for _ in range(2):
                heard.canary(CanaryState("continue", 0.05, 3, 40, 2, 30))

    asyncio.run(look())
    told = capsys.readouterr().err
    assert "train: begins" in told
    assert "loss 1.250, 321 tokens/s, 7 s left" in told
    assert told.count("canary 2 of 3 episodes, others 30 of 40, share 0.05") == 1
    with listeners(quiet=True) as silent:
        assert silent.training is None
