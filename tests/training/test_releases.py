from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.made_releases import BLOCKED, PASSED, PROBE, draft

from tutelage.runtime.errors import CheckpointDamaged, ReleaseRefused, TrainingError
from tutelage.runtime.release import Lineage, Release
from tutelage.runtime.store.database import open_engine
from tutelage.runtime.store.releases import SqlReleaseStore
from tutelage.training.releases import (
    ReleaseShelf,
    Weights,
    differences,
    traces_digest,
    verify,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlReleaseStore]:
    engine = open_engine(f"sqlite:///{tmp_path / 'releases.sqlite'}")
    yield SqlReleaseStore(engine, time.time)
    engine.dispose()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "trained"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "sub" / "config.json").write_text("{}")
    return folder


def publish(store: SqlReleaseStore, shelf: Path, checkpoint: Path, **changes: Any) -> Release:
    known: dict[str, Any] = {
        "student": "student",
        "tenant": "acme",
        "lineage": Lineage(
            traces_sha256=traces_digest(["b", "a"]), traces=2, recipe="supervised", code="0"
        ),
        "evidence": PASSED,
        "probe": PROBE,
        "origin": "run-1",
    }
    return ReleaseShelf(shelf, store).publish(Weights(checkpoint, "full"), **{**known, **changes})


def test_weights_are_copied_and_the_trained_ones_may_go(
    store: SqlReleaseStore, checkpoint: Path, tmp_path: Path
) -> None:
    made = publish(store, tmp_path / "shelf", checkpoint)
    assert made.name == "student@1"
    assert sorted(made.files) == ["model.safetensors", "sub/config.json"]
    (checkpoint / "model.safetensors").write_bytes(b"other")
    verify(made)
    assert (Path(made.folder) / "model.safetensors").read_bytes() == b"weights"


def test_publishing_again_finishes_what_was_begun_and_makes_nothing_new(
    store: SqlReleaseStore, checkpoint: Path, tmp_path: Path
) -> None:
    shelf = tmp_path / "shelf"
    made = publish(store, shelf, checkpoint)
    assert publish(store, shelf, checkpoint) == made
    again = publish(store, shelf, checkpoint, origin="run-2")
    assert (again.number, again.folder) == (2, made.folder)
    assert [one.name for one in (shelf / "weights").iterdir()] == [made.weights_sha256]


def test_half_a_copy_is_never_a_release(
    store: SqlReleaseStore, checkpoint: Path, tmp_path: Path
) -> None:
    shelf = tmp_path / "shelf"
    shelf.write_text("a file stands in the way")
    with pytest.raises(TrainingError, match=r"releases\.folder"):
        publish(store, shelf, checkpoint)
    assert store.releases("acme") == []


@pytest.mark.parametrize("damage", ["changed", "missing", "added"])
def test_damaged_weights_are_named(
    store: SqlReleaseStore, checkpoint: Path, tmp_path: Path, damage: str
) -> None:
    made = publish(store, tmp_path / "shelf", checkpoint)
    file = Path(made.folder) / "model.safetensors"
    if damage == "changed":
        file.write_bytes(b"weightz")
    elif damage == "missing":
        file.unlink()
    else:
        file.with_name("extra.json").write_text("{}")
    with pytest.raises(CheckpointDamaged, match="student@1"):
        verify(made)


def test_what_may_run_code_is_not_released(checkpoint: Path) -> None:
    (checkpoint / "training_args.bin").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"training_args\.bin may run code"):
        Weights(checkpoint, "full").files()


def test_a_link_or_a_folder_without_weights_is_not_released(
    checkpoint: Path, tmp_path: Path
) -> None:
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(TrainingError, match="holds no weights"):
        Weights(checkpoint, "full").files()
    (checkpoint / "model.safetensors").symlink_to(tmp_path)
    with pytest.raises(TrainingError, match="is a link"):
        Weights(checkpoint, "full").files()


def test_digests_of_traces_do_not_depend_on_their_order() -> None:
    assert traces_digest(["a", "b", "a"]) == traces_digest(["b", "a"])
    assert traces_digest(["a"]) != traces_digest(["a", "b"])


def test_differences_name_lineage_settings_and_gates() -> None:
    one = draft(number=1)
    lineage = one.lineage.model_copy(update={"traces": 9, "settings": {"epochs": 2, "rank": 16}})
    other = draft(number=2, lineage=lineage, evidence=BLOCKED)
    found = {name: (a, b) for name, a, b in differences(one, other)}
    assert found == {
        "traces": ("3", "9"),
        "settings.epochs": ("", "2"),
        "settings.rank": ("", "16"),
        "gates.success": ("passed, 0.9", "failed, 0.1"),
    }
    assert differences(one, one) == []
    with pytest.raises(ReleaseRefused, match="different students"):
        differences(one, draft(student="other"))
