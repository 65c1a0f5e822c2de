from __future__ import annotations

import numpy as np

from tutelage.retrieval.lru import VectorCache

ONE = np.ones(1, dtype=np.float32)


def test_the_text_unused_for_longest_is_dropped() -> None:
    cache = VectorCache(2)
    cache.put("a", ONE)
    cache.put("b", ONE)
    assert cache.get("a") is ONE
    cache.put("c", ONE)
    assert cache.get("b") is None
    assert cache.get("a") is ONE
    assert cache.get("c") is ONE
    assert (cache.hits, cache.misses, len(cache)) == (3, 1, 2)


def test_putting_a_text_again_makes_it_the_newest() -> None:
    cache = VectorCache(2)
    for text in ("a", "b", "a", "c"):
        cache.put(text, ONE)
    assert cache.get("a") is ONE
    assert cache.get("b") is None


def test_a_cache_of_no_capacity_keeps_nothing() -> None:
    cache = VectorCache(0)
    cache.put("a", ONE)
    assert cache.get("a") is None
    assert len(cache) == 0
