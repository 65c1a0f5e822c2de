"""The measurement of large banks, on small ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.postgres import postgres, postgres_url  # noqa: F401 - fixtures

from tutelage.overhead.bank_scale import (
    FaissSearched,
    K,
    ScalePlan,
    measure_scale,
    memory_bytes,
    sixth_best,
    write_rows,
)
from tutelage.overhead.bank_scale_run import run_scale
from tutelage.overhead.bank_scale_vectors import Interpolated, real_vectors
from tutelage.overhead.figure import value_of
from tutelage.retrieval.embedding import HashEmbedder, Vectors, unit_rows

PLAN = ScalePlan(sizes=(150, 2_300), queries=12, added=30, added_at_once=7)


@pytest.fixture
def real() -> Vectors:
    return unit_rows(np.random.default_rng(5).normal(size=(300, 24)))


def test_made_vectors_are_new_and_near_to_real_ones(real: Vectors) -> None:
    made = Interpolated(real, seed=1).draw(500)
    likeness = made @ real.T
    assert made.shape == (500, 24)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1.0, atol=1e-5)
    assert len(np.unique(made, axis=0)) == 500
    assert likeness.max() < 1.0
    # Nearer than two real ones are to one another.
    between = real @ real.T - 2 * np.eye(len(real), dtype=np.float32)
    assert np.median(likeness.max(axis=1)) > np.median(between.max(axis=1))
    np.testing.assert_array_equal(made, Interpolated(real, seed=1).draw(500))


def test_rows_on_disk_begin_with_the_real_ones(real: Vectors, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.npy", real, 450, 0)
    assert rows.shape == (450, 24)
    np.testing.assert_array_equal(rows[:300], real)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(write_rows(tmp_path / "few.npy", real, 9, 0), real[:9])


def test_the_sixth_best_score_is_exact(real: Vectors) -> None:
    expected = np.sort(real[:4] @ real.T, axis=1)[:, -K]
    np.testing.assert_allclose(sixth_best(real, real[:4]), expected, atol=1e-6)


class Forgetful(FaissSearched):
    """Finds the best rows but for the first two, and nothing that was added."""

    def add(self, rows: Vectors) -> None:
        pass

    def nearest(self, query: Vectors) -> Sequence[int]:
        return [*super().nearest(query)[2:], 0, 1]


class Broken(FaissSearched):
    def add(self, rows: Vectors) -> None:
        raise OSError("no room")


def test_recall_and_added_rows_are_measured_against_the_truth(real: Vectors) -> None:
    queries, rows = real[:12], real[12:]
    ticks = iter(range(1_000_000))
    good = measure_scale(
        "a", FaissSearched(24), rows, queries, PLAN, timer=lambda: float(next(ticks))
    )
    assert value_of(good, "a, 288", "recall@6") == 1.0
    assert value_of(good, "a, 288", "added rows found at once") == 1.0
    assert value_of(good, "a, 288", "build") == 1.0
    assert value_of(good, "a, 288", "search, p99") == 1000.0
    assert value_of(good, "a, 288", "search during adds, p50") == 1000.0
    poor = measure_scale("b", Forgetful(24), rows, queries, PLAN)
    recall = value_of(poor, "b, 288", "recall@6")
    assert recall is not None
    assert 4 / 6 - 0.01 <= recall < 0.8
    assert value_of(poor, "b, 288", "added rows found at once") == 0.0
    with pytest.raises(OSError, match="no room"):
        measure_scale("c", Broken(24), rows, queries, PLAN)


def test_memory_is_that_of_this_process() -> None:
    before = memory_bytes()
    held = np.ones(20_000_000, dtype=np.float32)
    assert memory_bytes() - before > 0.8 * held.nbytes


@pytest.fixture
def told() -> list[str]:
    return []


def test_a_run_goes_on_where_it_stopped(
    real: Vectors,
    tmp_path: Path,
    told: list[str],
    postgres_url: str,  # noqa: F811
) -> None:
    def run(largest: int) -> list[str]:
        told.clear()
        figures = run_scale(
            real,
            PLAN,
            tmp_path,
            postgres_url=postgres_url,
            largest_pgvector=largest,
            say=told.append,
        )
        for part in {one.part for one in figures}:
            assert (value_of(figures, part, "recall@6") or 0) >= 0.95
            assert value_of(figures, part, "added rows found at once") == 1.0
        return sorted({one.part for one in figures})

    everything = ["FAISS, 150", "FAISS, 2,300", "pgvector, 150", "pgvector, 2,300"]
    assert run(150) == everything[:3]
    assert told[1:] == ["FAISS, 150 rows", "pgvector, 150 rows", "FAISS, 2,300 rows"]
    assert run(1_000_000) == everything
    assert told[1:] == ["pgvector, 2,300 rows"]
    alone = run_scale(real, PLAN, tmp_path, postgres_url=None, largest_pgvector=0, say=told.append)
    assert {one.part for one in alone} == {"FAISS, 150", "FAISS, 2,300"}


async def test_real_vectors_are_those_of_distinct_states(tmp_path: Path) -> None:
    embedder = HashEmbedder()
    real = await real_vectors(embedder, tmp_path, 60, hash_embedder=True)
    assert real.shape[1] == embedder.dimension
    # Episodes are kept whole, fifty at once.
    assert 60 < len(real) < 600
    np.testing.assert_allclose(np.linalg.norm(real, axis=1), 1.0, atol=1e-5)
