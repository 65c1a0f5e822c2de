from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.benchmarks.tiny_world import result, results_file, settings, tiny_replay

from tutelage.benchmarks.arms import ARMS
from tutelage.benchmarks.manifest import Manifest
from tutelage.benchmarks.plot import draw
from tutelage.benchmarks.report import Report, build_report, load_report, to_json
from tutelage.benchmarks.report_breakdown import UNSOLVED
from tutelage.benchmarks.report_page import page, write_report
from tutelage.benchmarks.report_table import COLUMNS, markdown, rich_table, usd
from tutelage.benchmarks.results import EpisodeResult
from tutelage.benchmarks.results_folder import open_results
from tutelage.runtime.errors import BenchmarkError, MissingExtra
from tutelage.runtime.types import Usage


def arm_results(
    arm: str, won: Sequence[bool], usd_each: float, uncached_usd_each: float, **changes: Any
) -> list[EpisodeResult]:
    return [
        result(
            arm,
            task=task,
            success=success,
            cost_usd={"teacher": usd_each},
            uncached_cost_usd={"teacher": uncached_usd_each},
            **changes,
        )
        for task, success in enumerate(won)
    ]


def report(*results: list[EpisodeResult], **changes: Any) -> Report:
    given = settings(**changes)
    manifest = Manifest(settings=given).continued(given, list(ARMS.values()), "x")
    return build_report(manifest, [one for listed in results for one in listed])


TEACHER = arm_results(
    "teacher",
    [True] * 9 + [False],
    0.059,
    0.08,
    expert_steps=3,
    planner_steps=1,
    usage={"teacher": Usage(input_tokens=10, output_tokens=2)},
)
STUDENT = arm_results("student", [False] * 10, 0.01, 0.01, steps=8, student_steps=8)
DEMOS = arm_results("demos", [True] * 8 + [False] * 2, 0.024, 0.08)


def test_rows_stand_in_the_order_of_the_arms_table() -> None:
    assert [row.arm for row in report(DEMOS, STUDENT, TEACHER).rows] == [
        "teacher",
        "student",
        "demos",
    ]


def test_the_break_even_uses_measured_costs_both_ways() -> None:
    row = report(TEACHER, DEMOS, bank_episodes=500).row("demos")
    assert row is not None
    against = row.against_teacher
    assert against is not None
    cached, uncached = against.break_even["cached"], against.break_even["uncached"]
    assert cached.as_extra_cost == pytest.approx(842.86, abs=0.01)
    assert cached.as_real_work == 0.0
    # Without caches the arm saves nothing here.
    assert (uncached.as_extra_cost, uncached.as_real_work) == (None, None)
    assert against.cost_ratio["cached"] == pytest.approx(24 / 59)


def test_verdicts_need_enough_pairs_that_point_one_way() -> None:
    summary = report(TEACHER, STUDENT, DEMOS)
    student, demos = summary.row("student"), summary.row("demos")
    assert student is not None
    assert demos is not None
    assert student.against_teacher is not None
    assert demos.against_teacher is not None
    # Nine against none: 2 / 2^9.
    assert student.against_teacher.p == pytest.approx(2 / 512)
    assert student.against_teacher.verdict == "worse"
    assert demos.against_teacher.p == 1.0
    assert demos.against_teacher.verdict == "insignificant"
    table = markdown(summary)
    assert "p = 0.004 worse" in table
    assert "p < 0.001 worse" in markdown(
        report(arm_results("teacher", [True] * 12, 1, 1), arm_results("demos", [False] * 12, 1, 1))
    )
    assert "p = 1.000 insignificant" in table
    better = report(
        arm_results("teacher", [False] * 8, 1, 1), arm_results("demos", [True] * 8, 1, 1)
    ).row("demos")
    assert better is not None
    assert better.against_teacher is not None
    assert better.against_teacher.verdict == "better"


def test_pairs_are_matched_by_task_and_seed() -> None:
    other = [result("demos", task=task, seed=task % 2, success=False) for task in range(4)]
    row = report(TEACHER, other).row("demos")
    assert row is not None
    assert row.against_teacher is not None
    # The teacher played seed 0 only.
    assert (row.against_teacher.pairs, row.against_teacher.only_teacher) == (2, 2)


def test_notes_label_oracle_prices_and_knowledge() -> None:
    notes = "\n".join(report(TEACHER).notes)
    assert "Oracle teacher: the corridor's oracle, not an LLM." in notes
    assert "40 steps 30 come from an expert" in notes
    assert "10 from a planner that knows the hidden state" in notes
    assert "priced as big (teacher) / small (student), prices of 2025-10-01" in notes
    plain = "\n".join(report(TEACHER, teacher_kind="model", teacher="big-2").notes)
    assert "Teacher: big-2." in plain
    assert "Oracle" not in plain


def test_without_a_bank_there_is_nothing_to_repay() -> None:
    shown = report(TEACHER, DEMOS, bank_episodes=0)
    assert "Break-even" not in "\n".join(shown.notes)
    assert "| no bank |" in markdown(shown)


def test_partial_results_are_shown_with_a_caution() -> None:
    notes = "\n".join(report(TEACHER, DEMOS[:3]).notes)
    assert "Arms differ in episodes (teacher 10, demos 3)" in notes
    alone = report(DEMOS)
    assert "The teacher alone was not played" in "\n".join(alone.notes)
    assert "| - |" in markdown(alone)


def test_failures_that_the_teacher_stood_in_for_are_not_hidden() -> None:
    failing = arm_results("demos", [True], 1, 1, reasons={"student_failed": 3, "agreed": 1})
    assert "In demos the teacher stood in for failures: student_failed 3 steps." in "\n".join(
        report(TEACHER, failing).notes
    )


