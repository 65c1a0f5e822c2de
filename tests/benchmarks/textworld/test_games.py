"""Games by seed, made by a stand-in for ``tw-make``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from tutelage.benchmarks.environment import Task
from tutelage.benchmarks.textworld import games
from tutelage.benchmarks.textworld.games import KINDS, SIZES, SeededGames
from tutelage.runtime.errors import BenchmarkError, MissingExtra, WorldMissing

MAKER = """#!{python}
import sys
from pathlib import Path
print("some words", file=sys.stderr)
arguments = sys.argv[1:]
made = Path(arguments[arguments.index("--output") + 1])
if "{fails}": sys.exit(3)
made.with_suffix(".json").write_text("")
made.write_text(" ".join(arguments))
"""


@pytest.fixture(autouse=True)
def version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(games, "version", lambda package: "1.2.3")


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    def write(fails: str = "") -> Path:
        script = tmp_path / "tw-make"
        script.write_text(MAKER.format(python=sys.executable, fails=fails))
        script.chmod(0o755)
        return script

    write()
    monkeypatch.setattr(games, "_maker", lambda: tmp_path / "tw-make")
    return write


def test_kinds_take_turns_and_splits_have_seeds_of_their_own(
    tmp_path: Path, maker: Callable[[str], Path]
) -> None:
    made = SeededGames(tmp_path / "games")
    assert [task.id for task in made.tasks("test:4")] == [
        "cooking/test/0",
        "custom/test/0",
        "coin/test/0",
        "cooking/test/1",
    ]
    assert len(made.tasks("train")) == SIZES["train"]
    assert len(made.tasks("train:900")) == 900
    files = {made.file(task) for split in SIZES for task in made.tasks(f"{split}:3")}
    assert len(files) == 3 * len(KINDS)


def test_a_game_is_made_once_and_kept_by_version(
    tmp_path: Path, maker: Callable[[str], Path]
) -> None:
    made = SeededGames(tmp_path / "games")
    task = Task("cooking/dev/7", "dev", "cooking")
    file = made.file(task)
    assert file == tmp_path / "games" / "1.2.3" / "cooking-1000007.z8"
    assert file.with_suffix(".json").is_file()
    told = file.read_text()
    assert told.startswith("tw-cooking --recipe 2")
    assert "--seed 1000007 --recipe-seed 1000007 --split valid --output" in told
    maker("always")
    assert made.file(task) == file


def test_a_failing_generator_is_quoted_in_one_line(
    tmp_path: Path, maker: Callable[[str], Path]
) -> None:
    maker("always")
    with pytest.raises(BenchmarkError, match=r"ended with exit code 3: some words$"):
        SeededGames(tmp_path / "games").file(Task("coin/test/0", "test", "coin"))


def test_a_missing_generator_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(games, "_maker", lambda: tmp_path / "nothing")
    with pytest.raises(BenchmarkError, match=r"failed: .*No such file"):
        SeededGames(tmp_path / "games").file(Task("coin/test/0", "test", "coin"))


@pytest.mark.parametrize("id", ["chess/test/0", "coin/exam/0", "coin/test/x", "coin", ""])
def test_a_task_of_another_world_is_refused(tmp_path: Path, id: str) -> None:
    with pytest.raises(WorldMissing, match="is none of textworld's"):
        SeededGames(tmp_path).file(Task(id, "test", "coin"))


def test_splits_do_not_run_into_each_other(tmp_path: Path) -> None:
    with pytest.raises(WorldMissing, match="at most 1000000 games"):
        SeededGames(tmp_path).tasks("train:1000001")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(games, "version", missing)
    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[textworld\]'"):
        SeededGames(tmp_path)


def test_the_generator_is_the_one_beside_this_python() -> None:
    assert Path(sys.executable).with_name("tw-make") == games._maker()
