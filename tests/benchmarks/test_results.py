from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.benchmarks.tiny_world import result, results_file

from tutelage.benchmarks.results import (
    EpisodeResult,
    parse_results,
    read_results,
    teacher_share,
    whole_lines,
)
from tutelage.runtime.errors import BenchmarkError
from tutelage.runtime.types import Usage

THREE = [
    result(seed=seed, task_id="café \u2028 \n", usage={"teacher": Usage(input_tokens=7)})
    for seed in range(3)
]
CONTENT = b"".join(one.line() for one in THREE)


@given(st.integers(0, len(CONTENT)))
def test_a_file_torn_at_any_byte_keeps_exactly_its_whole_lines(cut: int) -> None:
    torn = CONTENT[:cut]
    kept = parse_results(whole_lines(torn), "torn")
    assert kept == THREE[: torn.count(b"\n")]


@given(
    st.builds(
        result,
        arm=st.text(),
        task_id=st.text(),
        seed=st.integers(-(2**63), 2**63),
        wall_s=st.floats(0, 1e9),
        reasons=st.dictionaries(st.text(max_size=5), st.integers(0, 99), max_size=3),
    )
)
def test_a_result_is_read_back_as_it_was_written(written: EpisodeResult) -> None:
    line = written.line()
    assert line.count(b"\n") == 1
    assert parse_results(line, "file") == [written]


def test_a_file_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert read_results(tmp_path) == []


def test_a_torn_last_line_is_left_out_by_a_reader(tmp_path: Path) -> None:
    results_file(tmp_path).write_bytes(CONTENT[:-9])
    assert read_results(tmp_path) == THREE[:2]
    assert results_file(tmp_path).read_bytes() == CONTENT[:-9]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{}\n", r"line 2: not an episode result \(arm: Field required\)"),
        (b"garbage\n", "line 2: not an episode result"),
        (result().line(), "line 2: arm teacher, task corridor-0, seed 0 is there twice"),
    ],
)
def test_a_foreign_line_is_named(tmp_path: Path, line: bytes, says: str) -> None:
    results_file(tmp_path).write_bytes(result().line() + line)
    with pytest.raises(BenchmarkError, match=says) as caught:
        read_results(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_unreadable_file_is_one_clear_line(tmp_path: Path) -> None:
    results_file(tmp_path).mkdir()
    with pytest.raises(BenchmarkError, match=r"results\.jsonl cannot be read: Is a directory"):
        read_results(tmp_path)


def test_costs_of_all_components_add_up() -> None:
    one = result(
        cost_usd={"student": 0.25, "teacher": 0.5}, uncached_cost_usd={"student": 1, "teacher": 2}
    )
    assert one.total_cost_usd == 0.75
    assert one.total_uncached_cost_usd == 3.0


def test_the_teacher_share_counts_steps_not_episodes() -> None:
    long = result(steps=30, teacher_steps=3, student_steps=27)
    short = result(task=1, steps=10, teacher_steps=10)
    assert teacher_share([long, short]) == 13 / 40
    assert teacher_share([]) is None
