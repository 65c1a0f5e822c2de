from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.benchmarks.tiny_world import result, settings

from tutelage.benchmarks.results import EpisodeResult
from tutelage.benchmarks.run_comparison import (
    RunComparison,
    compare_folders,
    compare_runs,
    holm,
    markdown,
    rich_table,
    to_json,
)
from tutelage.benchmarks.statistics import mean_interval, paired_difference_interval
from tutelage.runtime.errors import BenchmarkError


def played(
    won: Sequence[bool], usd: float, arm: str = "demos", **changes: Any
) -> list[EpisodeResult]:
    return [
        result(
            arm,
            task=task,
            success=success,
            cost_usd={"teacher": usd + task / 1000},
            uncached_cost_usd={"teacher": 2 * usd},
            **changes,
        )
        for task, success in enumerate(won)
    ]


def compared(
    first: list[EpisodeResult], second: list[EpisodeResult], **changes: Any
) -> RunComparison:
    return compare_runs(("a", first, settings()), ("b", second, settings(**changes)))


def test_a_run_that_wins_more_of_the_same_tasks_is_better() -> None:
    found = compared(played([False] * 8 + [True] * 2, 0.04), played([True] * 10, 0.03))

    (row,) = found.rows
    assert (row.pairs, row.unpaired, row.only_first, row.only_second) == (10, 0, 0, 8)
    assert row.p == pytest.approx(2 / 2**8)
    assert row.verdict == "better"
    assert (row.first_success, row.second_success) == (0.2, 1.0)
    change = row.costs["cached"]
    assert change.difference_usd == pytest.approx(-0.01)
    assert change.interval is not None
    assert change.interval.low == pytest.approx(-0.01)
    assert row.costs["uncached"].first_usd == pytest.approx(0.08)
    assert compared(played([True] * 10, 0.1), played([False] * 10, 0.1)).rows[0].verdict == "worse"


def test_only_tasks_that_both_played_count() -> None:
    found = compared(played([True] * 5, 0.1), played([True] * 3, 0.1))

    assert (found.rows[0].pairs, found.rows[0].unpaired) == (3, 2)
    assert found.rows[0].verdict == "insignificant"


def test_one_pair_has_no_interval() -> None:
    found = compared(played([True], 0.1), played([True], 0.2))

    assert found.rows[0].costs["cached"].interval is None
    assert found.rows[0].difference_interval is not None
    assert "$0.100 -> $0.200" in text(found)


def test_settings_and_arms_that_differ_are_said() -> None:
    first = played([True] * 3, 0.1) + played([True] * 3, 0.1, arm="teacher")

    found = compared(first, played([True] * 3, 0.1), max_steps=7)

    assert found.notes[0] == "The runs differ in settings, too: max_steps: 8 -> 7."
    assert found.notes[1] == "Arms of one run only are left out: teacher."


def test_settings_inside_others_are_told_by_their_full_names() -> None:
    old = {"bank": "a" * 90, "prompt": {"layout": "pinned", "k": 3}}
    new = {"bank": "b", "prompt": {"layout": "per-step", "k": 3, "later": None}}
    runs = [
        (name, played([True], 0.1), settings(more=more)) for name, more in (("a", old), ("b", new))
    ]

    (note,) = compare_runs(runs[0], runs[1]).notes

    assert f"more.bank: {'a' * 60}… -> b" in note
    assert "more.prompt.layout: pinned -> per-step" in note
    assert "later" not in note
    assert ".k:" not in note


def test_the_difference_has_newcombes_interval_or_one_over_tasks() -> None:
    first, second = played([False] * 8 + [True] * 2, 0.1), played([True] * 10, 0.1)
    twice = [
        [one for seed in range(2) for one in played(won, 0.1, seed=seed)]
        for won in ([False, True, False], [True, True, True])
    ]

    (alone,) = compared(first, second).rows
    (repeated,) = compared(*twice).rows

    assert alone.difference == 0.8
    assert alone.difference_interval == paired_difference_interval(2, 0, 8, 0)
    assert repeated.pairs == 6
    assert repeated.difference_interval == mean_interval([1.0, 0.0, 1.0])


def test_runs_without_a_common_episode_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="a and b share no arm"):
        compared(played([True], 0.1), played([True], 0.1, arm="teacher"))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="holds no finished episode"):
        compare_folders(tmp_path, tmp_path)


def test_several_arms_make_each_test_stricter() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "c": 0.06, "b": 0.06}
    )
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def text(found: RunComparison) -> str:
    console = Console(file=io.StringIO(), width=250)
    console.print(rich_table(found))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_table_and_json_tell_the_same() -> None:
    found = compared(played([False] * 8 + [True] * 2, 0.04), played([True] * 10, 0.03))

    plain = json.loads(json.dumps(to_json(found)))

    assert plain["rows"][0]["verdict"] == "better"
    assert plain["rows"][0]["costs"]["cached"]["difference_usd"] == pytest.approx(-0.01)
    assert "0.20 -> 1.00" in text(found)
    assert "b against a" in text(found)
    assert "-$0.0100" in text(found)
    assert plain["rows"][0]["difference_interval"]["low"] > 0
    assert plain["first_settings"]["world"] == plain["second_settings"]["world"] == "corridor"
    assert "| 0.20 -> 1.00 | +0.80 (+" in markdown(found)


def test_arms_stand_in_the_order_of_their_table() -> None:
    arms = ("demos", "x", "teacher")
    listed = [one for arm in arms for one in played([True], 0.1, arm=arm)]

    found = compared(listed, listed)

    assert [row.arm for row in found.rows] == ["teacher", "demos", "x"]
