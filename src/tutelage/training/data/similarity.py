"""How alike texts are, without a model; anything of the same shape may stand in its place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Similarity = Callable[[Sequence[str], Sequence[str]], NDArray[np.floating]]
"""(n) texts and (m) texts to similarities of at most 1, shape (n, m)."""

_WORD = re.compile(r"\w+")


def word_similarity(ours: Sequence[str], theirs: Sequence[str]) -> NDArray[np.floating]:
    """Cosine of the word counts, without case: paraphrases are missed, copies are not.

    Returns:
        Shape (len(ours), len(theirs)), in [0, 1]; a text without words is like no other.
    """
    counts = [Counter(_WORD.findall(text.casefold())) for text in (*ours, *theirs)]
    columns = {word: column for column, word in enumerate(sorted({w for c in counts for w in c}))}
    rows = np.zeros((len(counts), max(len(columns), 1)), dtype=np.float32)
    for row, count in zip(rows, counts, strict=True):
        for word, times in count.items():
            row[columns[word]] = times
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(lengths > 0, lengths, 1.0)
    similarities: NDArray[np.floating] = np.clip(rows[: len(ours)] @ rows[len(ours) :].T, 0.0, 1.0)
    return similarities
