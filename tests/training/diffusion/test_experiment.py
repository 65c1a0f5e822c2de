from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tutelage.runtime.errors import NoExamples
from tutelage.training.diffusion import experiment
from tutelage.training.diffusion.experiment_arms import (
    BASE,
    CONTROL,
    CUT,
    OWN_ERRORS,
    TRAJECTORY,
    ExperimentSettings,
    SeedResult,
    run_seed,
)
from tutelage.training.diffusion.experiment_report import (
    arm_rows,
    as_json,
    comparisons,
    draw,
    table,
)
from tutelage.training.diffusion.language import ACTIONS
from tutelage.training.diffusion.parallelism import Point


def result(seed: int, certainty: float) -> SeedResult:
    points = {
        BASE: [Point("one-token", 0.90, 12.0, 1.0), Point("confidence 0.9", 0.895, 6.0, 2.0)],
        CONTROL: [Point("one-token", 0.90, 12.0, 1.0), Point("entropy 1", 0.89, 3.0, 4.0)],
        "certainty 2": [
            Point("one-token", 0.90, 12.0, 1.0),
            Point("entropy 1", 0.90, 12 / certainty, certainty),
        ],
        TRAJECTORY: [Point("one-token", 0.5, 12.0, 1.0)],
    }
    return SeedResult("actions", seed, 1000, 0.9, points, 1.0, 0.5)


RESULTS = [result(0, 6.0), result(1, 8.0)]


def test_arms_are_compared_at_equal_success() -> None:
    rows = {row.arm: row for row in arm_rows(RESULTS)}

    assert rows[BASE].fewer_than_one_token == [2.0, 2.0]
    assert rows[CONTROL].rules == ["entropy 1"] * 2
    assert rows[CONTROL].fewer_than_one_token == [4.0, 4.0]
    assert rows["certainty 2"].fewer_than_threshold == pytest.approx([3.0, 4.0])
    assert rows[TRAJECTORY].forwards == [None, None]
    assert rows[TRAJECTORY].areas == [0.0, 0.0]


def test_an_arm_is_ahead_only_outside_the_spread_of_the_seeds() -> None:
    by_arm = {one.arm: one for one in comparisons(arm_rows(RESULTS))}

    ahead = by_arm["certainty 2"]
    assert ahead.area_gain > ahead.area_spread > 0
    assert ahead.is_outside_the_spread
    assert ahead.forwards_saved == pytest.approx((1 - 2 / 3 + 1 - 1.5 / 3) / 2)
    assert not by_arm[TRAJECTORY].is_outside_the_spread
    assert by_arm[TRAJECTORY].forwards_saved is None
    one_seed = comparisons(arm_rows(RESULTS[:1]))
    assert not any(one.is_outside_the_spread for one in one_seed)


def test_the_table_and_the_json_tell_the_same() -> None:
    columns, rows = table(RESULTS)
    told = as_json(RESULTS, {"cut": True})

    assert all(len(row) == len(columns) for row in rows)
    control = next(row for row in rows if row[1] == CONTROL)
    assert control[4:8] == ["3.00", "4.00", "4.0", "2.00"]
    assert next(row for row in rows if row[1] == TRAJECTORY)[2] == "none is as good"
    assert [arm["arm"] for arm in told["arms"]] == [row[1] for row in rows]
    assert json.loads(json.dumps(told))["against_control"][0]["outside_the_spread"] is True


def test_the_picture_has_a_curve_for_every_arm() -> None:
    pytest.importorskip("matplotlib")

    assert draw(RESULTS).startswith(b"<?xml")
    assert draw(RESULTS) == draw(RESULTS)
    assert draw(RESULTS, "png").startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_seed_runs_through_every_arm() -> None:
    settings = replace(
        CUT,
        width=48,
        base_steps=300,
        examples=2000,
        own=64,
        distil_steps=3,
        tests=8,
        own_errors=True,
    )
    told: list[str] = []

    found = run_seed(_easy(), 0, settings, lambda arm, done, of: told.append(arm))

    assert list(found.points) == [BASE, CONTROL, "certainty 2", TRAJECTORY, OWN_ERRORS]
    assert list(dict.fromkeys(told)) == list(found.points)
    assert 0 < found.share_kept <= 1
    for points in found.points.values():
        by_rule = {point.rule: point for point in points}
        assert by_rule["entropy 2"].forwards <= by_rule["one-token"].forwards
    assert settings.arms == tuple(found.points)


def _easy() -> Any:
    """The language of actions, in which any known words are right."""
    return replace(ACTIONS, is_right=lambda scene, answer: bool(answer))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["experiment", *arguments])
    experiment.main()


def test_the_command_prints_a_table_and_writes_its_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    seen: list[Any] = []

    def fake(settings: Any, languages: Any, *, jobs: int, on_result: Any) -> list[SeedResult]:
        seen.append((settings, [one.name for one in languages], jobs))
        on_result(RESULTS)
        return RESULTS

    monkeypatch.setattr(experiment, "run_experiment", fake)
    options = ("--seeds", "2", "--language", "actions", "--jobs", "1", "--out", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--cut", *options)

    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("| language | arm |")
    assert seen == [(replace(CUT, seeds=2), ["actions"], 1)]
    assert json.loads((tmp_path / "results.json").read_text())["settings"]["cut"] is True
    assert (tmp_path / "curves.svg").read_bytes().startswith(b"<?xml")
    with pytest.raises(SystemExit):
        run(monkeypatch, "--json")
    assert json.loads(capsys.readouterr().out)["arms"][0]["arm"] == BASE
    assert seen[1][0] == ExperimentSettings()


def test_a_language_that_is_not_known_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--language", "latin")

    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: --language latin: use actions or reasoned\n"


@pytest.mark.slow
def test_seeds_run_in_processes_of_their_own() -> None:
    settings = replace(
        CUT, width=16, base_steps=20, examples=50, own=2, distil_steps=1, tests=1, betas=()
    )
    with pytest.raises(NoExamples, match="none of the student's 2 own answers"):
        experiment.run_experiment(settings, [ACTIONS], jobs=1)
