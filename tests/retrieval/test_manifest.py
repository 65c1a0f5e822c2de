from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tutelage.retrieval.faiss_index import FaissIndex
from tutelage.retrieval.manifest import (
    IndexManifest,
    load_index,
    read_manifest,
    replace_file,
    save_index,
)
from tutelage.runtime.errors import IndexDamaged


def index_of(rows: int) -> FaissIndex:
    index = FaissIndex(4)
    index.add(np.arange(rows, dtype=np.int64), np.eye(rows, 4, dtype=np.float32))
    return index


def save(folder: Path, rows: int) -> IndexManifest:
    return save_index(folder, index_of(rows), embedder="e", dimension=4, content=f"c{rows}")


def loaded(folder: Path) -> FaissIndex:
    manifest = read_manifest(folder)
    assert manifest is not None
    return load_index(folder, manifest)


def test_an_empty_folder_has_no_manifest(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None


def test_what_was_saved_last_is_loaded_and_the_old_file_is_gone(tmp_path: Path) -> None:
    save(tmp_path, 2)
    manifest = save(tmp_path, 3)
    assert read_manifest(tmp_path) == manifest
    assert (manifest.rows, manifest.embedder, manifest.dimension) == (3, "e", 4)
    np.testing.assert_array_equal(loaded(tmp_path).ids, [0, 1, 2])
    assert len(list(tmp_path.glob("index-*"))) == 1


@pytest.mark.parametrize("position", [0, 30, -1])
def test_a_flipped_byte_is_noticed(tmp_path: Path, position: int) -> None:
    save(tmp_path, 3)
    (file,) = tmp_path.glob("index-*")
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(IndexDamaged, match="fails its checksum"):
        loaded(tmp_path)


def test_a_truncated_or_missing_index_is_noticed(tmp_path: Path) -> None:
    save(tmp_path, 3)
    (file,) = tmp_path.glob("index-*")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(IndexDamaged, match="fails its checksum"):
        loaded(tmp_path)
    file.unlink()
    with pytest.raises(IndexDamaged, match="cannot be read"):
        loaded(tmp_path)


def test_a_damaged_manifest_is_noticed(tmp_path: Path) -> None:
    save(tmp_path, 3)
    path = tmp_path / "manifest.json"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(IndexDamaged, match=r"manifest\.json cannot be read"):
        read_manifest(tmp_path)


def test_a_manifest_that_counts_other_rows_is_noticed(tmp_path: Path) -> None:
    manifest = save(tmp_path, 3).model_copy(update={"rows": 4})
    with pytest.raises(IndexDamaged, match="holds 3 rows, its manifest says 4"):
        load_index(tmp_path, manifest)


def test_a_write_that_fails_leaves_the_old_file_and_no_scrap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from tutelage.retrieval.faiss_index import FaissIndex
from tutelage.retrieval.manifest import save_index

calls, deadly = 0, int(sys.argv[2])

def counted(inner):
    def call(*args, **keywords):
        global calls
        if calls == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return inner(*args, **keywords)
    return call

for name in ("fsync", "rename", "replace", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
index = FaissIndex(4)
index.add(np.arange(4, dtype=np.int64), np.eye(4, dtype=np.float32))
save_index(Path(sys.argv[1]), index, embedder="e", dimension=4, content="c4")
"""


def test_a_kill_at_any_system_call_leaves_the_old_or_the_new_index(tmp_path: Path) -> None:
    save(tmp_path, 3)
    seen = []
    for deadly in range(20):
        code = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), str(deadly)], check=False
        ).returncode
        seen.append(loaded(tmp_path).size)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert code == 0
    assert len(seen) >= 6
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (3, 4)
