"""A dataset as a Parquet file that says where it came from."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from tutelage.runtime.errors import MissingExtra, TrainingError
from tutelage.training.data.dataset import Dataset
from tutelage.training.data.example import TrainingExample
from tutelage.training.data.reject import GateReport
from tutelage.version import __version__

PROTECTED = ("appworld:",)
"""Openings of task ids whose licence forbids to pass their texts on."""

_KEY = "tutelage"
_COLUMNS = {
    "id": "VARCHAR",
    "tenant": "VARCHAR",
    "episode_id": "VARCHAR",
    "task_id": "VARCHAR",
    "family": "VARCHAR",
    "origin": "VARCHAR",
    "task": "VARCHAR",
    "goal": "VARCHAR",
    "messages": "VARCHAR",
    "tools": "VARCHAR",
    "supervised": "BIGINT[]",
    "actions": "VARCHAR[]",
    "weight": "DOUBLE",
    "trace_ids": "VARCHAR[]",
}

_JSON_COLUMNS = ("messages", "tools")


class Lineage(BaseModel):
    """Where a dataset came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    trace_ids: tuple[str, ...]
    report: GateReport
    bank_version: str | None = None
    """Of the demonstrations that the traces were made with, where it is known."""
    code_version: str = __version__


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was read back."""

    examples: tuple[TrainingExample, ...]
    lineage: Lineage


def write_dataset(
    dataset: Dataset,
    path: Path,
    *,
    bank_version: str | None = None,
    allow_protected: bool = False,
) -> Lineage:
    """Writes the examples and their lineage; the file is complete or is not there.

    Args:
        dataset: What to write.
        path: The Parquet file; one that stands there is replaced.
        bank_version: Of the demonstrations.
        allow_protected: Whether examples of tasks may be written whose licence forbids to pass
            their texts on: for a file that stays with you.

    Raises:
        MissingExtra: duckdb is not installed.
        TrainingError: It holds such examples, or the file cannot be written.
    """
    protected = sorted({id for one in dataset.examples if is_protected(id := one.task_id or "")})
    if protected and not allow_protected:
        raise TrainingError(
            f"{len(protected)} tasks may not be passed on, {protected[0]!r} among them: leave "
            "them out, or allow protected tasks for a file that stays with you"
        )
    lineage = Lineage(
        digest=dataset.digest,
        trace_ids=dataset.trace_ids,
        report=dataset.report,
        bank_version=bank_version,
    )
    duckdb = _duckdb()
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    rows = [_row(example) for example in dataset.examples]
    columns = [[row[name] for row in rows] for name in _COLUMNS]
    unnested = ", ".join(
        f"unnest($c{position}::{kind}[]) AS {name}"
        for position, (name, kind) in enumerate(_COLUMNS.items())
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with duckdb.connect() as connection:
            connection.execute(
                f"CREATE TABLE examples AS SELECT {unnested}",
                {f"c{position}": column for position, column in enumerate(columns)},
            )
            told = _quoted(lineage.model_dump_json())
            connection.execute(
                f"COPY examples TO {_quoted(str(draft))} "
                f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{_KEY}: {told}}})"
            )
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except (OSError, duckdb.Error) as error:
        raise TrainingError(f"{path} cannot be written: {_line(error)}") from error
    finally:
        with suppress(OSError):
            draft.unlink()
    return lineage


def read_dataset(path: Path) -> Exported:
    """Reads what ``write_dataset`` wrote.

    Raises:
        MissingExtra: duckdb is not installed.
        TrainingError: The file is missing, damaged or not of this kind.
    """
    duckdb = _duckdb()
    try:
        with duckdb.connect() as connection:
            stored = connection.execute(
                "SELECT name FROM parquet_schema(?)", [str(path)]
            ).fetchall()
            # A file of an earlier release has no tools.
            names = ", ".join(
                name if name != "tools" or (name,) in stored else "'[]'" for name in _COLUMNS
            )
            rows = connection.execute(
                f"SELECT {names} FROM read_parquet(?)", [str(path)]
            ).fetchall()
            told = connection.execute(
                "SELECT value FROM parquet_kv_metadata(?) WHERE key = ?",
                [str(path), _KEY.encode()],
            ).fetchall()
        if not told:
            raise TrainingError(f"{path} has no lineage: it was not written by tutelage")
        lineage = Lineage.model_validate_json(bytes(told[0][0]))
        return Exported(tuple(_example(row) for row in rows), lineage)
    except (OSError, ValueError, ValidationError, duckdb.Error) as error:
        raise TrainingError(f"{path} cannot be read: {_line(error)}") from error


def is_protected(task_id: str) -> bool:
    """Whether texts of a task may not be passed on."""
    return task_id.startswith(PROTECTED)


def _row(example: TrainingExample) -> dict[str, Any]:
    row = example.model_dump(mode="json")
    return row | {name: json.dumps(row[name], ensure_ascii=False) for name in _JSON_COLUMNS}


def _example(row: Sequence[Any]) -> TrainingExample:
    named = dict(zip(_COLUMNS, row, strict=True))
    read = {name: json.loads(named[name]) for name in _JSON_COLUMNS}
    return TrainingExample.model_validate(named | read)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtra("duckdb", "train") from error
    return duckdb
