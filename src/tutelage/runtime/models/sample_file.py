"""Samples of models on disk, so that they are drawn and billed once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson
from pydantic import ValidationError

from tutelage.runtime.errors import StoreError
from tutelage.runtime.types import Choice, Usage

BUSY_S = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS prompt (
    key TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    request TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS sample (
    key TEXT NOT NULL REFERENCES prompt (key),
    number INTEGER NOT NULL,
    model TEXT NOT NULL,
    choice TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    latency_s REAL NOT NULL,
    PRIMARY KEY (key, number)
);
"""
_FIELDS = (
    "model, choice, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, latency_s"
)


@dataclass(frozen=True, slots=True)
class KeptSample:
    """One sample with the bill of the call that drew it."""

    model: str
    """What the endpoint called itself."""
    choice: Choice
    usage: Usage
    """The whole prompt of that call, and this sample's own output."""
    latency_s: float
    """How long that call took."""


class SampleFile:
    """A SQLite file of samples by prompt and number; several processes may share it.

    What was kept outlives a killed process. The samples that stand in the file are never changed:
    where two calls drew the same one, the first counts.

    Args:
        path: The file; made where it is missing, its folder too.

    Raises:
        StoreError: The file is not one of samples, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            # A lost power supply may cost the latest samples, which are then drawn again.
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path} cannot be opened as a file of samples: {error}") from error

    def find(self, key: str, numbers: Iterable[int]) -> dict[int, KeptSample]:
        """Those of the numbered samples of a prompt that are kept.

        Raises:
            StoreError: The file cannot be read.
        """
        wanted = list(dict.fromkeys(numbers))
        marks = ", ".join("?" * len(wanted))
        statement = f"SELECT number, {_FIELDS} FROM sample WHERE key = ? AND number IN ({marks})"
        try:
            rows = self._database.execute(statement, (key, *wanted)).fetchall()
            return {number: _sample(fields) for number, *fields in rows}
        except (sqlite3.Error, ValidationError) as error:
            raise StoreError(f"{self.path} cannot be read: {error}") from error

    def keep(self, key: str, asked: str, request: bytes, samples: dict[int, KeptSample]) -> None:
        """Keeps samples of a prompt by their numbers.

        Args:
            key: Of the prompt.
            asked: Who was asked.
            request: The prompt as JSON.
            samples: By number.

        Raises:
            StoreError: The file cannot be written.
        """
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute(
                "INSERT OR IGNORE INTO prompt VALUES (?, ?, ?)", (key, asked, request.decode())
            )
            self._database.executemany(
                "INSERT OR IGNORE INTO sample VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(key, number, *_row(sample)) for number, sample in samples.items()],
            )
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise StoreError(f"{self.path} cannot be written: {error}") from error

    def size(self) -> int:
        """Samples in the file."""
        (count,) = self._database.execute("SELECT COUNT(*) FROM sample").fetchone()
        return int(count)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()


def _row(sample: KeptSample) -> tuple[object, ...]:
    usage = sample.usage
    return (
        sample.model,
        orjson.dumps(sample.choice.model_dump(exclude_unset=True)).decode(),
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        sample.latency_s,
    )


def _sample(fields: list[object]) -> KeptSample:
    model, choice, fresh, read, written, output, latency_s = fields
    usage = Usage.model_validate(
        {
            "input_tokens": fresh,
            "cache_read_tokens": read,
            "cache_write_tokens": written,
            "output_tokens": output,
        }
    )
    return KeptSample(
        str(model), Choice.model_validate_json(str(choice)), usage, float(str(latency_s))
    )
