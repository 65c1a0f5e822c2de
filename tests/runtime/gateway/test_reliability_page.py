"""The page on reliability names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = Path(__file__).parents[3] / "docs" / "reliability.md"
NAMED = re.compile(r"`(test_\w+\.py)`|`(test_\w+)`")


def test_every_test_that_the_page_names_is_in_the_file_it_names() -> None:
    file, named = "", 0
    for found in NAMED.finditer(PAGE.read_text(encoding="utf-8")):
        file = found.group(1) or file
        if found.group(2) is not None:
            named += 1
            text = (TESTS / file).read_text(encoding="utf-8")
            assert f"def {found.group(2)}(" in text, f"{file} has no {found.group(2)}"

    assert named > 40


def test_every_row_of_the_tables_names_a_test() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|") and not line.startswith("| ---")]

    without = [row for row in rows if "`test_" not in row]
    assert [row.split("|")[1].strip() for row in without] == ["event", "fault"]
