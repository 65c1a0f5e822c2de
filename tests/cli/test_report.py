from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest


def test_a_report_is_a_table_a_plot_and_a_page(tutelage: Any, played: Any) -> None:
    ran = tutelage("report", played.results)

    assert (ran.code, ran.err) == (0, "")
    for word in ("teacher", "student", "demos-cascade", "Oracle teacher"):
        assert word in ran.out
    assert "…" not in ran.out
    page = played.results / "report.html"
    assert f"wrote {page}" in ran.out
    assert page.read_text().startswith("<!doctype html>")


def test_a_report_for_machines_writes_nothing(tutelage: Any, played: Any, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("results.jsonl", "run.json"):
        (copy / name).write_bytes((played.results / name).read_bytes())

    ran = tutelage("report", copy, "--json")
    markdown = tutelage("report", copy, "--markdown")

    assert [row["arm"] for row in ran.json["arms"]] == ["teacher", "student", "demos-cascade"]
    assert markdown.out.startswith("|")
    assert not (copy / "report.html").exists()


def test_a_plot_that_cannot_be_drawn_is_said(
    tutelage: Any, played: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    ran = tutelage("report", played.results)

    assert ran.code == 0
    assert ran.line.startswith("no plot: ")
    assert "pip install 'tutelage[plot]'" in ran.line
    assert f"wrote {played.results / 'report.html'}" in ran.out


@pytest.mark.parametrize("folder", ["none", "empty", "file"])
def test_a_folder_without_results_says_how_to_make_some(
    tutelage: Any, tmp_path: Path, folder: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()

    ran = tutelage("report", tmp_path / folder)

    assert (ran.code, ran.out) == (1, "")
    assert str(tmp_path / folder) in ran.line
    if folder != "file":
        assert ran.line.endswith("holds no finished episode yet; play some first: tutelage replay")


def test_two_replays_are_compared_on_what_both_played(tutelage: Any, played: Any) -> None:
    ran = tutelage("report", played.results, "--against", played.results)
    told = tutelage("report", played.results, "--against", played.results, "--json").json

    assert (ran.code, ran.err) == (0, "")
    assert "insignificant" in ran.out
    page = played.results / "comparison.html"
    assert f"wrote {page}" in ran.out
    assert page.read_text().startswith("<!doctype html>")
    assert json.loads((played.results / "comparison.json").read_text()) == told
    table = tutelage("report", played.results, "--against", played.results, "--markdown").out
    assert table.strip() == (played.results / "comparison.md").read_text().strip()
    assert {row["arm"] for row in told["rows"]} == {"teacher", "student", "demos-cascade"}
    assert all((row["pairs"], row["p"]) == (2, 1.0) for row in told["rows"])


def test_a_replay_is_not_compared_with_nothing(tutelage: Any, played: Any, tmp_path: Path) -> None:
    ran = tutelage("report", played.results, "--against", tmp_path / "none")

    assert ran.code == 1
    assert "holds no finished episode yet" in ran.line


def test_failed_episodes_are_shown_from_the_store(tutelage: Any, played: Any) -> None:
    ran = tutelage("report", played.results, "--failures", "1", *played.store)
    told = tutelage("report", played.results, "--failures", "1", "--json", *played.store).json

    assert (ran.code, ran.err) == (0, "")
    page = (played.results / "report.html").read_text()
    assert "Episodes that failed" in page
    (student,) = [one for one in told["failures"] if one["arm"] == "student"]
    step = student["steps"][-1]
    assert step["prompt"][-1]["content"].split("\n")[0][:40] in page
    assert sum(step["votes"].values()) == len(step["samples"]) == 1
    assert step["decision"]["served"] == "student"
    kinds = {(row["arm"], row["category"]) for row in told["categories"]}
    assert {arm for arm, _ in kinds} == {"teacher", "student", "demos-cascade"}


def test_a_store_without_the_episodes_is_said(tutelage: Any, played: Any, tmp_path: Path) -> None:
    other = ("--set", f"store.url=sqlite:///{tmp_path}/other.sqlite")

    ran = tutelage("report", played.results, "--failures", "1", *other)

    assert ran.code == 0
    assert "The store holds none of the episodes that failed" in ran.out


def test_several_replays_are_one_table(tutelage: Any, played: Any) -> None:
    bank = played.folder / "bank"

    ran = tutelage("report", "table", played.results, bank)
    told = tutelage("report", "table", played.results, bank, "--arms", "teacher", "--json").json

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.count("| household (") == 4
    assert "| household (train) † |" in ran.out
    assert [(row["arm"], row["split"]) for row in told["rows"]] == [
        ("teacher", "test"),
        ("teacher", "train"),
    ]


def test_two_folders_need_a_word_for_what_is_wanted(tutelage: Any, played: Any) -> None:
    two = tutelage("report", played.results, played.folder / "bank")
    none = tutelage("report", "table")

    assert (two.code, none.code) == (2, 2)
    assert "--against" in two.line
    assert "name the folders" in none.line
