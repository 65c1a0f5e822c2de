from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks.tiny_world import result, settings

from tutelage.benchmarks.arms import ARMS
from tutelage.benchmarks.manifest import Manifest, write_manifest
from tutelage.benchmarks.results import RESULTS_FILE
from tutelage.benchmarks.results_table import markdown, results_table, to_json
from tutelage.runtime.errors import BenchmarkError
from tutelage.runtime.types import Usage


def run(folder: Path, *, won: int = 3, demos: int = 4, **changes: Any) -> Path:
    """The folder of a run in which the teacher solves 4 tasks, and the student ``won`` of them."""
    given = settings(**changes)
    folder.mkdir()
    write_manifest(folder, Manifest(settings=given).continued(given, list(ARMS.values()), "x"))
    usage = {"student": Usage(input_tokens=1000, output_tokens=50)}
    lines = [
        result(
            arm,
            task=task,
            success=arm == "teacher" or task < won,
            cost_usd={"teacher": usd},
            uncached_cost_usd={"teacher": 2 * usd},
            usage=usage if arm == "demos" else {},
        ).line()
        for arm, usd, count in (("teacher", 0.04, 4), ("demos", 0.03, demos))
        for task in range(count)
    ]
    (folder / RESULTS_FILE).write_bytes(b"".join(lines))
    return folder


def test_worlds_stand_below_each_other_with_what_each_arm_cost(tmp_path: Path) -> None:
    first = run(tmp_path / "a")
    second = run(tmp_path / "b", won=4, world="office", teacher_kind="model", teacher="big")

    table = markdown(results_table([first, second]))

    lines = table.splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 2 + 4
    assert lines[2].startswith("| corridor (test) † | `teacher` | 4/4 = 1.00 [0.51, 1.00] | - |")
    demos = lines[3].split(" | ")
    assert demos[1:5] == ["`demos`", "3/4 = 0.75 [0.30, 0.95]", "p = 1.000 insignificant", "1.00"]
    # 4 x 0.03 over 3 solved tasks.
    assert demos[5].startswith("$0.0800 [")
    assert demos[6].startswith("$0.0400 [")
    assert demos[7:] == ["0.75", "1,000+50 / 0+0", "4 |"]
    assert lines[4].startswith("| office (test) | `teacher`")
    assert "† An oracle stood for the teacher, not a language model (corridor: the corr" in table
    assert "Student: a coin." in table
    assert f"Runs: corridor: {first}; office: {second}." in table


def test_students_have_a_column_where_they_differ(tmp_path: Path) -> None:
    folders = [run(tmp_path / name, student=f"student {name}") for name in "ab"]

    table = markdown(results_table(folders, ["demos"]))

    assert "| corridor (test) † | student b | `demos` |" in table
    assert "`teacher`" not in table
    assert "Student:" not in table


def test_runs_of_one_world_and_student_are_told_apart(tmp_path: Path) -> None:
    folders = [run(tmp_path / name) for name in "ab"]

    table = markdown(results_table(folders))

    assert f"| corridor (test) † | {folders[1]} | `demos` |" in table
    assert "| run |" not in markdown(results_table(folders[:1]))


def test_arms_that_played_less_are_said(tmp_path: Path) -> None:
    table = results_table([run(tmp_path / "a", demos=2)])

    assert f"{tmp_path / 'a'}: arms differ in episodes (teacher 4, demos 2)." in table.notes


def test_json_has_every_figure(tmp_path: Path) -> None:
    table = results_table([run(tmp_path / "a", won=0)])

    teacher, demos = json.loads(json.dumps(to_json(table), allow_nan=False))["rows"]

    assert (teacher["is_oracle"], teacher["verdict"], demos["tasks"]) == (True, None, 4)
    assert demos["solved_usd"] == {"cached": None, "uncached": None}
    assert demos["solved_usd_interval"]["cached"] == [None, None]
    assert demos["cost_ratio"]["cached"] == pytest.approx(0.75)
    assert demos["tokens"]["student"]["input_tokens"] == 4000
    # Without a solved task there is no cost of one.
    assert "| - | - | 0.75 |" in markdown(table)


def test_wrong_folders_and_arms_are_one_clear_line(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")

    with pytest.raises(BenchmarkError, match="named twice"):
        results_table([folder, folder])
    with pytest.raises(BenchmarkError, match="holds no finished episode"):
        results_table([folder, tmp_path / "none"])
    with pytest.raises(BenchmarkError, match="none of the arms recall; it has teacher, demos"):
        results_table([folder], ["recall"])
