"""Weights on disk as releases: copied once, named by number, and checked by their digests."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tutelage.runtime.errors import CheckpointDamaged, ReleaseRefused, TrainingError
from tutelage.runtime.release import Kind, Lineage, Probe, Release
from tutelage.runtime.store.releases import SqlReleaseStore

PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
"""Endings of files that run code when they are read."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Weights:
    """A folder of weights that a release is to be made of."""

    folder: Path
    kind: Kind

    def files(self) -> dict[str, str]:
        """SHA-256 of every file by its path in the folder.

        Raises:
            TrainingError: The folder holds no safetensors, or a file that must not be in it.
        """
        found: dict[str, str] = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_symlink():
                raise TrainingError(f"{path} is a link: a release holds its files itself")
            if not path.is_file():
                continue
            if path.suffix in PICKLED:
                raise TrainingError(f"{path} may run code when it is read: write safetensors")
            found[name] = _sha256(path)
        if not any(name.endswith(".safetensors") for name in found):
            raise TrainingError(f"{self.folder} holds no weights: a release is made of safetensors")
        return found


class ReleaseShelf:
    """The folder of all releases, beside their rows in the database.

    Args:
        folder: Where weights are kept; each release has a folder of its name in it.
        store: Keeps what is known of them.
    """

    def __init__(self, folder: Path, store: SqlReleaseStore) -> None:
        self._folder = folder
        self._store = store

    def publish(
        self,
        weights: Weights,
        *,
        student: str,
        tenant: str,
        lineage: Lineage,
        evidence: dict[str, Any] | None,
        probe: Probe | None,
        origin: str,
    ) -> Release:
        """Copies weights to the shelf and gives them the next number.

        Done again for the same origin, it gives the same release, and finishes what was begun.

        Raises:
            TrainingError: The weights may not be released, or cannot be copied.
            CheckpointDamaged: The copy differs from what was released.
        """
        made = self._store.made_by(tenant, origin)
        if made is None:
            files = weights.files()
            digest = digest_of(files)
            # By digest, so that the row never names a folder that is not complete.
            place = self._folder / "weights" / digest
            self._copy(weights.folder, place, files)
            draft = Release(
                student=student,
                number=1,
                tenant=tenant,
                created_at_s=0.0,
                kind=weights.kind,
                folder=str(place),
                files=files,
                weights_sha256=digest,
                lineage=lineage,
                evidence=evidence,
                probe=probe,
            )
            made = self._store.add(draft, origin)
        verify(made)
        return made

    def _copy(self, source: Path, place: Path, files: dict[str, str]) -> None:
        if place.is_dir():
            return
        part = place.with_name(f".{place.name}.{uuid4().hex}")
        try:
            for name in files:
                target = part / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, target)
                with target.open("rb") as file:
                    os.fsync(file.fileno())
            # Another process may have been faster: then its copy is as good.
            with contextlib.suppress(FileExistsError):
                part.replace(place)
        except OSError as error:
            if not place.is_dir():
                raise TrainingError(
                    f"weights cannot be copied to {place}: {error}; see releases.folder"
                ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)


def verify(release: Release) -> None:
    """Compares the files of a release with the digests that were taken when it was made.

    Raises:
        CheckpointDamaged: A file is missing, changed, or was added.
    """
    folder = Path(release.folder)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name, digest in release.files.items():
        if name not in there:
            raise CheckpointDamaged(f"{release.name}: {folder / name} is missing: restore it")
        if _sha256(folder / name) != digest:
            raise CheckpointDamaged(
                f"{release.name}: {folder / name} is not what was released: restore it"
            )
    added = sorted(there - release.files.keys())
    if added:
        raise CheckpointDamaged(f"{release.name}: {folder / added[0]} was added: remove it")


def digest_of(files: dict[str, str]) -> str:
    """One SHA-256 for a set of files, of names and contents."""
    hashed = hashlib.sha256()
    for name, digest in sorted(files.items()):
        hashed.update(f"{digest}  {name}\n".encode())
    return hashed.hexdigest()


def weights_digest(folder: Path) -> str:
    """One SHA-256 for the weights of any checkpoint, also one that is no release.

    Raises:
        TrainingError: The folder holds no safetensors.
    """
    files = {path.name: _sha256(path) for path in sorted(folder.glob("*.safetensors"))}
    if not files:
        raise TrainingError(f"{folder} holds no safetensors: name the folder of a checkpoint")
    return digest_of(files)


def traces_digest(ids: Iterable[str]) -> str:
    """SHA-256 of a set of trace ids, in any order."""
    return hashlib.sha256("\n".join(sorted(set(ids))).encode()).hexdigest()


def differences(one: Release, other: Release) -> Sequence[tuple[str, str, str]]:
    """What differs between two releases: field, and how it is in each.

    Raises:
        ReleaseRefused: They are releases of different students.
    """
    if one.student != other.student:
        raise ReleaseRefused(f"{one.name} and {other.name} are releases of different students")
    pairs = [(name, _shown(a), _shown(getattr(other.lineage, name))) for name, a in one.lineage]
    pairs = [pair for pair in pairs if pair[0] != "settings"]
    mine, theirs = one.lineage.settings, other.lineage.settings
    for name in sorted(mine.keys() | theirs.keys()):
        pairs.append((f"settings.{name}", _shown(mine.get(name)), _shown(theirs.get(name))))
    pairs.append(("kind", one.kind, other.kind))
    pairs.append(("weights_sha256", one.weights_sha256, other.weights_sha256))
    for gate in sorted(_gates(one).keys() | _gates(other).keys()):
        pairs.append((f"gates.{gate}", _gates(one).get(gate, ""), _gates(other).get(gate, "")))
    return [pair for pair in pairs if pair[1] != pair[2]]


def _gates(release: Release) -> dict[str, str]:
    verdicts = (release.evidence or {}).get("verdicts") or ()
    return {
        one["gate"]: f"{'passed' if one['passed'] else 'failed'}, {_shown(one.get('value'))}"
        for one in verdicts
    }


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sha256(path: Path) -> str:
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            hashed.update(piece)
    return hashed.hexdigest()
