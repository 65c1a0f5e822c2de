"""Nearest vectors by dot product: the protocol and the exact oracle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tutelage.retrieval.embedding import Vectors

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Hits:
    """The nearest rows of each query, best first."""

    ids: Ids
    """Shape (queries, k); -1 where there were fewer rows than asked for."""
    scores: NDArray[np.float32]
    """Shape (queries, k); dot products, ``-inf`` beside an id of -1."""


class VectorIndex(Protocol):
    """Vectors under ids of the caller's choice."""

    @property
    def size(self) -> int:
        """Number of vectors."""
        ...

    @property
    def ids(self) -> Ids:
        """Ids in the order they were added, shape (size,)."""
        ...

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Adds rows; ``ids`` (n,) must be new and not negative, ``vectors`` (n, dimension)."""
        ...

    def search(self, queries: Vectors, k: int, *, excluded: Ids | None = None) -> Hits:
        """The k best rows for each row of ``queries`` (q, dimension).

        Args:
            queries: Unit rows.
            k: Hits a query.
            excluded: Ids never to return.
        """
        ...


class ExactIndex:
    """Scores every row with numpy; the truth that other indexes are compared with.

    Args:
        dimension: Length of a vector.
    """

    def __init__(self, dimension: int) -> None:
        self._vectors: Vectors = np.empty((0, dimension), dtype=np.float32)
        self._ids: Ids = np.empty(0, dtype=np.int64)

    @property
    def size(self) -> int:
        """Number of vectors."""
        return len(self._ids)

    @property
    def ids(self) -> Ids:
        """Ids in the order they were added, shape (size,)."""
        return self._ids

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Adds rows; ``ids`` (n,) must be new and not negative, ``vectors`` (n, dimension)."""
        self._vectors = np.concatenate([self._vectors, vectors])
        self._ids = np.concatenate([self._ids, ids])

    def search(self, queries: Vectors, k: int, *, excluded: Ids | None = None) -> Hits:
        """The k best rows for each query; equal scores in the order they were added."""
        scores = queries @ self._vectors.T
        ids = self._ids
        if excluded is not None and len(excluded):
            kept = ~np.isin(ids, excluded)
            scores, ids = scores[:, kept], ids[kept]
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return padded(ids[best], np.take_along_axis(scores, best, axis=1), k)


def padded(ids: Ids, scores: NDArray[np.float32], k: int) -> Hits:
    """Hits of exactly k columns; missing ones are -1 and ``-inf``. Shapes (q, at most k) in."""
    missing = k - ids.shape[1]
    if missing <= 0:
        return Hits(ids, scores)
    widths = ((0, 0), (0, missing))
    return Hits(
        np.pad(ids, widths, constant_values=-1),
        np.pad(scores, widths, constant_values=-np.inf),
    )
