from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.recorded_traffic import runtime_of, serve
from tests.small_household import household

from tutelage.assembly import open_assembly
from tutelage.cascade.policy_file import PolicyFile

pytest.importorskip("sklearn")

HASH = ("--set", "retrieval.embedder=hash")
LENIENT = ("--alpha", "0.3", "--delta", "0.2", "--thresholds", "2")
"""Five episodes without a loss certify it."""
SPLITS = ("--fit", "train:6-10", "--on", "train:20-25", "--student", "copying")


@pytest.fixture
def bank(tutelage: Any) -> None:
    """A bank of six episodes in the folder of the test."""
    assert tutelage("collect", "household", "--split", "train:6", *HASH).code == 0


async def _traffic(episodes: int, **changes: Any) -> None:
    async with open_assembly(household(**changes)) as assembly:
        await serve(runtime_of(assembly), episodes, mode="shadow")


# By play.


@pytest.mark.usefixtures("bank")
def test_a_certified_policy_is_written_drawn_and_said(tutelage: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    command = ("calibrate", "household", *SPLITS, *LENIENT, *HASH)

    ran = tutelage(*command)
    told = tutelage(*command, "--json", "--write", "deep/er/policy.json")

    assert ran.code == 0
    assert "episodes lost at most 0.3 with confidence 0.8 (5 episodes)" in ran.out
    assert "5 episodes, strict to permissive" in ran.out
    assert 'wrote policy.json: set cascade.policy = "calibrated" and cascade.policy_file' in ran.out
    assert "wrote policy.png" in ran.out
    assert "playing train:20-25 by the teacher alone" in ran.err
    assert (tmp_path / "policy.png").read_bytes().startswith(b"\x89PNG")
    file = PolicyFile.read(tmp_path / "policy.json")
    assert (told.code, told.err) == (0, "")
    assert told.json["certified"]
    assert told.json["outcome"]["threshold"] == file.threshold
    assert (told.json["policy_file"], told.json["plot"]) == (
        "deep/er/policy.json",
        "deep/er/policy.png",
    )
    again = PolicyFile.read(tmp_path / "deep/er/policy.json")
    assert again.model_copy(update={"created_at_s": 0.0}) == file.model_copy(
        update={"created_at_s": 0.0}
    )


@pytest.mark.usefixtures("bank")
def test_a_stale_policy_does_not_stand_in_the_way_of_a_new_one(
    tutelage: Any, tmp_path: Path
) -> None:
    asyncio.run(_traffic(40))
    (tmp_path / "tutelage.toml").write_text(
        '[cascade]\npolicy = "calibrated"\npolicy_file = "gone.json"\n[retrieval]\n'
        'embedder = "hash"\n'
    )

    read = tutelage("calibrate", *LENIENT)
    played = tutelage("calibrate", "household", *SPLITS, *LENIENT)
    listed = tutelage("demos", "ls", "--json")

    assert (played.code, read.code, listed.code) == (0, 0, 0)


def test_too_few_episodes_end_with_5_and_say_how_many_are_missing(
    tutelage: Any, tmp_path: Path
) -> None:
    command = ("calibrate", "household", *SPLITS, *HASH)

    ran, told = tutelage(*command), tutelage(*command, "--json")

    assert (ran.code, told.code) == (5, 5)
    assert ran.out.startswith("nothing is certified: train:20-25 holds 5 tasks")
    assert "at least 59 episodes, 54 more" in ran.out
    assert told.json["outcome"]["missing_units"] == 54
    assert not told.json["certified"]
    assert not (tmp_path / "policy.json").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("bank")
def test_a_spending_cap_ends_with_4(tutelage: Any) -> None:
    ran = tutelage("calibrate", "household", *SPLITS, *LENIENT, *HASH, "--max-usd", "0.001")

    assert ran.code == 4
    assert ran.out == "the spending cap is reached: raise it to go on with the same command\n"


@pytest.mark.usefixtures("bank")
def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(tutelage: Any, tmp_path: Path) -> None:
    command = ("calibrate", "household", *SPLITS, *LENIENT, *HASH)
    results = tmp_path / "out/calibrate-household/teacher/results.jsonl"

    with subprocess.Popen(
        [sys.executable, "-u", "-m", "tutelage.cli.main", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "by the teacher alone" in line:
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate(timeout=600)
    before = results.read_text() if results.exists() else ""
    resumed = tutelage(*command)

    assert process.returncode == 130, err
    assert out.endswith("interrupted: run the same command to go on\n"), out
    assert resumed.code == 0
    assert results.read_text().startswith(before)
    tasks = [json.loads(line)["task_id"] for line in results.read_text().splitlines()]
    assert sorted(tasks) == [f"train-000{n}" for n in range(20, 25)]


@pytest.mark.usefixtures("bank")
def test_a_plot_that_cannot_be_drawn_is_said(
    tutelage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    ran = tutelage("calibrate", "household", *SPLITS, *LENIENT, *HASH)

    assert ran.code == 0
    assert "no plot: matplotlib is not installed: pip install 'tutelage[plot]'" in ran.err


def test_a_plot_that_cannot_be_written_is_one_line(tutelage: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    asyncio.run(_traffic(30))
    (tmp_path / "policy.png").mkdir()

    ran = tutelage("calibrate", *LENIENT, *HASH)

    assert ran.code == 2
    assert ran.line.startswith("error: policy.png cannot be written: ")


# From traffic.


def test_recorded_traffic_is_certified_for_the_logged_states(tutelage: Any) -> None:
    asyncio.run(_traffic(40))

    ran = tutelage("calibrate", *LENIENT, *HASH)
    steps = tutelage("calibrate", *LENIENT, *HASH, "--unit", "step", "--json")

    assert (ran.code, ran.err) == (0, "")
    assert "for the logged states only" in ran.out
    assert steps.json["outcome"]["unit"] == "step"
    assert steps.json["outcome"]["scope"] == "logged states"


def test_traffic_of_another_tenant_and_time_is_not_read(tutelage: Any) -> None:
    asyncio.run(_traffic(10))

    for options in (("--tenant", "acme"), ("--since-s", "1e12")):
        ran = tutelage("calibrate", *LENIENT, *HASH, *options)
        assert ran.code == 1
        assert "0 episodes of tenant" in ran.line
        assert "serve in mode 'shadow' or with evidence.audits = 1" in ran.line


# What is wrong with a command.


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("household",), "--fit and --on name the splits"),
        (("household", *SPLITS, "--score", "lelp"), "--score 'lelp' is unknown: logistic or"),
        (("household", *SPLITS, "--unit", "run"), "--unit 'run' is unknown: episode or step"),
        (("household", *SPLITS, "--student", "gpt"), "--student 'gpt' is unknown: student or"),
        (("household", *SPLITS, "--alpha", "2"), "alpha = 2.0: give a number between 0 and 1"),
        (("household", *SPLITS, "--teacher", "gpt"), "--teacher 'gpt' is unknown"),
        (
            ("household", "--fit", "train:9", "--on", "train:5-9"),
            "share 4 tasks, train-00005 for one",
        ),
        (("--fit", "train:9"), "--fit is for calibrating in a world"),
        (("--max-usd", "1"), "--max-usd is for calibrating in a world"),
        (("--student", "copying"), "--student copying is for calibrating in a world"),
        (("household", *SPLITS, "--write", "."), "--write . cannot be written"),
        (("household", *SPLITS, "--write", "file/policy.json"), "--write file/policy.json cannot"),
    ],
)
def test_a_command_that_cannot_work_is_one_line(
    tutelage: Any, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    (tmp_path / "file").touch()

    ran = tutelage("calibrate", *options, *HASH)

    assert (ran.code, ran.out) == (2, "")
    assert says in ran.line


@pytest.mark.parametrize("split", ["train:9-5", "nowhere"])
def test_a_split_that_is_none_is_one_line(tutelage: Any, split: str) -> None:
    ran = tutelage("calibrate", "household", "--fit", "train:3", "--on", split, *HASH)

    assert ran.code == 1
    assert split in ran.line


def test_a_missing_extra_is_named_before_anything_is_played(
    tutelage: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)

    ran = tutelage("calibrate", "household", *SPLITS, *LENIENT, *HASH)

    assert ran.code == 1
    assert ran.line == ("error: scikit-learn is not installed: pip install 'tutelage[calibrate]'")
    assert not (tmp_path / "out").exists()
