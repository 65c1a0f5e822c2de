from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tutelage.runtime.errors import StoreError
from tutelage.runtime.models.sample_file import KeptSample, SampleFile
from tutelage.runtime.types import Choice, Message, Usage


def a_sample(text: str = "look", latency_s: float = 0.5) -> KeptSample:
    choice = Choice(index=0, message=Message(role="assistant", content=text))
    return KeptSample("small", choice, Usage(input_tokens=3, output_tokens=1), latency_s)


def test_kept_samples_are_found_by_prompt_and_number(tmp_path: Path) -> None:
    file = SampleFile(tmp_path / "s.sqlite")
    file.keep("a", "small", b"{}", {1: a_sample("one"), 3: a_sample("three")})

    assert file.find("a", [1, 2, 3]) == {1: a_sample("one"), 3: a_sample("three")}
    assert file.find("b", [1]) == {}
    file.close()


def test_of_two_that_drew_the_same_the_first_counts(tmp_path: Path) -> None:
    one, two = SampleFile(tmp_path / "s.sqlite"), SampleFile(tmp_path / "s.sqlite")
    one.keep("a", "small", b"{}", {0: a_sample("first")})
    two.keep("a", "small", b"{}", {0: a_sample("second"), 1: a_sample("more")})

    assert one.find("a", [0, 1]) == {0: a_sample("first"), 1: a_sample("more")}
    assert one.size() == 2
    one.close()
    two.close()


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"no database at all, but long enough to be read as one" * 20)

    with pytest.raises(StoreError, match="cannot be opened as a file of samples"):
        SampleFile(path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="cannot be opened"):
        SampleFile(tmp_path / "file" / "s.sqlite")


def test_damaged_rows_are_an_error_and_not_a_sample(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    file = SampleFile(path)
    file.keep("a", "small", b"{}", {0: a_sample()})
    with sqlite3.connect(path) as other:
        other.execute("UPDATE sample SET choice = 'torn'")
    other.close()

    with pytest.raises(StoreError, match="cannot be read"):
        file.find("a", [0])
    file.close()


def test_a_failed_write_leaves_nothing_half_done(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    file = SampleFile(path)
    with sqlite3.connect(path) as other:
        other.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON sample BEGIN SELECT RAISE(FAIL, 'full'); END"
        )
    other.close()

    with pytest.raises(StoreError, match="cannot be written: full"):
        file.keep("a", "small", b"{}", {0: a_sample()})

    assert file.size() == 0
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT COUNT(*) FROM prompt").fetchone() == (0,)
    other.close()
    file.close()
