from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from tutelage.runtime.errors import CheckpointDamaged
from tutelage.training.recipes.checkpoints import (
    MANIFEST_FILE,
    Checkpoints,
    sha256,
    verify_folder,
    write_folder,
)


def save(checkpoints: Checkpoints, step: int) -> Path:
    values = {"trained": {"w": torch.full((2,), float(step))}}
    return checkpoints.save(step, values, {"losses": [0.5] * step})


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_newest_is_read_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    assert checkpoints.newest() is None
    for step in (1, 2, 30):
        save(checkpoints, step)
    found = checkpoints.newest()
    assert found is not None
    assert (found.step, found.state["losses"]) == (30, [0.5] * 30)
    assert found.tensors["trained"]["w"].tolist() == [30.0, 30.0]
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        "step-0000002",
        "step-0000030",
    ]


@pytest.mark.parametrize("name", ["trained.safetensors", "state.json"])
def test_a_damaged_one_falls_back_to_the_one_before(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    flip(save(checkpoints, 2) / name)
    found = checkpoints.newest()
    assert found is not None
    assert found.step == 1
    assert f"{name} is not as it was written" in caplog.text


def test_damage_everywhere_is_an_error(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    (save(checkpoints, 1) / "state.json").unlink()
    (save(checkpoints, 2) / MANIFEST_FILE).write_text("{")
    with pytest.raises(CheckpointDamaged, match="delete the folder to begin anew"):
        checkpoints.newest()
    checkpoints.clear()
    assert checkpoints.newest() is None


def test_a_half_written_one_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)

    def die(source: Path, target: Path) -> None:
        raise OSError("killed before the rename")

    monkeypatch.setattr(Path, "rename", die)
    with pytest.raises(OSError, match="killed"):
        save(checkpoints, 2)
    monkeypatch.undo()
    (tmp_path / ".step-0000003.x" / "new").mkdir(parents=True)
    found = checkpoints.newest()
    assert found is not None
    assert found.step == 1


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    def fill(text: str) -> Path:
        def write(folder: Path) -> None:
            (folder / f"{text}.txt").write_text(text)

        return write_folder(tmp_path / "made", write, recipe="r")

    fill("old")
    folder = fill("new")
    assert sorted(os.listdir(folder)) == ["new.txt", MANIFEST_FILE]
    assert verify_folder(folder)["recipe"] == "r"
    assert os.listdir(tmp_path) == ["made"]
    listed = json.loads((folder / MANIFEST_FILE).read_text())["files"]
    assert listed == {"new.txt": {"bytes": 3, "sha256": sha256(folder / "new.txt")}}
