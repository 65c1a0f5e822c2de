"""The scripted upstream as a process: compiled, or plain asyncio where there is no compiler."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tutelage.overhead.gateway.answers import TEXT, write_answers
from tutelage.overhead.gateway.processes import started, wait_for
from tutelage.overhead.gateway.programs import compiled

READY_S = 30.0


@dataclass(frozen=True, slots=True)
class Upstream:
    """A scripted upstream that answers."""

    port: int
    pid: int
    is_compiled: bool

    @property
    def base_url(self) -> str:
        """Where its API begins."""
        return f"http://127.0.0.1:{self.port}/v1"


@contextmanager
def open_upstream(
    folder: Path, cache: Path, *, fail_every: int = 0, text: str = TEXT, compile_it: bool = True
) -> Iterator[Upstream]:
    """Runs the upstream on a free port of the loopback address.

    Args:
        folder: Gets the answers and the log; made if needed.
        cache: Where compiled programs are kept.
        fail_every: Every so many calls one is answered with 500; 0 for none.
        text: What the assistant says.
        compile_it: Whether the compiled one is wanted.

    Raises:
        BenchmarkError: It does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_answers(folder, text)
    program = compiled("upstream", cache) if compile_it else None
    plain = [sys.executable, "-m", "tutelage.overhead.gateway.plain_upstream"]
    command = [*([str(program)] if program else plain), str(folder), str(fail_every)]
    with started(command, folder / "upstream.log") as one:
        wait_for(one, lambda: _port(one.log) is not None, timeout_s=READY_S)
        port = _port(one.log)
        assert port is not None
        yield Upstream(port, one.pid, program is not None)


def _port(log: Path) -> int | None:
    found = re.search(r"^port (\d+)\n", log.read_text(errors="replace"), re.MULTILINE)
    return int(found[1]) if found else None
