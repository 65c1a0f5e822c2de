from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.retrieval.embedding import HashEmbedder, unit_rows


@settings(deadline=None)
@given(st.lists(st.text(max_size=40), max_size=8))
async def test_hashed_rows_are_unit_vectors_whatever_the_text(texts: list[str]) -> None:
    rows = await HashEmbedder(32).embed(texts)
    assert rows.shape == (len(texts), 32)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-5)


async def test_two_hash_embedders_agree_on_every_text() -> None:
    texts = ["put a mug on the shelf", "", "heat an egg"]
    np.testing.assert_array_equal(
        await HashEmbedder(64).embed(texts), await HashEmbedder(64).embed(texts)
    )


async def test_texts_that_share_words_are_more_similar() -> None:
    query, near, far = await HashEmbedder().embed(
        ["put a clean mug in the cabinet", "put a clean plate in the cabinet", "look at the news"]
    )
    assert query @ near > 0.5 > query @ far


def test_a_row_of_zeros_stays_zero() -> None:
    np.testing.assert_array_equal(
        unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])),
        np.array([[0.6, 0.8], [0.0, 0.0]], dtype=np.float32),
    )
