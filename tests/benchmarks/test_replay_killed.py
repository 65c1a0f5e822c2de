from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.benchmarks.tiny_world import lasting, results_file

from tutelage.benchmarks.results import parse_results, read_results, whole_lines

ROOT = Path(__file__).parents[2]
TASKS, SEEDS = 12, 4
EPISODES = 4 * TASKS * SEEDS
KILLS = 20


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.tiny_replay", str(folder)]
    return subprocess.Popen(
        [*command, str(TASKS), str(SEEDS)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder: Path) -> str:
    process = start(folder)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.slow
def test_twenty_kills_in_a_row_lose_and_repeat_nothing(tmp_path: Path) -> None:
    chance = random.Random(7)
    folder = tmp_path / "killed"
    kept = b""
    for _ in range(KILLS):
        with start(folder) as process:
            assert first_line(process) == "playing\n"
            # Not a wait for something: the moment of the kill is what is random here.
            time.sleep(chance.uniform(0, 0.06))
            assert process.poll() is None, "the replay was done before it could be killed"
            process.send_signal(signal.SIGKILL)
        file = results_file(folder)
        content = whole_lines(file.read_bytes()) if file.exists() else b""
        assert content.startswith(kept), "an episode that was written is gone"
        kept = content
    assert 0 < len(parse_results(kept, "kept")) < EPISODES
    assert f"{EPISODES} of {EPISODES} episodes done" in finish(folder)
    assert results_file(folder).read_bytes().startswith(kept)
    results = read_results(folder)
    assert len(results) == len({result.key for result in results}) == EPISODES
    finish(tmp_path / "undisturbed")
    assert lasting(results) == lasting(read_results(tmp_path / "undisturbed"))


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        assert first_line(process) == "playing\n"
        while not results_file(tmp_path).read_bytes():
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
    assert process.returncode == 130
    assert errors == ""
    done = len(read_results(tmp_path))
    assert 0 < done < EPISODES
    assert f"interrupted: {done} of {EPISODES} episodes done" in output
    assert "go on with: the same command" in output


def test_two_replays_cannot_share_a_folder(tmp_path: Path) -> None:
    with start(tmp_path) as first:
        assert first_line(first) == "playing\n"
        with start(tmp_path) as second:
            _, errors = second.communicate()
        assert second.returncode == 1
        assert errors == (
            f"another replay is writing to {tmp_path}; wait for it, or use another folder\n"
        )
        first.send_signal(signal.SIGKILL)
