from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.benchmarks.tiny_world import result, settings

from tutelage.benchmarks.comparison_page import comparison_page, write_comparison
from tutelage.benchmarks.run_comparison import RunComparison, compare_runs
from tutelage.runtime.errors import BenchmarkError


def compared(**changes: object) -> RunComparison:
    """A first run that wins 2 of 10 tasks, and a second that wins all for less."""
    runs = [
        [
            result(
                "demos",
                task=task,
                success=task < won,
                cost_usd={"teacher": usd + task / 1000},
                uncached_cost_usd={"teacher": 0.08},
            )
            for task in range(10)
        ]
        for won, usd in ((2, 0.04), (10, 0.03))
    ]
    return compare_runs(("a", runs[0], settings()), ("<b>", runs[1], settings(**changes)))


class Balanced(HTMLParser):
    """Fails where tags are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.loads += [name for name, _ in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_tells_what_changed_in_one_line_an_arm() -> None:
    page = comparison_page(compared())
    reader = Balanced()
    reader.feed(page)

    assert (reader.open, reader.loads) == ([], [])
    assert "<b>demos</b>: success +80 points (95 % +38 to +94), better; cost cached -22%" in page
    assert "cost uncached unchanged" in page
    assert 'class="better"' in page
    assert "second: &lt;b&gt;; first: a" in page
    assert page.count('class="hollow"') == 2
    assert "<div>$0.0445 → $0.0345<small>-$0.0100 (-$0.0100 to -$0.0100)</small></div>" in page
    assert "<h2>Notes</h2>" not in page


def test_settings_that_differ_are_marked() -> None:
    page = comparison_page(compared(student="tuned", teacher_kind="model"))

    assert "<dt>student</dt><dd>a coin -&gt; tuned</dd>" in page
    assert "The teacher of one run is an oracle" in page
    assert "The runs differ in settings, too" in page
    kinds = compare_runs(
        *[
            (name, [result("demos", task=0, success=True)], settings(teacher_kind="model"))
            for name in "ab"
        ]
    )
    assert "is an oracle" not in comparison_page(kinds)


def test_page_table_and_figures_are_written(tmp_path: Path) -> None:
    written = write_comparison(compared(), tmp_path / "out")

    assert written.page.read_text().startswith("<!doctype html>")
    assert "| `demos` | 10 |" in written.table.read_text()
    told = json.loads(written.figures.read_text())
    assert (told["first"], told["rows"][0]["verdict"]) == ("a", "better")


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(BenchmarkError, match="file cannot be written"):
        write_comparison(compared(), tmp_path / "file")
