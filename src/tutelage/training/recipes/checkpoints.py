"""Folders with a manifest of checksums, which appear complete or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.runtime.errors import CheckpointDamaged

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST_FILE = "tutelage-manifest.json"
STATE_FILE = "state.json"
_NAME = re.compile(r"step-([0-9]{7})")

logger = logging.getLogger(__name__)


def write_folder(target: Path, fill: Callable[[Path], None], **about: object) -> Path:
    """Fills a folder beside ``target``, adds its manifest and moves it there.

    What was at ``target`` is replaced. A process that is killed leaves at most a hidden folder,
    which nobody reads.

    Args:
        target: The folder to make.
        fill: Writes the files.
        about: Further entries of the manifest, as JSON values.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        folder = scratch / "new"
        folder.mkdir()
        fill(folder)
        write_manifest(folder, **about)
        for path in folder.rglob("*"):
            _flush(path)
        if target.exists():
            target.rename(scratch / "old")
        folder.rename(target)
        _flush(target.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_manifest(folder: Path, **about: object) -> None:
    """Writes bytes and SHA-256 of every file of a folder."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        files[path.relative_to(folder).as_posix()] = {
            "bytes": path.stat().st_size,
            "sha256": sha256(path),
        }
    manifest = json.dumps({**about, "files": files}, indent=1, sort_keys=True)
    (folder / MANIFEST_FILE).write_text(manifest + "\n")


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_folder(folder: Path) -> dict[str, Any]:
    """Compares every file with the manifest, and returns the manifest.

    Raises:
        CheckpointDamaged: A file is missing, longer, shorter or other than it was written.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST_FILE).read_text())
        files = {str(name): file["sha256"] for name, file in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointDamaged(
            f"{folder} has no readable {MANIFEST_FILE}: delete the folder and make it again"
        ) from error
    for name, digest in files.items():
        path = folder / name
        if not path.is_file() or sha256(path) != digest:
            state = "is not as it was written" if path.is_file() else "is missing"
            raise CheckpointDamaged(f"{path} {state}: delete {folder} and make it again")
    return manifest


@dataclass(frozen=True, slots=True)
class Saved:
    """A state to go on from."""

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    """By file, without its ending, and by name."""
    state: Mapping[str, Any]


class Checkpoints:
    """The newest states of a run, in safetensors and JSON.

    Args:
        folder: Where they are; made when the first is saved.
        keep: How many stay.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self._folder = folder
        self._keep = keep

    def save(
        self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
    ) -> Path:
        """Writes the state after ``step`` steps, then drops the oldest."""
        from safetensors.torch import save_file

        def fill(folder: Path) -> None:
            for name, values in tensors.items():
                whole = {key: value.detach().contiguous() for key, value in values.items()}
                save_file(whole, folder / f"{name}.safetensors")
            (folder / STATE_FILE).write_text(json.dumps(state))

        target = write_folder(self._folder / f"step-{step:07d}", fill, step=step)
        for _, old in self._all()[: -self._keep]:
            shutil.rmtree(old)
        return target

    def newest(self) -> Saved | None:
        """The newest state that is whole; ``None`` if none was ever saved.

        Raises:
            CheckpointDamaged: There are some, and all are damaged.
        """
        from safetensors.torch import load_file

        known = self._all()
        for step, folder in reversed(known):
            try:
                manifest = verify_folder(folder)
            except CheckpointDamaged as error:
                logger.warning("%s; trying the one before", error)
                continue
            tensors = {
                Path(name).stem: load_file(folder / name)
                for name in manifest["files"]
                if name.endswith(".safetensors")
            }
            return Saved(step, tensors, json.loads((folder / STATE_FILE).read_text()))
        if known:
            raise CheckpointDamaged(
                f"every checkpoint in {self._folder} is damaged: delete the folder to begin anew"
            )
        return None

    def clear(self) -> None:
        """Deletes all of them."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _all(self) -> list[tuple[int, Path]]:
        if not self._folder.is_dir():
            return []
        found = [
            (int(match[1]), path)
            for path in self._folder.iterdir()
            if (match := _NAME.fullmatch(path.name)) and path.is_dir()
        ]
        return sorted(found)
