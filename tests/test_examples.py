"""Each example runs as its first lines say, in a folder and with a cache of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
TWO_EPISODES = """\
first episode
 teacher (disagreed): show order 1042
 teacher (disagreed): refund order 1042
 teacher (disagreed): close ticket
harvested 3 demonstrations
second episode
 student (agreed): show order 2001
 student (agreed): refund order 2001
 student (agreed): close ticket
"""


def run(name: str, folder: Path) -> str:
    """What an example prints; it must end well and say nothing on standard error."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("TUTELAGE_")
    }
    ran = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        cwd=folder,
        env={**environment, "TUTELAGE_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert {path.name for path in folder.iterdir()} <= {"cache"}
    return ran.stdout


def rows(table: str) -> dict[str, str]:
    """The success cell of a Markdown report, by arm."""
    cells = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {row[0].partition("(`")[2].rstrip("`)"): row[1] for row in cells[2:]}


def test_a_wrapped_client_is_answered_by_the_student_after_a_harvest(tmp_path: Path) -> None:
    assert run("wrap_openai.py", tmp_path) == TWO_EPISODES


def test_an_own_loop_costs_less_once_the_student_serves_it(tmp_path: Path) -> None:
    lines = run("own_agent_loop.py", tmp_path).splitlines()

    costs = [line.split("$") for line in lines if line.lstrip().startswith("cost")]
    assert [line for line in lines if "$" not in line] == TWO_EPISODES.splitlines()
    (first, first_alone), (second, second_alone) = [
        (float(spent.partition(",")[0]), float(alone)) for _, spent, alone in costs
    ]
    # The student was asked in vain at first; then the teacher was not asked.
    assert first > first_alone
    assert second < second_alone


def test_a_household_is_replayed_and_reported(tmp_path: Path) -> None:
    printed = run("replay_household.py", tmp_path)

    assert "bank: 12 episodes" in printed
    assert "finished: 12 of 12 episodes done" in printed
    success = rows(printed)
    assert list(success) == ["teacher", "recall", "recall-guarded"]
    assert success["teacher"].startswith("4/4")


def test_a_world_of_ones_own_is_played(tmp_path: Path) -> None:
    printed = run("custom_world.py", tmp_path)

    assert "bank: 15 episodes" in printed
    success = rows(printed)
    assert success["teacher"].startswith("4/4")
    assert success["recall-guarded"].startswith("4/4")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_every_script_among_the_examples_is_run_here(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    is_script = 'if __name__ == "__main__":' in source

    assert is_script == (f'run("{path.name}"' in Path(__file__).read_text(encoding="utf-8"))
    if is_script:
        assert f"Run it: ``python examples/{path.name}``" in source