def test_json_is_plain_and_complete() -> None:
    figures = json.loads(json.dumps(to_json(report(TEACHER, STUDENT, DEMOS)), allow_nan=False))
    teacher, student, demos = figures["arms"]
    assert teacher["tokens"]["teacher"]["input_tokens"] == 100
    assert teacher["costs"]["cached"]["solved_usd"] == pytest.approx(0.59 / 9)
    assert teacher["against_teacher"] is None
    assert student["costs"]["cached"]["solved_usd"] is None
    assert student["costs"]["cached"]["solved_usd_interval"] == [None, None]
    assert student["teacher_share"] == 0.5
    low, high = demos["costs"]["cached"]["solved_usd_interval"]
    assert 0.024 <= low < 0.03 < high
    assert demos["token_parts"] == {}
    assert teacher["token_parts"] == {"teacher: prompt": 10.0, "teacher: answers": 2.0}
    assert [row["category"] for row in figures["difficulties"][-2:]] == ["4 steps", UNSOLVED]
    assert demos["success_interval"] == pytest.approx([0.4902, 0.9433], abs=1e-3)
    assert demos["against_teacher"]["bank_episodes"] == 10
    assert student["against_teacher"]["bank_episodes"] == 0


def test_the_same_results_give_the_same_report() -> None:
    first, second = report(TEACHER, STUDENT, DEMOS), report(TEACHER, STUDENT, DEMOS)
    assert to_json(first) == to_json(second)
    assert page(first) == page(second)
    assert draw(first) == draw(second)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "-"),
        (0.0, "$0"),
        (float("inf"), "unbounded"),
        (1234.5, "$1,234.50"),
        (0.059, "$0.0590"),
        (0.000123456, "$0.000123"),
        (1e-12, "$0.000000000"),
    ],
)
def test_dollars_have_three_digits_and_no_exponents(amount: float | None, text: str) -> None:
    assert usd(amount) == text


def test_the_terminal_table_holds_every_arm_and_its_brackets() -> None:
    shown = Console(file=io.StringIO(), width=200)
    shown.print(rich_table(report(TEACHER, STUDENT, DEMOS)))
    assert isinstance(shown.file, io.StringIO)
    text = shown.file.getvalue()
    assert "9/10 = 0.90 [0.60, 0.98]" in text
    assert "$0.0590" in text
    assert "[$" not in text
    assert all(arm in text for arm in ("teacher", "student", "demos"))


class Reader(HTMLParser):
    """Checks that tags are balanced and collects what would be loaded."""

    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.cells = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.cells += tag == "td"
        names = ("src", "href", "xlink:href", "data")
        self.loads += [value for name, value in attrs if name in names and value is not None]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    shown = report(TEACHER, STUDENT, DEMOS, student="<script>alert(1)</script>")
    text = page(shown)
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert all(address.startswith("#") for address in reader.loads)
    assert "url(http" not in text
    assert "@import" not in text
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    # Two panels, and a legend of three arms and the random mix.
    assert text.count("<svg") == 2 + 4
    # Arms, components, and one kind of task and two lengths of each arm.
    assert reader.cells == 3 * (len(COLUMNS) + 1) + 6 * 9 + 3 * 2 + 3 * 3
    assert 'class="worse"' in text
    assert "is an oracle, not a language model" in text
    assert "is an oracle" not in page(report(TEACHER, teacher_kind="model"))


def test_the_plot_is_a_picture_in_either_form() -> None:
    shown = report(TEACHER, STUDENT, DEMOS)
    assert draw(shown, "png").startswith(b"\x89PNG")
    # One point and the line of random mixing need both ends.
    assert draw(report(DEMOS)).count(b"stroke-dasharray") < draw(shown).count(b"stroke-dasharray")


def test_all_files_are_written(tmp_path: Path) -> None:
    written = write_report(report(TEACHER, DEMOS), tmp_path / "out")
    assert written.missing is None
    assert written.plot is not None
    assert written.plot.read_bytes().startswith(b"\x89PNG")
    assert written.page.read_text().startswith("<!doctype html>")
    assert written.table.read_text().startswith("| arm |")
    assert json.loads(written.figures.read_text())["settings"]["world"] == "corridor"


def test_without_matplotlib_the_rest_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[plot\]'"):
        draw(report(TEACHER))
    written = write_report(report(TEACHER), tmp_path)
    assert written.plot is None
    assert written.missing == "matplotlib is not installed: pip install 'tutelage[plot]'"
    assert "<figure" in written.page.read_text()
    assert not (tmp_path / "plot.png").exists()


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchmarkError, match="file cannot be written"):
        write_report(report(TEACHER), tmp_path / "file")


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"holds no finished episode yet; .*tutelage replay"):
        load_report(tmp_path)


async def test_a_folder_of_a_real_replay_is_reported(tmp_path: Path) -> None:
    arms = tuple(ARMS[name] for name in ("teacher", "student", "demos-cascade", "random-mix"))
    with open_results(tmp_path, settings(), arms) as folder:
        await tiny_replay(folder, arms).run()
        with results_file(tmp_path).open("ab") as file:
            file.write(b'{"torn')
        shown = load_report(tmp_path)
    assert len(shown.rows) == 4
    assert "random-mix hands over at random with p = " in "\n".join(shown.notes)
    teacher = shown.row("teacher")
    assert teacher is not None
    assert teacher.costs["cached"].episode_usd < teacher.costs["uncached"].episode_usd
