from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tutelage.runtime.models import checkpoint, vllm, vllm_environment

FAKE = [sys.executable, str(Path(__file__).parents[1] / "runtime/models/fake_vllm.py")]


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A checkpoint that is there, and an environment that is made at once."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()

    def fetch(cache: Path, *, progress: Any) -> Path:
        progress("fetching")
        return folder

    def install(cache: Path, *, progress: Any) -> Path:
        progress("installing")
        return cache / "vllm"

    class FakeServer(vllm.VllmServer):
        def __init__(self, checkpoint: Path, **settings: Any) -> None:
            super().__init__(checkpoint, device="cpu", command=FAKE, **settings)

    monkeypatch.setattr(checkpoint, "student_checkpoint", fetch)
    monkeypatch.setattr(vllm_environment, "install_vllm", install)
    monkeypatch.setattr(vllm, "VllmServer", FakeServer)
    return folder


def test_the_checkpoint_is_fetched_into_the_cache(tutelage: Any, fetched: Path) -> None:
    ran = tutelage("student", "checkpoint")

    assert (ran.code, ran.out, ran.err) == (0, f"{fetched}\n", "fetching\n")


def test_installing_makes_checkpoint_and_environment(
    tutelage: Any, fetched: Path, tmp_path: Path
) -> None:
    ran = tutelage("student", "install")

    assert ran.out == f"{fetched}\n{tmp_path / 'cache/vllm'}\n"
    assert ran.err == "fetching\ninstalling\n"


def test_a_server_is_started_kept_and_stopped(tutelage: Any, fetched: Path) -> None:
    none = tutelage("student", "status")
    try:
        started = tutelage("student", "start")
        kept = tutelage("student", "start", "--json")
        status = tutelage("student", "status")
        machine = tutelage("student", "status", "--json")
    finally:
        stopped = tutelage("student", "stop")
    again = tutelage("student", "stop")

    url = kept.json["base_url"]
    assert (none.code, none.out) == (1, "no student server: `tutelage student start`\n")
    assert started.code == 0
    assert f"student ready at {url} (log: {kept.json['log']})" in started.out
    use = f"--set student.base_url={url} --set student.model={kept.json['model']}"
    assert use in started.out
    assert (status.code, status.out) == (0, f"{url}: ready\n")
    assert machine.json == {"base_url": url, "ready": True}
    assert stopped.out == "stopped\n"
    assert again.out == "no student server was running\n"


def test_a_server_guesses_ahead_as_it_is_configured(
    tutelage: Any, fetched: Path, tmp_path: Path
) -> None:
    try:
        started = tutelage(
            *("student", "start", "--json", "--set", "student.speculation.method=ngram"),
            *("--set", "student.speculation.tokens=6", "--set", "cascade.temperature=0"),
        )
    finally:
        tutelage("student", "stop")

    log = Path(started.json["log"]).read_text()
    assert '--speculative-config {"method":"ngram","num_speculative_tokens":6,' in log


def test_a_server_that_does_not_answer_names_its_log(
    tutelage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tutelage.runtime.models import student_server

    state = student_server.StudentServer(1, 1, "http://127.0.0.1:9/v1", "student", "c", "the.log")
    monkeypatch.setattr(student_server, "student_server_state", lambda cache: state)

    ran = tutelage("student", "status")
    machine = tutelage("student", "status", "--json")

    assert (ran.code, machine.code) == (1, 1)
    assert ran.out == "http://127.0.0.1:9/v1: not answering, see the.log\n"
    assert json.loads(machine.out)["ready"] is False
