"""Load on one address: whole requests in a closed loop, from a process of its own."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.runtime.errors import BenchmarkError

RECORD = np.dtype(
    [
        ("started_ns", "<u8"),
        ("latency_ns", "<u8"),
        ("first_ns", "<u8"),
        ("header_us", "<i4"),
        ("events", "<u4"),
        ("status", "<u2"),
        ("whole", "<u2"),
        ("unused", "<u4"),
    ]
)
"""One request as the generator writes it; ``status`` 0: no answer."""
Records = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Load:
    """How requests are sent."""

    connections: int = 1
    """Each sends its next request when its last one is answered."""
    seconds: float = 0.0
    """No request starts later; 0: no limit."""
    requests: int = 0
    """No more are sent; 0: no limit."""
    first: int = 0
    """Number of the first call that is sent."""
    pause_us: int = 0
    """Between an answer and the next request."""
    patience_s: float = 60.0
    """How long requests in flight at the end may take; none is cut off at the end of a window."""
    header: str = ""
    """An answer's header that holds a number of milliseconds, to be noted."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came back."""

    records: Records
    elapsed_s: float
    """From the start until the last answer."""

    @property
    def sent(self) -> int:
        """Requests in all."""
        return len(self.records)

    @property
    def good(self) -> Records:
        """The requests that were answered with 200, to the end."""
        found: Records = self.records[
            (self.records["status"] == 200) & (self.records["whole"] == 1)
        ]
        return found

    @property
    def completed(self) -> int:
        """Requests that were answered with 200, to the end."""
        return len(self.good)

    @property
    def failed(self) -> int:
        """All others."""
        return self.sent - self.completed

    @property
    def statuses(self) -> dict[int, int]:
        """Requests by HTTP status; 0: no answer."""
        values, counts = np.unique(self.records["status"], return_counts=True)
        return {int(value): int(count) for value, count in zip(values, counts, strict=True)}

    @property
    def rps(self) -> float:
        """Completed requests a second."""
        return self.completed / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def events(self) -> float:
        """Events a completed answer, mean; 0 where nothing was streamed."""
        return float(self.good["events"].mean()) if self.completed else 0.0

    def latency_ms(self, percent: float) -> float:
        """A percentile of the time until the end of an answer; ``nan`` without one."""
        return percentile_ms(self.good["latency_ns"], percent)

    def first_ms(self, percent: float) -> float:
        """A percentile of the time until the first byte of a body; ``nan`` without one."""
        return percentile_ms(self.good["first_ns"], percent)

    def header_ms(self, percent: float) -> float:
        """A percentile of the noted header; ``nan`` if no answer had it."""
        noted = self.good["header_us"]
        return percentile_ms(noted[noted >= 0].astype(np.int64) * 1000, percent)


def joined(pieces: Sequence[Loaded]) -> Loaded:
    """Several loads, one after the other, as one."""
    records = np.concatenate([np.empty(0, RECORD), *(one.records for one in pieces)])
    return Loaded(records, sum(one.elapsed_s for one in pieces))


def percentile_ms(times_ns: npt.NDArray[Any], percent: float) -> float:
    """A percentile of nanoseconds, in milliseconds; ``nan`` of nothing."""
    return float(np.percentile(times_ns, percent)) / 1e6 if len(times_ns) else float("nan")


def call_bytes(
    path: str, body: bytes | None, headers: Mapping[str, str] | None = None, host: str = "127.0.0.1"
) -> bytes:
    """One HTTP/1.1 request: POST with a JSON body, or GET without one."""
    fields = {"Host": host, "Accept": "*/*", **(headers or {})}
    if body is not None:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def write_calls(path: Path, calls: Iterable[bytes]) -> None:
    """Writes requests as the generator reads them: each after its length, 4 bytes."""
    with path.open("wb") as file:
        for call in calls:
            file.write(struct.pack("<I", len(call)) + call)


def read_calls(path: Path) -> list[bytes]:
    """The requests that ``write_calls`` wrote."""
    content, at, calls = path.read_bytes(), 0, []
    while at < len(content):
        (length,) = struct.unpack_from("<I", content, at)
        calls.append(content[at + 4 : at + 4 + length])
        at += 4 + length
    return calls


async def send_load(port: int, calls: Sequence[bytes] | Path, load: Load) -> Loaded:
    """Sends requests to a port of the loopback address, and reads what came back.

    Args:
        port: Where to.
        calls: The requests, or a file of ``write_calls``; sent in turn, again from the first.
        load: How they are sent.

    Raises:
        BenchmarkError: The generator failed, for example because nobody listens.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = calls if isinstance(calls, Path) else folder / "calls"
        if not isinstance(calls, Path):
            write_calls(path, calls)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tutelage.overhead.gateway.sender"),
            *(str(port), json.dumps(asdict(load)), str(path), str(folder / "records")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            said, complaint = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            lines = complaint.decode(errors="replace").strip().splitlines() or ["no message"]
            raise BenchmarkError(f"the load generator failed: {lines[-1]}")
        return Loaded(np.fromfile(folder / "records", RECORD), float(said))
