from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
from tests.training.data.episodes import TAUGHT, offering, played, record, words

from tutelage.runtime.errors import MissingExtra, TrainingError
from tutelage.training.data.dataset import Dataset, DatasetSettings, build_dataset
from tutelage.training.data.export import read_dataset, write_dataset
from tutelage.training.data.trace_gate import TraceRules
from tutelage.version import __version__


def dataset(task_id: str | None = "game-1", goal: str = "it's \"odd\" 'çöß' {x: 1}") -> Dataset:
    episodes = [played(TAUGHT, record(task_id=task_id, goal=goal), family="put")]
    return build_dataset(episodes, DatasetSettings(TraceRules(frozenset({"acme"}))), words)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "it's.parquet"
    made = dataset()
    lineage = write_dataset(made, path, bank_version="bank@7")
    read = read_dataset(path)
    assert read.examples == made.examples
    assert read.lineage == lineage
    assert (lineage.digest, lineage.bank_version) == (made.digest, "bank@7")
    assert lineage.trace_ids == ("e1-0", "e1-1", "e1-2")
    assert lineage.report == made.report
    assert lineage.code_version == __version__
    assert list(path.parent.iterdir()) == [path]


def test_tools_are_kept_and_a_file_without_them_is_still_read(tmp_path: Path) -> None:
    import duckdb

    new, old = tmp_path / "new.parquet", tmp_path / "old.parquet"
    rules = DatasetSettings(TraceRules(frozenset({"acme"})))
    offered = build_dataset([offering(played(TAUGHT), "go", "go", "")], rules, words)
    write_dataset(offered, new)
    lineage = write_dataset(dataset(), tmp_path / "plain.parquet")
    told = lineage.model_dump_json().replace("'", "''")
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * EXCLUDE (tools) FROM '{tmp_path}/plain.parquet') TO '{old}' "
            f"(FORMAT parquet, KV_METADATA {{tutelage: '{told}'}})"
        )
    assert read_dataset(new).examples == offered.examples
    assert [len(one.tools) for one in offered.examples] == [1, 1, 0]
    assert read_dataset(old).examples == dataset().examples


def test_nothing_but_null_stands_where_nothing_is_known(tmp_path: Path) -> None:
    made = dataset(task_id=None)
    write_dataset(made, tmp_path / "x.parquet")
    assert read_dataset(tmp_path / "x.parquet").examples[0].task_id is None


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_dataset(dataset(), path)
    write_dataset(dataset(goal="another"), path)
    assert read_dataset(path).examples[0].goal == "another"


def test_other_tools_read_it_too(tmp_path: Path) -> None:
    import duckdb

    write_dataset(dataset(), tmp_path / "x.parquet")
    rows = duckdb.sql(
        f"SELECT family, count(*), sum(len(supervised)) FROM '{tmp_path}/x.parquet' GROUP BY 1"
    ).fetchall()
    assert rows == [("put", 3, 3)]


def test_protected_texts_are_not_written_unless_allowed(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    protected = dataset("appworld:82e2fac_1")
    with pytest.raises(TrainingError, match="'appworld:82e2fac_1' among them"):
        write_dataset(protected, path)
    assert list(tmp_path.iterdir()) == []
    write_dataset(protected, path, allow_protected=True)
    assert read_dataset(path).examples == protected.examples


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.parquet"
    write_dataset(dataset(), path)
    before = path.read_bytes()

    def refuse(source: object, target: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(TrainingError, match="cannot be written: the disk is full"):
        write_dataset(dataset(goal="another"), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(TrainingError, match="cannot be written"):
        write_dataset(dataset(), tmp_path / "file" / "x.parquet")


def test_a_file_that_is_missing_or_damaged_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with pytest.raises(TrainingError, match=r"x\.parquet cannot be read"):
        read_dataset(path)
    write_dataset(dataset(), path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(TrainingError, match=r"x\.parquet cannot be read"):
        read_dataset(path)


def test_a_parquet_file_of_others_is_told(tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / "x.parquet"
    duckdb.sql("SELECT 1 AS id").write_parquet(str(path))
    with pytest.raises(TrainingError, match=r"x\.parquet cannot be read"):
        read_dataset(path)
    write_dataset(dataset(), path)
    copy = tmp_path / "copy.parquet"
    duckdb.sql(f"SELECT * FROM '{path}'").write_parquet(str(copy))
    with pytest.raises(TrainingError, match="has no lineage"):
        read_dataset(copy)


def test_without_duckdb_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "duckdb":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtra, match=r"tutelage\[train\]"):
        write_dataset(dataset(), tmp_path / "x.parquet")
    with pytest.raises(MissingExtra):
        read_dataset(tmp_path / "x.parquet")
