from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

HASH = ("--set", "retrieval.embedder=hash")


@pytest.fixture
def start(tutelage: Any, tmp_path: Path) -> Any:
    def started(*arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tutelage.cli.main", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "TUTELAGE_CACHE": str(tmp_path / "cache")},
        )

    return started


def keys(path: Path) -> list[tuple[str, str]]:
    return [(one["arm"], one["task_id"]) for one in map(json.loads, path.read_text().splitlines())]


def until(event: threading.Event, process: subprocess.Popen[str]) -> None:
    """Waits as long as the process lives."""
    while not event.wait(0.1):
        assert process.poll() is None, process.communicate()


def test_ctrl_c_keeps_finished_episodes_and_a_second_run_repeats_none(
    tutelage: Any, start: Any, endpoint: Any, tmp_path: Path
) -> None:
    results = tmp_path / "out/household/results.jsonl"
    held, go_on = threading.Event(), threading.Event()

    def say(body: dict[str, Any], index: int) -> str:
        # The first episode is played, the second one waits to be interrupted.
        if results.exists() and results.read_text().count("\n") and not go_on.is_set():
            held.set()
            go_on.wait(600)
        return "look"

    endpoint.say = say
    arms = ("--arms", "student", "--split", "test:3", "--max-steps", "3", "--jobs", "1")
    command = ("replay", "household", *arms, *HASH, *endpoint.settings("student"))

    with start(*command) as process:
        until(held, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    before = keys(results)
    go_on.set()
    second = tutelage(*command, "--json")

    assert (process.returncode, err) == (130, "")
    assert out.splitlines()[0].startswith("interrupted: 1 of 3 episodes done, $")
    assert out.splitlines()[0].endswith("; go on with: the same command")
    assert len(before) == 1
    assert (second.code, second.json["done"]) == (0, 3)
    assert keys(results)[:1] == before
    assert len(keys(results)) == len(set(keys(results))) == 3


def test_ctrl_c_keeps_scored_steps(
    tutelage: Any, start: Any, played: Any, endpoint: Any, tmp_path: Path
) -> None:
    scores = played.results / f"{tmp_path.name}.jsonl"
    held, go_on = threading.Event(), threading.Event()

    def say(body: dict[str, Any], index: int) -> str:
        if scores.exists() and scores.read_text().count("\n") == 2 and not held.is_set():
            held.set()
            go_on.wait(600)
        return "look"

    endpoint.say = say
    what = ("--arms", "student", "--steps", "5", "--jobs", "1", "--name", scores.name)
    command = ("accuracy", played.results, *what, *played.store, *endpoint.settings("student"))

    with start(*command) as process:
        until(held, process)
        process.send_signal(signal.SIGINT)
        go_on.set()
        _, err = process.communicate(timeout=600)
    kept = scores.read_text().splitlines()
    second = tutelage(*command, "--json")

    assert process.returncode == 130
    assert err == f"interrupted: {len(kept)} scores kept; go on with: the same command\n"
    assert 2 <= len(kept) < 5
    assert second.json[0]["steps"] == 5
    assert scores.read_text().splitlines()[: len(kept)] == kept


def test_ctrl_c_before_anything_began_is_no_traceback(start: Any, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from tutelage.cli import main, doctor; import tutelage.checkup;"
        "tutelage.checkup.examine = lambda config: os.kill(os.getpid(), signal.SIGINT);"
        "sys.argv = ['tutelage', 'doctor']; main.main()"
    )

    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )

    assert (ran.returncode, ran.stderr) == (130, "")
