"""The folder of one replay, held by one process at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tutelage.benchmarks.arms import Arm
from tutelage.benchmarks.manifest import (
    Manifest,
    RunSettings,
    read_manifest,
    sync_folder,
    write_manifest,
)
from tutelage.benchmarks.results import (
    RESULTS_FILE,
    EpisodeKey,
    EpisodeResult,
    parse_results,
    whole_lines,
)
from tutelage.runtime.errors import BenchmarkError

LOCK_FILE = "replay.lock"


class ResultsFolder:
    """Appends results durably, and knows which episodes are done; made by ``open_results``."""

    def __init__(self, path: Path, manifest: Manifest, descriptor: int) -> None:
        self.path = path
        self.manifest = manifest
        self._descriptor = descriptor
        self._results = self._load()

    @property
    def results(self) -> tuple[EpisodeResult, ...]:
        """All finished episodes, in the order they ended."""
        return tuple(self._results.values())

    def __contains__(self, key: object) -> bool:
        return key in self._results

    @property
    def spent_usd(self) -> float:
        """Cost of everything played into this folder, abandoned episodes included."""
        finished = sum(result.total_cost_usd for result in self._results.values())
        return finished + self.manifest.abandoned_cost_usd

    def append(self, result: EpisodeResult) -> None:
        """Writes one finished episode: one write, then fsync.

        Raises:
            BenchmarkError: The disk is full or failing; nothing of the episode is kept.
        """
        if result.key in self._results:
            raise ValueError(f"{result.key} is already among the results")
        line = result.line()
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            written = os.write(self._descriptor, line)
            if written == len(line):
                os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, end)
            raise BenchmarkError(
                f"{self.path / RESULTS_FILE} cannot be written: {error.strerror}"
            ) from error
        if written != len(line):
            os.ftruncate(self._descriptor, end)
            raise BenchmarkError(
                f"{self.path / RESULTS_FILE} cannot be written to its end: free some disk space"
            )
        self._results[result.key] = result

    def set_mix(self, arm: str, p_teacher: float) -> None:
        """Keeps the measured chance of the teacher for an arm; a resumed run uses the same."""
        self._update(mix={**self.manifest.mix, arm: p_teacher})

    def add_abandoned(self, cost_usd: float) -> None:
        """Keeps what was spent on episodes that were cut off."""
        self._update(abandoned_cost_usd=self.manifest.abandoned_cost_usd + cost_usd)

    def _update(self, **fields: object) -> None:
        self.manifest = self.manifest.model_copy(update=fields)
        write_manifest(self.path, self.manifest)

    def _load(self) -> dict[EpisodeKey, EpisodeResult]:
        source = str(self.path / RESULTS_FILE)
        content = (self.path / RESULTS_FILE).read_bytes()
        whole = whole_lines(content)
        results = {result.key: result for result in parse_results(whole, source)}
        if len(whole) < len(content):
            os.ftruncate(self._descriptor, len(whole))
            os.fsync(self._descriptor)
        return results


@contextmanager
def open_results(path: Path, settings: RunSettings, arms: Sequence[Arm]) -> Iterator[ResultsFolder]:
    """Opens or creates the folder of a replay and keeps others out of it.

    A torn last line, left by a kill in the middle of a write, is cut.

    Args:
        path: The folder; created if missing.
        settings: What the episodes share; must be what the folder was started with.
        arms: The arms about to be played; those played before must be defined as they were.

    Raises:
        BenchmarkError: Another replay holds the folder, it was written with other settings, or its
            files cannot be read or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be written: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BenchmarkError(
                f"another replay is writing to {path}; wait for it, or use another folder"
            ) from error
        try:
            manifest = _prepare_manifest(path, settings, arms)
            descriptor = os.open(path / RESULTS_FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            sync_folder(path)
        except OSError as error:
            raise BenchmarkError(f"{path} cannot be written: {error.strerror}") from error
        try:
            yield ResultsFolder(path, manifest, descriptor)
        finally:
            os.close(descriptor)
    finally:
        os.close(lock)


def _prepare_manifest(path: Path, settings: RunSettings, arms: Sequence[Arm]) -> Manifest:
    found = read_manifest(path)
    if found is None:
        results = path / RESULTS_FILE
        if results.exists() and results.stat().st_size > 0:
            raise BenchmarkError(f"{path} holds results but no run.json; use another folder")
        found = Manifest(settings=settings)
        manifest = found.continued(settings, arms, str(path))
        write_manifest(path, manifest)
        return manifest
    manifest = found.continued(settings, arms, str(path))
    if manifest != found:
        write_manifest(path, manifest)
    return manifest
