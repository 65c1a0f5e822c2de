"""Archives of ALFWorld games → a data folder in the cache.

``python -m tutelage.benchmarks.alfworld.unpack`` unpacks the folder ``ALFWORLD_ARCHIVES`` into the
cache and prints the data folder; with ``--if-present`` it is content with no archives.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from tutelage.runtime.cache_dir import build_lock, cache_dir
from tutelage.runtime.errors import BenchmarkError, WorldMissing

RELEASE = "json_2.1.1"
"""Name of the folder that holds the splits, in the archives and in ALFWorld's own data folder."""
SPLITS = ("train", "valid_seen", "valid_unseen")
GAME_FILES = frozenset({"game.tw-pddl", "traj_data.json"})


def unpack_games(archives: Path, cache: Path, splits: Sequence[str] = SPLITS) -> Path:
    """Unpacks the games of every ``*.tar.xz`` in a folder, once.

    Each split appears in the cache by one rename, so that a reader sees all of its games or none.
    An archive is unpacked again only when its SHA-256 changes.

    Args:
        archives: Folder with archives of ``json_2.1.1/<split>/<task>/<trial>/<file>``.
        cache: Folder for caches; the games go to ``<cache>/alfworld``.
        splits: The splits to unpack; others are left in the archives.

    Returns:
        The folder above ``json_2.1.1``, as ``ALFWORLD_DATA`` names it.

    Raises:
        WorldMissing: The folder holds no archive.
        BenchmarkError: An archive is damaged, unsafe, or holds no game.
    """
    found = sorted(archives.glob("*.tar.xz"))
    if not found:
        raise WorldMissing(
            f"no *.tar.xz archive of ALFWorld games in {archives}: set ALFWORLD_ARCHIVES to their "
            "folder, or run `alfworld-download` and set ALFWORLD_DATA"
        )
    target = cache / "alfworld"
    with build_lock(target / ".lock"):
        for archive in found:
            _unpack(archive, target, splits)
    return target


def _unpack(archive: Path, target: Path, splits: Sequence[str]) -> None:
    marker = target / f".{archive.name}.json"
    digest = _sha256(archive)
    if _is_done(marker, digest, target, splits):
        return
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=target) as scratch:
        contained = _extract(archive, Path(scratch), splits)
        wanted = [split for split in splits if split in contained]
        for split in wanted:
            _replace(Path(scratch) / RELEASE / split, target / RELEASE / split)
        note = Path(scratch) / "marker"
        note.write_text(
            json.dumps({"sha256": digest, "contains": sorted(contained), "unpacked": wanted})
        )
        os.replace(note, marker)


def _is_done(marker: Path, digest: str, target: Path, splits: Sequence[str]) -> bool:
    try:
        note = json.loads(marker.read_text())
        contains, unpacked = set(note["contains"]), set(note["unpacked"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    needed = contains & set(splits)
    return (
        note["sha256"] == digest
        and needed <= unpacked
        and all((target / RELEASE / split).is_dir() for split in needed)
    )


def _extract(archive: Path, scratch: Path, splits: Sequence[str]) -> set[str]:
    """Unpacks the wanted games into ``scratch``; returns all splits that the archive contains."""
    contained: set[str] = set()

    def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        for member in tar:
            parts = PurePosixPath(member.name).parts
            if not member.isfile() or len(parts) != 5:
                continue
            release, split, _, _, name = parts
            if release == RELEASE and name in GAME_FILES:
                contained.add(split)
                if split in splits:
                    yield member

    try:
        with tarfile.open(archive, "r:xz") as tar:
            tar.extractall(scratch, members=members(tar), filter="data")
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise BenchmarkError(
            f"archive {archive} cannot be unpacked, fetch it again: {error}"
        ) from error
    if not contained:
        raise BenchmarkError(f"archive {archive} holds no {RELEASE}/<split>/<task>/<trial> games")
    return contained


def _replace(new: Path, old: Path) -> None:
    old.parent.mkdir(parents=True, exist_ok=True)
    if old.is_dir():
        shutil.move(old, new.with_name(f"{new.name}.replaced"))
    new.rename(old)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Unpacks the archives of ``ALFWORLD_ARCHIVES``; returns the exit code."""
    archives = Path(environ.get("ALFWORLD_ARCHIVES") or ".").expanduser()
    try:
        print(unpack_games(archives, cache_dir(environ)))
    except WorldMissing as error:
        print(error, file=sys.stderr)
        return 0 if "--if-present" in arguments else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
