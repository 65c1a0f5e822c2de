"""FAISS behind the index protocol: exact while small, inverted lists when large."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from tutelage.retrieval.embedding import Vectors
from tutelage.retrieval.growing import GrowingRows
from tutelage.retrieval.index import Hits, Ids, padded
from tutelage.runtime.errors import IndexDamaged

FLAT_ROWS = 10_000
"""Up to here a scan is as fast as an approximate search."""
VISITED_LISTS = 48
"""Lists that a search looks into, whatever the size: its time grows as the root of the rows."""
_TRAINING_ROWS_PER_LIST = 40
_TRAINING_ROUNDS = 6
_MOST_TRAINING_ROWS_PER_LIST = 64
# What is added at once holds up a search, so it is added in pieces.
_PIECE = 64


class FaissIndex:
    """Dot-product search with FAISS; the kind follows the size.

    Flat (exact) to ``flat_rows``; above that ``IVFFlat`` with 4 sqrt(n) lists of which
    ``VISITED_LISTS`` are looked into. Inverted lists rather than HNSW: goals repeat, which costs a
    graph its recall, and lists are built in seconds. They are trained anew each time the number of
    rows has doubled. One thread may add while others search; they wait for a few rows at most.

    Args:
        dimension: Length of a vector.
        flat_rows: Most rows of an exact index.
    """

    def __init__(self, dimension: int, *, flat_rows: int = FLAT_ROWS) -> None:
        import faiss

        self._dimension = dimension
        self._flat_rows = flat_rows
        self._grown = GrowingRows(np.empty(0, dtype=np.int64))
        self._ids: Ids = np.empty(0, dtype=np.int64)
        self._trained_rows = 0
        self._native: Any = faiss.IndexFlatIP(dimension)
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Number of vectors."""
        return len(self._ids)

    @property
    def ids(self) -> Ids:
        """Ids in the order they were added, shape (size,)."""
        return self._ids

    @property
    def kind(self) -> str:
        """``flat`` or ``ivf``."""
        return "ivf" if self._trained_rows else "flat"

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Adds rows; ``ids`` (n,) must be new and not negative, ``vectors`` (n, dimension)."""
        rows = self.size + len(ids)
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if rows > max(self._flat_rows, 2 * self._trained_rows):
            # Searches go on with the old lists meanwhile.
            everything = vectors
            if self.size:
                everything = np.concatenate([self._native.reconstruct_n(0, self.size), vectors])
            native = _trained(everything)
            native.add(everything)
            with self._lock:
                self._native, self._trained_rows = native, rows
                self._ids = self._grown.append(ids)
            return
        piece = _PIECE if self._trained_rows else max(1, len(ids))
        for start in range(0, len(ids), piece):
            with self._lock:
                self._native.add(vectors[start : start + piece])
                self._ids = self._grown.append(ids[start : start + piece])

    def search(self, queries: Vectors, k: int, *, excluded: Ids | None = None) -> Hits:
        """The k best rows for each query; approximate once the index is of the kind ``ivf``."""
        import faiss

        # Of this thread only: several for one query wait for one another on a busy machine.
        faiss.omp_set_num_threads(1)
        barred = np.empty(0, dtype=np.int64) if excluded is None else excluded
        spare = len(barred)
        with self._lock:
            known = self._ids
            wanted = min(k + spare, len(known))
            if wanted:
                scores, rows = self._native.search(np.ascontiguousarray(queries), wanted)
        if wanted == 0:
            empty = np.empty((len(queries), 0))
            return padded(empty.astype(np.int64), empty.astype(np.float32), k)
        ids = np.where(rows < 0, -1, known[rows])
        scores = np.where(rows < 0, -np.inf, scores).astype(np.float32)
        if spare:
            # Stable, so that what is kept stays in order and what is dropped goes to the end.
            dropped = np.isin(ids, barred)
            order = np.argsort(dropped, axis=1, kind="stable")
            ids = np.take_along_axis(np.where(dropped, -1, ids), order, axis=1)
            scores = np.take_along_axis(np.where(dropped, -np.inf, scores), order, axis=1)
        return padded(ids[:, :k], scores[:, :k], k)

    def to_bytes(self) -> bytes:
        """The index with its ids as bytes for ``from_bytes``."""
        import faiss

        header = np.array([self.size, self._flat_rows, self._trained_rows], dtype="<i8")
        native: bytes = faiss.serialize_index(self._native).tobytes()
        return header.tobytes() + self._ids.astype("<i8").tobytes() + native

    @classmethod
    def from_bytes(cls, content: bytes, dimension: int) -> FaissIndex:
        """Reads what ``to_bytes`` wrote; check its checksum first.

        Raises:
            IndexDamaged: The bytes are no such index, or not of this dimension.
        """
        import faiss

        try:
            rows, flat_rows, trained_rows = np.frombuffer(content, dtype="<i8", count=3).tolist()
            ids = np.frombuffer(content, dtype="<i8", count=rows, offset=24)
            native: Any = faiss.deserialize_index(
                np.frombuffer(content, dtype=np.uint8, offset=24 + 8 * rows)
            )
        except (ValueError, RuntimeError) as error:
            raise IndexDamaged(f"the index cache cannot be read: {error}") from error
        if native.d != dimension or native.ntotal != rows:
            raise IndexDamaged(
                f"the index cache holds {native.ntotal} x {native.d}, not {rows} x {dimension}"
            )
        index = cls(dimension, flat_rows=flat_rows)
        index._ids = index._grown.append(ids)
        index._trained_rows = trained_rows
        index._native = native
        if trained_rows:
            # A cache that an earlier release wrote may say otherwise.
            native.nprobe = min(native.nlist, VISITED_LISTS)
        return index


def _trained(vectors: Vectors) -> Any:
    import faiss

    rows, dimension = vectors.shape
    lists = max(1, min(int(4 * math.sqrt(rows)), rows // _TRAINING_ROWS_PER_LIST))
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(dimension), dimension, lists, faiss.METRIC_INNER_PRODUCT
    )
    index.nprobe = min(lists, VISITED_LISTS)
    index.cp.niter = _TRAINING_ROUNDS
    index.cp.max_points_per_centroid = _MOST_TRAINING_ROWS_PER_LIST
    index.train(np.ascontiguousarray(vectors, dtype=np.float32))
    # Without it the rows cannot be read back when the lists are trained anew.
    index.make_direct_map()
    return index
