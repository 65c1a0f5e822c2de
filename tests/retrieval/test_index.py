from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.retrieval.embedding import Vectors, unit_rows
from tutelage.retrieval.faiss_index import VISITED_LISTS, FaissIndex
from tutelage.retrieval.index import ExactIndex
from tutelage.runtime.errors import IndexDamaged


def rows(count: int, dimension: int = 16, seed: int = 0) -> Vectors:
    return unit_rows(np.random.default_rng(seed).normal(size=(count, dimension)))


def ids(count: int, first: int = 0) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.arange(first, first + count, dtype=np.int64)


@settings(deadline=None)
@given(
    count=st.integers(0, 60),
    k=st.integers(1, 70),
    excluded=st.sets(st.integers(100, 170), max_size=20),
    seed=st.integers(0, 1000),
)
def test_the_flat_index_agrees_with_the_oracle(
    count: int, k: int, excluded: set[int], seed: int
) -> None:
    vectors, queries = rows(count, seed=seed), rows(3, seed=seed + 1)
    exact, faiss = ExactIndex(16), FaissIndex(16)
    for index in (exact, faiss):
        index.add(ids(count // 2, 100), vectors[: count // 2])
        index.add(ids(count - count // 2, 100 + count // 2), vectors[count // 2 :])
        np.testing.assert_array_equal(index.ids, ids(count, 100))
        assert index.size == count
    barred = np.array(sorted(excluded), dtype=np.int64)
    truth = exact.search(queries, k, excluded=barred)
    found = faiss.search(queries, k, excluded=barred)
    assert truth.ids.shape == found.ids.shape == (3, k)
    np.testing.assert_array_equal(found.ids, truth.ids)
    np.testing.assert_allclose(found.scores, truth.scores, atol=1e-5)
    assert not set(found.ids.ravel().tolist()) & excluded
    kept = len(set(range(100, 100 + count)) - excluded)
    assert (found.ids >= 0).sum(axis=1).tolist() == [min(k, kept)] * 3


def test_a_large_index_uses_inverted_lists_and_keeps_its_recall() -> None:
    centres = rows(60, 32, seed=1)
    noise = np.random.default_rng(2).normal(size=(6_000, 32)) * 0.15
    vectors = unit_rows(np.repeat(centres, 100, axis=0) + noise)
    exact, faiss = ExactIndex(32), FaissIndex(32, flat_rows=1_000)
    for start in range(0, 6_000, 1_500):
        for index in (exact, faiss):
            index.add(ids(1_500, start), vectors[start : start + 1_500])
    assert faiss.kind == "ivf"
    assert faiss.size == 6_000
    queries = vectors[::60]
    truth, found = exact.search(queries, 10), faiss.search(queries, 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth.ids, found.ids, strict=True)])
    assert recall >= 0.95
    np.testing.assert_array_equal(found.ids[:, 0], ids(6_000)[::60])


@pytest.mark.parametrize("flat_rows", [1_000, 100])
def test_an_index_survives_its_bytes_and_can_grow_after(flat_rows: int) -> None:
    vectors = rows(400)
    index = FaissIndex(16, flat_rows=flat_rows)
    index.add(ids(300), vectors[:300])
    copy = FaissIndex.from_bytes(index.to_bytes(), 16)
    assert copy.kind == index.kind
    for each in (index, copy):
        each.add(ids(100, 300), vectors[300:])
        each.add(ids(400, 400), rows(400, seed=5))
    np.testing.assert_array_equal(copy.ids, index.ids)
    np.testing.assert_array_equal(copy.search(vectors[:5], 7).ids, index.search(vectors[:5], 7).ids)


@pytest.mark.parametrize("flat_rows", [100_000, 500])
def test_searches_find_what_is_there_while_others_add(flat_rows: int) -> None:
    vectors = rows(4_000, 32)
    index = FaissIndex(32, flat_rows=flat_rows)
    index.add(ids(1_000), vectors[:1_000])

    def add() -> None:
        # Beyond twice the first size, so that lists are trained anew meanwhile.
        for start in range(1_000, 4_000, 50):
            index.add(ids(50, start), vectors[start : start + 50])

    adding = threading.Thread(target=add)
    adding.start()
    searches = 0
    while adding.is_alive() or not searches:
        number = searches % 1_000
        hits = index.search(vectors[number : number + 1], 3)
        assert hits.ids[0, 0] == number
        assert (hits.ids >= 0).all()
        searches += 1
    adding.join()
    assert index.kind == ("flat" if flat_rows > 4_000 else "ivf")
    np.testing.assert_array_equal(index.search(vectors, 1).ids[:, 0], ids(4_000))


def test_a_search_looks_into_as_many_lists_however_many_there_are() -> None:
    index = FaissIndex(8, flat_rows=100)
    index.add(ids(12_000), rows(12_000, 8))
    assert index._native.nlist > VISITED_LISTS
    assert index._native.nprobe == VISITED_LISTS
    copy = FaissIndex.from_bytes(index.to_bytes(), 8)
    assert copy._native.nprobe == VISITED_LISTS


def test_bytes_of_something_else_are_refused() -> None:
    index = FaissIndex(16)
    index.add(ids(3), rows(3))
    content = index.to_bytes()
    for damaged in (b"", content[:20], content[:-9], b"x" * 200):
        with pytest.raises(IndexDamaged):
            FaissIndex.from_bytes(damaged, 16)
    with pytest.raises(IndexDamaged, match="3 x 16, not 3 x 8"):
        FaissIndex.from_bytes(content, 8)
