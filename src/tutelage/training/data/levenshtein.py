"""Edit distance between sequences of actions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class ActionSequences:
    """Many sequences, whose distances to one of them are found at once.

    Args:
        sequences: Of actions; equal strings are equal actions.
    """

    def __init__(self, sequences: Sequence[Sequence[str]]) -> None:
        numbers: dict[str, int] = {}
        coded = [[numbers.setdefault(one, len(numbers)) for one in row] for row in sequences]
        self._lengths = np.array([len(row) for row in coded], dtype=np.int64)
        width = int(self._lengths.max(initial=0))
        self._rows = np.full((len(coded), width), -1, dtype=np.int64)
        for row, codes in zip(self._rows, coded, strict=True):
            row[: len(codes)] = codes

    def distances(self, index: int) -> NDArray[np.int64]:
        """Levenshtein distance of each sequence to the one at ``index``, shape (n,).

        The usual table, filled for all sequences together; actions are the symbols, and insertion,
        deletion and replacement cost 1 each.
        """
        one = self._rows[index, : self._lengths[index]]
        count, width = self._rows.shape
        table = np.broadcast_to(np.arange(width + 1), (count, width + 1)).copy()
        for position, code in enumerate(one):
            above = table
            table = np.empty_like(above)
            table[:, 0] = position + 1
            replaced = above[:, :-1] + (self._rows != code)
            best = np.minimum(replaced, above[:, 1:] + 1)
            for column in range(width):
                table[:, column + 1] = np.minimum(best[:, column], table[:, column] + 1)
        found: NDArray[np.int64] = table[np.arange(count), self._lengths]
        return found
