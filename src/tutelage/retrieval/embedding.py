"""Text to unit vectors: the protocol, and an embedder that needs no weights."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""Rows of floats, shape (n, dimension), each of length 1."""

_WORD = re.compile(r"\w+")


class Embedder(Protocol):
    """Turns texts into vectors whose dot product is their similarity."""

    @property
    def name(self) -> str:
        """Identifies the weights: two embedders with one name give the same vectors."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit rows, shape (len(texts), dimension), in the order of ``texts``.

        Raises:
            RetrievalError: The embedder cannot be used.
        """
        ...


class HashEmbedder:
    """Signed feature hashing of words and word pairs: deterministic, no weights, no synonyms.

    Meant for tests and dry runs. Source: Weinberger et al. 2009, "Feature Hashing for Large Scale
    Multitask Learning", equation 2.

    Args:
        dimension: Length of a vector.
    """

    def __init__(self, dimension: int = 256) -> None:
        self.dimension = dimension
        self.name = f"hash-{dimension}"

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit rows; a text without words becomes the first unit vector."""
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            words = _WORD.findall(text.lower())
            for feature in [*words, *map(" ".join, pairwise(words))]:
                digest = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest())
                row[(digest >> 1) % self.dimension] += 1.0 if digest & 1 else -1.0
            if not row.any():
                row[0] = 1.0
        return unit_rows(rows)


def unit_rows(rows: NDArray[np.floating]) -> Vectors:
    """Rows scaled to length 1; a row of zeros stays as it is. Shape (n, d) in and out."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)
