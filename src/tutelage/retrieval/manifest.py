"""An index on disk: one checksummed file and a manifest that is replaced atomically."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tutelage.retrieval.faiss_index import FaissIndex
from tutelage.runtime.cache_dir import build_lock
from tutelage.runtime.errors import IndexDamaged

_MANIFEST = "manifest.json"


class IndexManifest(BaseModel):
    """What the cached index is, and what its file must hash to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    embedder: str
    dimension: int
    rows: int
    content: str
    """Hash of what was indexed, in its order; the database decides whether it is still true."""
    sha256: str
    """Checksum of the index file, which is named after it."""


def read_manifest(folder: Path) -> IndexManifest | None:
    """The manifest of a cache folder; ``None`` if nothing is cached there.

    Raises:
        IndexDamaged: It cannot be parsed.
    """
    path = folder / _MANIFEST
    try:
        return IndexManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise IndexDamaged(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def load_index(folder: Path, manifest: IndexManifest) -> FaissIndex:
    """The index that a manifest names.

    Raises:
        IndexDamaged: The file is missing, fails its checksum or has other rows than the manifest.
    """
    path = _file(folder, manifest.sha256)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IndexDamaged(f"{path} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != manifest.sha256:
        raise IndexDamaged(f"{path} fails its checksum")
    index = FaissIndex.from_bytes(content, manifest.dimension)
    if index.size != manifest.rows:
        raise IndexDamaged(f"{path} holds {index.size} rows, its manifest says {manifest.rows}")
    return index


def save_index(
    folder: Path, index: FaissIndex, *, embedder: str, dimension: int, content: str
) -> IndexManifest:
    """Writes an index; a crash at any point leaves the old one or the new one, never a mixture.

    The index file is complete on disk before the manifest names it, and the old file goes last.
    """
    body = index.to_bytes()
    manifest = IndexManifest(
        embedder=embedder,
        dimension=dimension,
        rows=index.size,
        content=content,
        sha256=hashlib.sha256(body).hexdigest(),
    )
    with build_lock(folder / "lock"):
        target = _file(folder, manifest.sha256)
        replace_file(target, body)
        replace_file(folder / _MANIFEST, manifest.model_dump_json().encode())
        for old in folder.glob("index-*"):
            if old != target:
                old.unlink(missing_ok=True)
    return manifest


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file so that a reader, or a machine that restarts, sees all of it or none."""
    handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _file(folder: Path, sha256: str) -> Path:
    return folder / f"index-{sha256[:32]}.faiss"
