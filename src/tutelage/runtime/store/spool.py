"""The spool: an append-only file that keeps records while the database is gone."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from tutelage.runtime.errors import StoreError

logger = logging.getLogger(__name__)

_MAGIC = b"tutelage-spool 1 "
_HEADER_BYTES = len(_MAGIC) + len(b"0000000000000000 00000000\n")
_TAIL_BYTES = 65536
Kind = Literal["trace", "episode", "tools"]
_KINDS: tuple[str, ...] = get_args(Kind)


class Record:
    """A trace, an episode, or the tools of traces, on its way to the database.

    Given as an object or as JSON; the other form is made where somebody asks for it.

    Args:
        kind: What it is.
        body: The JSON form of the pydantic model; of tools, their row.
        encoded: The same as text.
        columns: Of a trace, the values of its row but for the body, where they are known.
    """

    __slots__ = ("_body", "_encoded", "columns", "kind")

    def __init__(
        self,
        kind: Kind,
        body: Mapping[str, Any] | None = None,
        *,
        encoded: str = "",
        columns: tuple[Any, ...] | None = None,
    ) -> None:
        self.kind = kind
        self.columns = columns
        self._body = body
        self._encoded = encoded

    @property
    def body(self) -> Mapping[str, Any]:
        """The JSON form of the pydantic model."""
        if self._body is None:
            self._body = json.loads(self._encoded)
        return self._body

    @property
    def encoded(self) -> str:
        """The body as text."""
        if not self._encoded:
            self._encoded = json.dumps(self._body, separators=(",", ":"))
        return self._encoded

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and (self.kind, self.body) == (other.kind, other.body)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Record({self.kind!r}, {self.body!r})"


class Spool:
    """Records in the order they came, each with its CRC, on disk before ``append`` returns.

    Several processes may share one file: every operation holds its lock. A header at the start
    remembers how far the file has been drained; a record that is torn by a crash is dropped when
    the file is next opened, because its append had not returned. Records that are damaged, or
    that the database refuses, are moved to a file beside it with the suffix ``.rejected``.

    Args:
        path: The file; made on first use, with its folder.
        max_bytes: Bound of the file; a record that would pass it is dropped and counted.
    """

    def __init__(self, path: Path | str, *, max_bytes: int = 256 * 2**20) -> None:
        self.path = Path(os.path.abspath(path))
        self.max_bytes = max_bytes
        self.dropped = 0
        """Records that found no room."""
        self.damaged = 0
        """Records that could not be read back."""

    @property
    def is_pending(self) -> bool:
        """Whether records wait in the file."""
        try:
            return self.path.stat().st_size > _HEADER_BYTES
        except OSError:
            return False

    def append(self, records: Sequence[Record]) -> int:
        """Writes the first records that fit and returns their number.

        Raises:
            StoreError: The file cannot be written; none of the records is kept.
        """
        lines = [_line(record) for record in records]
        try:
            with self._locked() as file:
                end = self._mend(file)
                accepted = _fitting(lines, self.max_bytes - max(end, _HEADER_BYTES))
                if accepted:
                    self._write(file, end, b"".join(lines[:accepted]))
        except OSError as error:
            self.dropped += len(records)
            raise StoreError(f"spool {self.path} cannot be written: {error.strerror}") from error
        self.dropped += len(records) - accepted
        return accepted

    @contextmanager
    def oldest(self, limit: int) -> Iterator[list[Record]]:
        """Up to ``limit`` of the oldest records; a clean exit of the block removes them.

        Raises:
            StoreError: The file cannot be read.
        """
        if not self.is_pending:
            yield []
            return
        try:
            with self._locked() as file:
                size = self._mend(file)
                start = _drained_to(file)
                file.seek(start)
                records: list[Record] = []
                damaged: list[bytes] = []
                while len(records) < limit and file.tell() < size:
                    line = file.readline()
                    record = _parse(line)
                    if record is None:
                        damaged.append(line)
                    else:
                        records.append(record)
                end = file.tell()
                yield records
                for line in damaged:
                    self.damaged += 1
                    logger.error("spool %s: a record is damaged, set aside", self.path)
                    self._set_aside(line)
                self._advance(file, end, size)
        except OSError as error:
            raise StoreError(f"spool {self.path} cannot be used: {error.strerror}") from error

    def reject(self, record: Record) -> None:
        """Keeps a record that the database refuses in the file with the suffix ``.rejected``."""
        self._set_aside(_line(record))

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        is_new = not self.path.exists()
        if is_new:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            if is_new:
                _sync_folder(self.path.parent)
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _mend(self, file: BinaryIO) -> int:
        """Cuts off what a crash left half-written; returns the size, 0 without a header."""
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(_HEADER_BYTES)
        if not head.startswith(_MAGIC) and not _MAGIC.startswith(head):
            raise StoreError(f"spool {self.path} is another kind of file: choose another path")
        if len(head) < _HEADER_BYTES:
            whole = 0
        else:
            whole = size
            while whole > _HEADER_BYTES:
                start = max(_HEADER_BYTES, whole - _TAIL_BYTES)
                file.seek(start)
                newline = file.read(whole - start).rfind(b"\n")
                if newline >= 0:
                    whole = start + newline + 1
                    break
                whole = start
        if whole < size:
            file.truncate(whole)
        return whole

    def _write(self, file: BinaryIO, end: int, lines: bytes) -> None:
        # Past the buffer of the file object, which would try again when it is closed.
        try:
            _write_at(file.fileno(), lines if end else _header(_HEADER_BYTES) + lines, end)
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), end)
            raise

    def _advance(self, file: BinaryIO, end: int, size: int) -> None:
        if end >= size:
            file.truncate(0)
        else:
            _write_at(file.fileno(), _header(end), 0)
        os.fsync(file.fileno())

    def _set_aside(self, line: bytes) -> None:
        path = self.path.with_name(self.path.name + ".rejected")
        try:
            with open(path, "ab", opener=_private) as file:
                if file.tell() + len(line) <= self.max_bytes:
                    file.write(line)
        except OSError as error:
            logger.error("spool %s: a record is lost: %s", path, error.strerror)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_at(descriptor: int, content: bytes, offset: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _header(drained_to: int) -> bytes:
    digits = b"%016d" % drained_to
    return b"%b%b %08x\n" % (_MAGIC, digits, zlib.crc32(digits))


def _drained_to(file: BinaryIO) -> int:
    file.seek(0)
    head = file.read(_HEADER_BYTES)
    digits = head[len(_MAGIC) : len(_MAGIC) + 16]
    # A header that a crash spoilt costs a second draining, which changes nothing.
    return int(digits) if digits.isdigit() and head == _header(int(digits)) else _HEADER_BYTES


def _line(record: Record) -> bytes:
    payload = f'["{record.kind}",{record.encoded}]'.encode()
    return b"%08x %b\n" % (zlib.crc32(payload), payload)


def _parse(line: bytes) -> Record | None:
    checksum, _, payload = line.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(payload):
        return None
    kind, body = json.loads(payload)
    return Record(kind, body) if kind in _KINDS else None


def _fitting(lines: Sequence[bytes], room: int) -> int:
    for number, line in enumerate(lines):
        room -= len(line)
        if room < 0:
            return number
    return len(lines)
