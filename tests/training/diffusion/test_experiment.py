from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tutelage.runtime.errors import ConfigError, NoExamples
from tutelage.training.diffusion import experiment
from tutelage.training.diffusion.experiment_arms import run_seed
from tutelage.training.diffusion.experiment_report import (
    against_control,
    arm_rows,
    as_json,
    comparisons,
    draw,
    table,
)
from tutelage.training.diffusion.experiment_seeds import SeedFolder, SeedResult
from tutelage.training.diffusion.experiment_settings import (
    BASE,
    CONTROL,
    CUT,
    OWN_ERRORS,
    REPEATED,
    SAMPLED,
    TRAJECTORY,
    ExperimentSettings,
    control_of,
)
from tutelage.training.diffusion.language import ACTIONS, REASONED
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
        CONTROL + SAMPLED: [Point("entropy 1", 0.9, 4.0, 3.0)],
        "certainty 2" + SAMPLED: [Point("entropy 1", 0.9, 2.0, 3.0 + certainty)],
    }
    return SeedResult("actions", seed, 1000, 0.9, 0.8, points, 1.0, 0.4, 0.5, 0.5)


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
    assert ahead.seeds_ahead == 2
    sampled = by_arm["certainty 2" + SAMPLED]
    assert sampled.area_gain == pytest.approx(7 * 90)
    assert sampled.forwards_saved == pytest.approx(0.5)
    assert CONTROL + SAMPLED not in by_arm
    one_seed = comparisons(arm_rows(RESULTS[:1]))
    assert not any(one.is_outside_the_spread for one in one_seed)


def test_every_arm_is_held_against_the_control_of_its_own_answers() -> None:
    assert control_of("certainty 2") == CONTROL
    assert control_of("certainty 2" + SAMPLED) == CONTROL + SAMPLED
    assert control_of("certainty 2" + REPEATED) == CONTROL + REPEATED
    said = against_control(RESULTS)
    assert [line.split(":")[1].strip() for line in said] == [
        "certainty 2 against ce-only",
        "trajectory against ce-only",
        "certainty 2, sampled against ce-only, sampled",
    ]
    assert said[0].endswith("ahead in 2 of 2 seeds, forwards saved +41.7%, outside the spread: yes")
    assert said[1].endswith("forwards saved -, outside the spread: no")


def test_a_finished_seed_is_read_back_and_one_of_other_sizes_refused(tmp_path: Path) -> None:
    folder = SeedFolder(tmp_path / "made", ExperimentSettings(seeds=3))
    assert folder.read("actions", 0) is None
    folder.write(RESULTS[0])

    assert SeedFolder(tmp_path / "made", ExperimentSettings()).read("actions", 0) == RESULTS[0]
    assert SeedFolder(tmp_path / "made", ExperimentSettings(seeds=9)).read("actions", 1) is None
    with pytest.raises(ConfigError, match="made with other sizes"):
        SeedFolder(tmp_path / "made", ExperimentSettings(tests=7)).read("actions", 0)
    (tmp_path / "made" / "actions-0.json").write_text("{}")
    with pytest.raises(ConfigError, match="is no result"):
        folder.read("actions", 0)


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    settings = ExperimentSettings(seeds=2)
    kept = SeedFolder(tmp_path, settings)
    for made in RESULTS:
        kept.write(made)

    assert experiment.run_experiment(settings, [ACTIONS], kept=kept) == RESULTS


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

    sampled = [CONTROL + SAMPLED, "certainty 8" + SAMPLED]
    repeated = [CONTROL + REPEATED, "certainty 2" + REPEATED]
    arms = [BASE, CONTROL, "certainty 8", TRAJECTORY, OWN_ERRORS, *sampled, *repeated]
    assert list(found.points) == arms
    assert list(dict.fromkeys(told)) == list(found.points)
    assert 0 < found.share_kept <= 1
    assert 0 < found.share_kept_sampled <= 1
    for points in found.points.values():
        by_rule = {point.rule: point for point in points}
        assert by_rule["entropy 1.5"].forwards <= by_rule["one-token"].forwards
    assert settings.arms == tuple(found.points)


@pytest.mark.slow
@pytest.mark.parametrize("language", [ACTIONS, REASONED], ids=lambda one: one.name)
def test_the_cut_distils_students_that_decode_in_fewer_forwards(language: Any) -> None:
    found = run_seed(language, 0, CUT, lambda arm, done, of: None)

    assert list(found.points) == list(CUT.arms)
    by_rule = {arm: {point.rule: point for point in points} for arm, points in found.points.items()}
    base = by_rule[BASE]
    # One slot a forward, and one more for the end token unless its canvas is full.
    assert base["one-token"].tokens_a_forward < 1
    assert base["one-token"].success >= 0.3
    assert base["entropy 0.5"].forwards < base["one-token"].forwards
    for arm in CUT.arms[1:]:
        assert by_rule[arm]["entropy 0.5"].forwards <= base["entropy 0.5"].forwards, arm
    certain = by_rule["certainty 8"]
    assert certain["entropy 0.5"].forwards < by_rule[CONTROL]["entropy 0.5"].forwards
    assert certain["entropy 0.1"].success >= 0.5 * base["one-token"].success


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

    def fake(
        settings: Any, languages: Any, *, jobs: int, kept: Any, on_result: Any
    ) -> list[SeedResult]:
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
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "certainty 2 against ce-only: area" in out
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
        CUT,
        width=16,
        bare_steps=2,
        base_steps=20,
        examples=50,
        own=2,
        distil_steps=1,
        tests=1,
        betas=(),
    )
    with pytest.raises(NoExamples, match="none of the student's 2 own answers"):
        experiment.run_experiment(settings, [ACTIONS], jobs=1)
