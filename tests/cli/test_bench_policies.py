from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn")

HASH = ("--set", "retrieval.embedder=hash")
TINY = (
    *("bench", "policies", "household", "--fit", "train:6-9", "--on", "test:1"),
    *("--points", "1", "--seeds", "1", "--max-steps", "5", "--jobs", "1"),
)


@pytest.fixture
def bank(tutelage: Any) -> None:
    """A bank of six episodes in the folder of the test."""
    assert tutelage("collect", "household", "--split", "train:6", *HASH).code == 0


@pytest.mark.usefixtures("bank")
def test_all_policies_are_compared_in_a_table_a_file_and_a_plot(
    tutelage: Any, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")

    ran = tutelage(*TINY, *HASH)
    told = tutelage(*TINY, *HASH, "--json")

    assert ran.code == 0
    for word in ("calibrated", "benefit", "two-students", "95 % interval", "(uncached)"):
        assert word in ran.out
    assert ran.out.splitlines()[-1] == "wrote out/policies/policies.json"
    assert "playing train:6-9 with every step labelled" in ran.err
    written = json.loads((tmp_path / "out/policies/policies.json").read_text())
    assert (tmp_path / "out/policies/policies.png").read_bytes().startswith(b"\x89PNG")
    assert (told.code, told.err) == (0, "")
    assert told.json == written
    assert {row["family"] for row in written["arms"]} >= {"teacher", "paper", "router", "random"}


@pytest.mark.usefixtures("bank")
def test_what_cannot_be_drawn_or_written_is_said(
    tutelage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    drawn = tutelage(*TINY, *HASH)
    (tmp_path / "out/policies/policies.json").unlink()
    (tmp_path / "out/policies/policies.json").mkdir()
    written = tutelage(*TINY, *HASH, "--json")

    assert drawn.code == 0
    assert "no plot: matplotlib is not installed" in drawn.err
    assert written.code == 2
    assert written.line == ("error: out/policies/policies.json cannot be written: Is a directory")


@pytest.mark.usefixtures("bank")
def test_a_stop_ends_with_its_code_and_says_how_to_go_on(tutelage: Any, tmp_path: Path) -> None:
    capped = tutelage(*TINY, *HASH, "--max-usd", "0.0001", "--json")
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "tutelage.cli.main", *TINY, *HASH],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if " arms on test:1" in line:
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate(timeout=600)

    assert (capped.code, capped.out) == (4, "")
    assert capped.line == ("the spending cap is reached: raise it to go on with the same command")
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted: run the same command to go on\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--student", "gpt"), "--student 'gpt' is unknown: copying or student"),
        (("--fit", "test:3"), "share 1 tasks, test-00000 for one"),
    ],
)
def test_a_command_that_cannot_work_is_one_line(
    tutelage: Any, options: tuple[str, ...], says: str
) -> None:
    ran = tutelage(*TINY, *HASH, *options)

    assert (ran.code, ran.out) == (2, "")
    assert says in ran.line
