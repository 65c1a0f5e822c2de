from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

TINY = ("--size", "200", "--queries", "20", "--added", "20", "--demonstrations", "60")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))


def test_a_run_prints_and_writes_what_it_measured_once(tutelage: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"

    ran = tutelage("bench", "bank", *TINY, "--hash-embedder", "--out", out)

    assert ran.code == 0, ran.err
    assert "FAISS, 200" in ran.out
    document = json.loads((out / "bank-scale.json").read_text())
    figures = {one["name"]: one["value"] for one in document["figures"]}
    assert figures["recall@6"] == 1.0
    assert figures["search, p99"] > 0
    assert (
        "| FAISS, 200 | recall@6 | 1 | of an exact search |" in (out / "bank-scale.md").read_text()
    )

    again = tutelage("bench", "bank", *TINY, "--hash-embedder", "--out", out, "--json")

    assert json.loads(again.out)["figures"] == document["figures"]
    assert "FAISS, 200 rows" not in again.err


def test_a_database_that_is_no_server_is_one_line(tutelage: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.sqlite'}"

    ran = tutelage("bench", "bank", *TINY, "--hash-embedder", "--postgres-url", url)

    assert ran.code != 0
    assert "needs PostgreSQL" in ran.err.splitlines()[-1]
