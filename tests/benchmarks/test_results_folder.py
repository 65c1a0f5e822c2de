from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks.tiny_world import result, results_file, settings

from tutelage.benchmarks.arms import ARMS, Arm
from tutelage.benchmarks.manifest import RunSettings, read_manifest
from tutelage.benchmarks.results import read_results
from tutelage.benchmarks.results_folder import open_results
from tutelage.runtime.errors import BenchmarkError

TEACHER = (ARMS["teacher"],)


def fill(
    folder: Path, given: RunSettings | None = None, arms: tuple[Arm, ...] = TEACHER, seed: int = 0
) -> None:
    with open_results(folder, given or settings(), arms) as results:
        results.append(result(seed=seed))


def test_what_is_appended_is_on_disk_before_append_returns(tmp_path: Path) -> None:
    with open_results(tmp_path / "new" / "run", settings(), TEACHER) as folder:
        folder.append(result())
        assert read_results(tmp_path / "new" / "run") == [result()]
        assert result().key in folder
        assert folder.results == (result(),)


def test_appending_the_same_episode_twice_is_refused(tmp_path: Path) -> None:
    with open_results(tmp_path, settings(), TEACHER) as folder:
        folder.append(result())
        with pytest.raises(ValueError, match="already among the results"):
            folder.append(result(success=False))
    assert read_results(tmp_path) == [result()]


def test_a_torn_last_line_is_cut_when_the_folder_is_opened(tmp_path: Path) -> None:
    fill(tmp_path)
    whole = results_file(tmp_path).read_bytes()
    results_file(tmp_path).write_bytes(whole + result(seed=1).line()[:-1])
    fill(tmp_path, seed=1)
    assert results_file(tmp_path).read_bytes() == whole + result(seed=1).line()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"student": "another"}, 'student = "a coin", now it is "another"'),
        ({"max_steps": 9}, "max_steps = 8, now it is 9"),
        ({"more": {"samples": 5}}, "more.samples = not set, now it is 5"),
    ],
)
def test_another_setting_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    fill(tmp_path)
    with pytest.raises(BenchmarkError) as caught:
        fill(tmp_path, settings(**change), seed=1)
    assert str(caught.value) == (
        f"{tmp_path} was written with {says}; set it back, or replay into another folder"
    )
    fill(tmp_path, seed=1)
    assert len(read_results(tmp_path)) == 2


def test_an_arm_of_another_definition_is_refused_and_a_new_arm_is_welcome(tmp_path: Path) -> None:
    cascade = ARMS["cascade"]
    fill(tmp_path, arms=(cascade,))
    with pytest.raises(
        BenchmarkError, match=r'arms\.cascade\.guards = \["loop", .*, now it is \["loop"\]'
    ):
        fill(tmp_path, arms=(replace(cascade, guards=("loop",)),))
    fill(tmp_path, arms=(replace(cascade, title="renamed"), ARMS["demos"]), seed=1)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert list(manifest.arms) == ["cascade", "demos"]
    assert manifest.fingerprint("cascade") != manifest.fingerprint("demos")


def test_a_folder_in_use_is_refused_and_free_again_afterwards(tmp_path: Path) -> None:
    with (
        open_results(tmp_path, settings(), TEACHER),
        pytest.raises(BenchmarkError, match=f"another replay is writing to {tmp_path}"),
    ):
        fill(tmp_path)
    fill(tmp_path)
    assert len(read_results(tmp_path)) == 1


def test_mix_and_abandoned_dollars_outlive_the_process(tmp_path: Path) -> None:
    with open_results(tmp_path, settings(), TEACHER) as folder:
        folder.append(result(cost_usd={"teacher": 0.5}))
        folder.set_mix("random-mix", 0.25)
        folder.add_abandoned(0.125)
        folder.add_abandoned(0.125)
    with open_results(tmp_path, settings(), TEACHER) as folder:
        assert folder.manifest.mix == {"random-mix": 0.25}
        assert folder.spent_usd == 0.75


def test_results_without_a_manifest_are_not_touched(tmp_path: Path) -> None:
    results_file(tmp_path).write_bytes(result().line())
    with pytest.raises(BenchmarkError, match=r"holds results but no run\.json"):
        fill(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("nonsense", "Invalid JSON"),
        ('{"format": 2, "settings": {}}', "format"),
        ("{}", "settings: Field required"),
    ],
)
def test_a_foreign_manifest_is_named(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(BenchmarkError, match=r"run\.json is not a replay's manifest") as caught:
        read_manifest(tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unreadable_manifest_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(BenchmarkError, match=r"run\.json cannot be read: Is a directory"):
        read_manifest(tmp_path)


def test_a_file_in_place_of_the_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchmarkError, match="file cannot be written: "):
        fill(tmp_path / "file")


def test_a_folder_in_place_of_the_results_is_one_clear_line(tmp_path: Path) -> None:
    fill(tmp_path)
    results_file(tmp_path).unlink()
    results_file(tmp_path).mkdir()
    with pytest.raises(BenchmarkError, match="cannot be written: Is a directory"):
        fill(tmp_path)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def half(descriptor: int, content: bytes) -> int:
        return write(descriptor, content[: len(content) // 2])

    def none(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with open_results(tmp_path, settings(), TEACHER) as folder:
        for broken, says in ((half, "free some disk space"), (none, "No space left on device")):
            monkeypatch.setattr(os, "write", broken)
            with pytest.raises(BenchmarkError, match=says):
                folder.append(result())
            monkeypatch.undo()
            assert results_file(tmp_path).read_bytes() == b""
        folder.append(result())
    assert read_results(tmp_path) == [result()]
