"""How a search grows with the bank: time, recall, memory and adds while serving, by size."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tutelage.overhead.bank_scale_vectors import Interpolated
from tutelage.overhead.figure import Figure
from tutelage.retrieval.embedding import Vectors
from tutelage.retrieval.faiss_index import FaissIndex

K = 6
_CHUNK = 20_000
_WARM_UP = 20
_TIE = 1e-3
"""Scores that half precision cannot tell apart."""


@dataclass(frozen=True, slots=True)
class ScalePlan:
    """What is measured."""

    sizes: Sequence[int] = (10_000, 100_000, 1_000_000)
    queries: int = 500
    """Real states that are not in the bank."""
    added: int = 1_000
    """Rows added while others search."""
    added_at_once: int = 10
    seed: int = 0


class Searched(Protocol):
    """An index as the measurement sees it; rows are numbered from 0."""

    def fill(self, rows: Vectors) -> None:
        """Holds these rows, shape (n, dimension), and no others."""
        ...

    def add(self, rows: Vectors) -> None:
        """Appends rows."""
        ...

    def nearest(self, query: Vectors) -> Sequence[int]:
        """Numbers of the ``K`` best rows for one query, shape (dimension,)."""
        ...

    def bytes(self) -> int:
        """Memory or disk that it takes."""
        ...

    def computed_s(self) -> float:
        """Seconds of a processor that searches on this thread have taken so far, and a server."""
        ...


class FaissSearched:
    """The index that each process holds in memory."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._before_bytes = 0
        self._index = FaissIndex(dimension)

    def fill(self, rows: Vectors) -> None:
        """Builds the index as a bank does that is opened."""
        self._index = FaissIndex(self._dimension)
        gc.collect()
        self._before_bytes = memory_bytes()
        self._index.add(np.arange(len(rows), dtype=np.int64), rows)

    def add(self, rows: Vectors) -> None:
        """Appends rows."""
        first = self._index.size
        self._index.add(np.arange(first, first + len(rows), dtype=np.int64), rows)

    def nearest(self, query: Vectors) -> Sequence[int]:
        """Numbers of the best rows."""
        found: list[int] = self._index.search(query[None, :], K).ids[0].tolist()
        return found

    def bytes(self) -> int:
        """What the process has taken since before the index was built."""
        return memory_bytes() - self._before_bytes

    def computed_s(self) -> float:
        """Seconds of this thread."""
        return time.thread_time()


def memory_bytes() -> int:
    """Memory of this process that no file stands behind; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
    return int(found[0]) * 1024 if found else 0


def write_rows(path: Path, real: Vectors, count: int, seed: int) -> NDArray[np.float32]:
    """The real rows and as many made ones as are missing, in a file that is read page by page.

    Args:
        path: The file.
        real: Unit rows, shape (n, dimension); they come first.
        count: Rows.
        seed: Of what is made.
    """
    made = Interpolated(real, seed)
    rows: NDArray[np.float32] = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.float32, shape=(count, real.shape[1])
    )
    here = min(count, len(real))
    rows[:here] = real[:here]
    for start in range(here, count, _CHUNK):
        end = min(start + _CHUNK, count)
        rows[start:end] = made.draw(end - start)
    return rows


def sixth_best(rows: Vectors, queries: Vectors) -> NDArray[np.float32]:
    """The exact score of the ``K``-th best row of each query, shape (queries,)."""
    best = np.full((len(queries), K), -np.inf, dtype=np.float32)
    for start in range(0, len(rows), _CHUNK):
        scores = queries @ np.asarray(rows[start : start + _CHUNK]).T
        both = np.concatenate([best, scores], axis=1)
        best = -np.partition(-both, K - 1, axis=1)[:, :K]
    sixth: NDArray[np.float32] = best.min(axis=1)
    return sixth


def measure_scale(
    name: str,
    searched: Searched,
    rows: Vectors,
    queries: Vectors,
    plan: ScalePlan,
    *,
    timer: Callable[[], float] = time.perf_counter,
) -> list[Figure]:
    """Fills an index, searches it alone and while rows are added, and says how it went.

    Args:
        name: Of the index.
        searched: The index.
        rows: What it is filled with, shape (size, dimension).
        queries: Unit rows, shape (queries, dimension).
        plan: How many rows are added, how many at once.
        timer: A monotonic clock in seconds.
    """
    part = f"{name}, {len(rows):,}"
    began_s = timer()
    searched.fill(rows)
    built_s = timer() - began_s
    held_bytes = searched.bytes()
    for query in queries[:_WARM_UP]:
        searched.nearest(query)
    alone_s: list[float] = []
    computed_s: list[float] = []
    right = 0
    for query, least in zip(queries, sixth_best(rows, queries), strict=True):
        used_s, began_s = searched.computed_s(), timer()
        found = searched.nearest(query)
        alone_s.append(timer() - began_s)
        computed_s.append(searched.computed_s() - used_s)
        right += int((np.asarray(rows)[list(found)] @ query >= least - _TIE).sum())
    beside_s, seen = _while_adding(searched, len(rows), rows, queries, plan, timer)
    return [
        Figure(part, "build", built_s, "s"),
        Figure(part, "held", held_bytes / 2**20, "MiB"),
        *_times(part, "search", alone_s),
        *_times(part, "search, CPU alone", computed_s),
        Figure(part, f"recall@{K}", right / (K * len(queries)), "", "of an exact search"),
        *_times(part, "search during adds", beside_s),
        Figure(part, "added rows found at once", seen / plan.added, "", f"of {plan.added:,}"),
    ]


def _times(part: str, name: str, seconds: Sequence[float]) -> list[Figure]:
    median, late = np.percentile(np.array(seconds) * 1000, [50, 99])
    note = f"{len(seconds):,} searches"
    return [
        Figure(part, f"{name}, p50", float(median), "ms", note),
        Figure(part, f"{name}, p99", float(late), "ms", note),
    ]


def _while_adding(
    searched: Searched,
    size: int,
    rows: Vectors,
    queries: Vectors,
    plan: ScalePlan,
    timer: Callable[[], float],
) -> tuple[list[float], int]:
    """Seconds of the searches beside adds, and how many added rows were found right after."""
    # Turned about, so that none of them is in the index, and each is its own nearest row.
    added = np.ascontiguousarray(-np.asarray(rows[: plan.added]), dtype=np.float32)
    seen = 0
    failed: list[BaseException] = []

    def add() -> None:
        nonlocal seen
        try:
            for start in range(0, len(added), plan.added_at_once):
                piece = added[start : start + plan.added_at_once]
                searched.add(piece)
                for offset, row in enumerate(piece):
                    seen += size + start + offset in searched.nearest(row)
        except BaseException as error:  # noqa: BLE001 - raised below, on the thread that asked
            failed.append(error)

    seconds: list[float] = []
    adding = threading.Thread(target=add)
    adding.start()
    while adding.is_alive() or not seconds:
        query = queries[len(seconds) % len(queries)]
        began_s = timer()
        searched.nearest(query)
        seconds.append(timer() - began_s)
    adding.join()
    if failed:
        raise failed[0]
    return seconds, seen
