from __future__ import annotations

import numpy as np
import pytest

from tutelage.training.data.similarity import word_similarity


def test_copies_are_one_and_strangers_are_nothing() -> None:
    found = word_similarity(["Open the box", "", "a mug"], ["open the BOX", "take it"])
    assert found.shape == (3, 2)
    assert found == pytest.approx(np.array([[1, 0], [0, 0], [0, 0]]), abs=1e-6)


def test_texts_that_share_words_lie_between() -> None:
    assert word_similarity(["a b"], ["a c"])[0, 0] == pytest.approx(0.5, abs=1e-6)
    assert word_similarity([], ["a"]).shape == (0, 1)
