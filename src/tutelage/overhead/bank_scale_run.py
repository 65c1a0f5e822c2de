"""One run over all sizes and indexes; what was measured already is not measured again."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import orjson

from tutelage.overhead.bank_scale import (
    FaissSearched,
    ScalePlan,
    Searched,
    measure_scale,
    write_rows,
)
from tutelage.overhead.figure import Figure
from tutelage.retrieval.embedding import Vectors
from tutelage.retrieval.manifest import replace_file
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.store.database import migrate, open_engine, redact

FAISS, PGVECTOR = "FAISS", "pgvector"


def run_scale(
    real: Vectors,
    plan: ScalePlan,
    out: Path,
    *,
    postgres_url: str | None,
    largest_pgvector: int,
    say: Callable[[str], None],
) -> list[Figure]:
    """Measures every size with every index.

    Args:
        real: Vectors of distinct real states, shape (n, dimension).
        plan: What is measured.
        out: Folder; each measurement is kept there, and is not made again.
        postgres_url: Database with pgvector; absent: only FAISS is measured.
        largest_pgvector: Sizes above are left out for pgvector.
        say: Told what is being done.

    Raises:
        ConfigError: The database is not on a PostgreSQL server.
        StoreError: The database cannot be used.
    """
    out.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(plan.seed).permutation(len(real))
    queries, kept = real[order[: plan.queries]], real[order[plan.queries :]]
    figures: list[Figure] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        say(f"{max(plan.sizes):,} rows, of which {len(kept):,} are of real states")
        rows = write_rows(folder / "rows.npy", kept, max(plan.sizes), plan.seed)
        for size in plan.sizes:
            for name in (FAISS, PGVECTOR) if postgres_url else (FAISS,):
                if name == PGVECTOR and size > largest_pgvector:
                    continue
                file = out / f"bank-scale-{name.lower()}-{size}.json"
                if not file.is_file():
                    say(f"{name}, {size:,} rows")
                    with _searched(name, real.shape[1], postgres_url or "") as searched:
                        measured = measure_scale(name, searched, rows[:size], queries, plan)
                    replace_file(file, orjson.dumps([asdict(one) for one in measured]))
                figures += [Figure(**one) for one in orjson.loads(file.read_bytes())]
    return figures


@contextmanager
def _searched(name: str, dimension: int, url: str) -> Iterator[Searched]:
    if name == FAISS:
        yield FaissSearched(dimension)
        return
    from tutelage.overhead.bank_scale_postgres import PostgresSearched

    engine = open_engine(url)
    if engine.dialect.name != "postgresql":
        raise ConfigError(f"--postgres-url {redact(url)}: pgvector needs PostgreSQL")
    try:
        migrate(engine)
        searched = PostgresSearched(engine, dimension)
        try:
            yield searched
        finally:
            searched.drop()
    finally:
        engine.dispose()
