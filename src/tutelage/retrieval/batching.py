"""Micro-batching: concurrent calls share one computation on one worker thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from tutelage.retrieval.embedding import Vectors


@dataclass(slots=True)
class _Batch:
    texts: list[str] = field(default_factory=list)
    result: Future[Vectors] | None = None


class MicroBatcher:
    """Collects the texts that arrive while the worker is busy, and computes them together.

    A lone call starts at once: nothing waits for a timer. Long inputs are cut into pieces that are
    queued one after another, so that a bulk import does not hold up a search.

    Args:
        compute: Texts to vectors, shape (n, dimension); called on the worker thread only.
        max_rows: Most texts in one batch.
    """

    def __init__(self, compute: Callable[[Sequence[str]], Vectors], *, max_rows: int = 64) -> None:
        self._compute = compute
        self._max_rows = max_rows
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tutelage-embed")
        self._lock = threading.Lock()
        self._open: _Batch | None = None

    async def submit(self, texts: Sequence[str]) -> Vectors:
        """Vectors of ``texts``, shape (len(texts), dimension); ``texts`` must not be empty.

        Raises what ``compute`` raises, to every caller of the batch.
        """
        pieces = []
        for start in range(0, len(texts), self._max_rows):
            piece = texts[start : start + self._max_rows]
            batch, offset = self._join(piece)
            assert batch.result is not None
            # One cancelled caller must not cancel the batch of the others.
            vectors = await asyncio.shield(asyncio.wrap_future(batch.result))
            pieces.append(vectors[offset : offset + len(piece)])
        return np.concatenate(pieces)

    def close(self) -> None:
        """Stops the worker; batches that have not started are cancelled."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _join(self, texts: Sequence[str]) -> tuple[_Batch, int]:
        with self._lock:
            batch = self._open
            if batch is None or len(batch.texts) + len(texts) > self._max_rows:
                batch = self._open = _Batch()
            offset = len(batch.texts)
            batch.texts.extend(texts)
            if batch.result is None:
                batch.result = self._worker.submit(self._run, batch)
        return batch, offset

    def _run(self, batch: _Batch) -> Vectors:
        with self._lock:
            if self._open is batch:
                self._open = None
        return self._compute(batch.texts)


def length_batches(lengths: Sequence[int], *, max_rows: int, max_cells: int) -> Iterator[list[int]]:
    """Positions grouped by similar length, so that little padding is computed.

    Args:
        lengths: Tokens of each text.
        max_rows: Most texts in a group.
        max_cells: Most tokens in a group, padding included; a single text may exceed it.
    """
    group: list[int] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        cells = (len(group) + 1) * lengths[position]
        if group and (len(group) >= max_rows or cells > max_cells):
            yield group
            group = []
        group.append(position)
    if group:
        yield group
