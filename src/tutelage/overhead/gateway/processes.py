"""Processes that are measured: started in groups of their own, read from ``/proc``."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tutelage.runtime.errors import BenchmarkError

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
LAST_WORDS = 500
STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What a process and its descendants have used so far."""

    cpu_s: float
    """User and system, ended children included."""
    rss_bytes: int


def tree(pid: int) -> list[int]:
    """A process and all its living descendants."""
    found = [pid]
    for one in found:
        for thread in _listed(Path(f"/proc/{one}/task")):
            found += [int(child) for child in _read(thread / "children").split()]
    return found


def spent(pid: int) -> Spent:
    """What the tree of a process has used so far; nothing if it is gone."""
    ticks = pages = 0
    for one in tree(pid):
        # The name in the second field may hold blanks and parentheses.
        fields = _read(Path(f"/proc/{one}/stat")).rpartition(")")[2].split()
        if len(fields) > 21:
            ticks += sum(int(field) for field in fields[11:15])
            pages += int(fields[21])
    return Spent(ticks / TICKS_A_SECOND, pages * PAGE_BYTES)


@dataclass(frozen=True, slots=True)
class Started:
    """A process that we started."""

    name: str
    """Of the program."""
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Its number; also that of its group."""
        return self.process.pid

    def last_words(self) -> str:
        """The end of what it wrote, in one line."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return " | ".join(text.strip()[-LAST_WORDS:].splitlines())


@contextmanager
def started(
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stop_s: float = STOP_S,
) -> Iterator[Started]:
    """Runs a command in its own process group, which is ended afterwards: asked first, then killed.

    Args:
        command: Program and arguments.
        log: Gets what the process writes.
        environment: Its whole environment; ours if ``None``.
        folder: Its working folder.
        stop_s: How long it may take to end when asked.

    Raises:
        BenchmarkError: The program cannot be run.
    """
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise BenchmarkError(f"{command[0]} cannot be run: {error}") from error
    try:
        yield Started(Path(command[0]).name, process, log)
    finally:
        _end(process, stop_s)


def wait_for(
    one: Started,
    is_ready: Callable[[], bool],
    *,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Waits until a started process is ready.

    Raises:
        BenchmarkError: It ended, or ``timeout_s`` have passed; tells its last words.
    """
    end = clock() + timeout_s
    while not is_ready():
        if one.process.poll() is not None:
            raise BenchmarkError(
                f"{one.name} ended with {one.process.returncode}: {one.last_words() or 'no output'}"
            )
        if clock() > end:
            raise BenchmarkError(
                f"{one.name} is not ready after {timeout_s:g} s: {one.last_words()}"
            )
        sleep(0.05)


def _end(process: subprocess.Popen[bytes], stop_s: float) -> None:
    for number, patience_s in ((signal.SIGTERM, stop_s), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
