from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import tutelage.generations
from tutelage.generations import Row

PLAN = ("bench", "generations", "household", "--on", "test:2", "--tasks", "3")
FOUND = [
    Row(0, "cascade", 2, 1, 0.1, 0.9, 0.75, 9.5, 0.0123, 0.0456),
    Row(1, "student", 2, 0, 0.0, 0.66, 0.0, 30.0, None, None),
]


def _ends(monkeypatch: pytest.MonkeyPatch, found: list[Row] | None) -> None:
    async def run(*_: object) -> list[Row] | None:
        return found

    Path("out/generations").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(tutelage.generations, "run_generations", run)


def test_generations_are_told_in_a_table_a_file_and_a_plot(
    tutelage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    _ends(monkeypatch, FOUND)

    ran, told = tutelage(*PLAN), tutelage(*PLAN, "--json")

    assert ran.code == 0
    for word in ("oracle teacher", "1/2", "0.10 to 0.90", "$0.01230", "0/2"):
        assert word in ran.out
    assert ran.out.splitlines()[-1] == "wrote out/generations/generations.json"
    written = json.loads((tmp_path / "out/generations/generations.json").read_text())
    assert (tmp_path / "out/generations/generations.png").read_bytes().startswith(b"\x89PNG")
    assert (told.code, told.err, told.json) == (0, "", written)
    assert [row["solved_usd"] for row in written] == [0.0123, None]


def test_what_cannot_be_drawn_is_said(tutelage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    _ends(monkeypatch, FOUND)

    ran = tutelage(*PLAN)

    assert ran.code == 0
    assert "no plot: matplotlib is not installed" in ran.err


def test_a_file_that_cannot_be_written_is_an_error_in_one_line(
    tutelage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ends(monkeypatch, FOUND)
    (tmp_path / "out/generations/generations.json").mkdir(parents=True)

    ran = tutelage(*PLAN)

    assert ran.code == 2
    assert ran.line == ("error: out/generations/generations.json cannot be written: Is a directory")


def test_a_stopped_run_says_how_to_go_on(tutelage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _ends(monkeypatch, None)

    ran = tutelage(*PLAN)

    assert ran.code == 130
    assert "run the same command to go on" in ran.err


def test_splits_that_overlap_are_refused(tutelage: Any) -> None:
    ran = tutelage("bench", "generations", "household", "--on", "train:2", "--tasks", "2")

    assert ran.code == 2
    assert "2 tasks are both in train and in train:2" in ran.line
