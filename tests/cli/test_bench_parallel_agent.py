"""``tutelage bench parallel-agent`` with a toy student, in the household world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.overhead.drafting_server import DraftingServer, Servers

from tutelage.cli import bench_parallel_agent, measuring
from tutelage.overhead import recorded_steps
from tutelage.runtime.models import diffusion_server

GIVEN = (
    *("bench", "parallel-agent", "--learn", "train:3", "--steps", "2", "--distil-steps", "0"),
    *("--set", "retrieval.embedder=hash", "--out", "agent"),
)


@pytest.fixture(autouse=True)
def household(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_parallel_agent, "WORLD", "household")


def test_training_is_graded_kept_and_not_done_again(tutelage: Any) -> None:
    first = tutelage(*GIVEN, "--no-play")
    again = tutelage(*GIVEN, "--no-play", "--json")

    assert first.code == 0, first.err
    assert "taught, one-token: " in first.out
    assert "held-out steps right" in first.out
    assert "the expert plays train:3" in first.err
    assert (again.code, again.err) == (0, "")
    assert again.json["training"]["episodes"] == 3
    assert again.json["standings"] == []
    assert Path("agent/student/diffusion.json").exists()


def test_every_student_plays_the_same_games(tutelage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    causal = Servers()
    monkeypatch.setattr(recorded_steps, "student_servers", lambda config: causal)
    monkeypatch.setattr(
        diffusion_server, "DiffusionStudentServer", lambda folder, threads: DraftingServer(None)
    )

    ran = tutelage(*GIVEN, "--on", "test:1", "--max-steps", "3")

    assert ran.code == 0, ran.err
    told = json.loads(Path("agent/agent.json").read_text())["standings"]
    assert [one["student"] for one in told] == ["diffusion", "SmolLM2, plain", "SmolLM2, n-gram"]
    assert all((one["games"], one["steps"]) == (1, 3) for one in told)
    assert told[2]["forwards_a_step"] < told[1]["forwards_a_step"]
    assert "oracle as the teacher" in ran.out
    plain = [body["messages"] for body in causal.made[0].bodies]
    # SmolLM2 is shown demonstrations.
    assert len(plain[0]) > 2


def test_a_terminal_gets_a_bar_and_a_pipe_a_line_a_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with measuring.measuring(4, quiet=False) as told:
        for done in range(3):
            told("plain", done)
    assert capsys.readouterr().err == "plain (0 of 4 calls) …\n"

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with measuring.measuring(4, quiet=False) as told:
        told("n-gram", 4)
    assert "4/4" in capsys.readouterr().err

    with measuring.measuring(4, quiet=True) as told:
        told("n-gram", 4)
    assert capsys.readouterr().err == ""
