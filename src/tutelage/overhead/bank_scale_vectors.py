"""Vectors of real states, and as many more as a large bank is measured with."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from tutelage.overhead.gateway.filled_bank import DATABASE, filled_bank
from tutelage.overhead.setting import TENANT
from tutelage.retrieval.embedding import Embedder, Vectors, unit_rows
from tutelage.retrieval.index import Ids
from tutelage.retrieval.keys import StateKey
from tutelage.retrieval.ledger import Ledger
from tutelage.retrieval.window import imitable_steps
from tutelage.runtime.store.database import open_engine

NEIGHBOURS = 16
NOISE = 0.1
"""Length of what is added to an interpolated vector; two states of a kind differ by far more."""


async def real_vectors(
    embedder: Embedder, cache: Path, demonstrations: int, *, hash_embedder: bool = False
) -> Vectors:
    """The vectors of the distinct states of a bank, shape (states, dimension).

    Args:
        embedder: Made the vectors, or one of its name did.
        cache: Keeps the bank for the next time.
        demonstrations: Of the household world's oracle in the bank.
        hash_embedder: Instead of MiniLM.

    Raises:
        RetrievalError: The embedder's weights are missing.
    """
    with tempfile.TemporaryDirectory() as name:
        await filled_bank(Path(name), cache, demonstrations, hash_embedder=hash_embedder)
        engine = open_engine(f"sqlite:///{Path(name) / DATABASE}")
        ledger, key = Ledger(engine), StateKey()
        texts = {
            key.of_turn(one, index): None
            for one in ledger.active(TENANT)
            for index in imitable_steps(one)
        }
        found = ledger.vectors(embedder.name, texts, embedder.dimension)
        engine.dispose()
    return np.stack([found[text] for text in texts if text in found])


class Interpolated:
    """More vectors than there are real ones: between a real one and a near one, with some noise.

    What it makes lies where real vectors lie and is as dense as they are in each place, yet no two
    are equal. It is no substitute for real states in anything but size.

    Args:
        real: Unit rows, shape (n, dimension).
        seed: Of what is drawn.
    """

    def __init__(self, real: Vectors, seed: int = 0) -> None:
        self._real = real
        self._random = np.random.default_rng(seed)
        self._near = _nearest(real, NEIGHBOURS)

    def draw(self, count: int) -> Vectors:
        """Unit rows, shape (count, dimension)."""
        random, dimension = self._random, self._real.shape[1]
        first = random.integers(len(self._real), size=count)
        other = self._near[first, random.integers(self._near.shape[1], size=count)]
        share = random.random((count, 1), dtype=np.float32)
        between = (1 - share) * self._real[first] + share * self._real[other]
        noise = random.standard_normal((count, dimension), dtype=np.float32)
        return unit_rows(between + noise * np.float32(NOISE / np.sqrt(dimension)))


def _nearest(rows: Vectors, count: int) -> Ids:
    """The nearest other rows of each row, shape (n, at most count)."""
    count = min(count, len(rows) - 1)
    found = []
    for start in range(0, len(rows), 256):
        own = np.arange(start, min(start + 256, len(rows)), dtype=np.int64)
        scores = rows[own] @ rows.T
        scores[np.arange(len(own)), own] = -np.inf
        # A copy, or each piece would keep all of its partition alive.
        found.append(np.argpartition(-scores, count - 1, axis=1)[:, :count].copy())
    return np.concatenate(found).astype(np.int64, copy=False)
