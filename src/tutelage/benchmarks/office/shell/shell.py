"""The shell as the office sees it: a confined process that is killed when it takes too long."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from tutelage.benchmarks.office.app import ApiRefused
from tutelage.runtime.errors import WorkerDied

STEP_S = 5.0
"""A piece of code may take so long."""
START_S = 30.0
MEMORY_BYTES = 256 * 2**20
CPU_S = 3_600
_LONGEST_LINE = 4_000_000
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop()); "
    "from tutelage.benchmarks.office.shell.child import main; main()"
)

Call = Callable[[str, str, Sequence[object], Mapping[str, object]], object]
Failure = Literal["not run", "failed", "lost"]


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a piece of code."""

    output: str
    failure: Failure | None
    """``not run``: refused before anything happened. ``failed``: it raised. ``lost``: its process
    had to be ended, and all variables are gone."""


class _TooLong(Exception):
    pass


class Shell:
    """Runs Python of strangers, with variables that last until the next ``reset``.

    The process starts with the first use and is used again after a reset, with a fresh namespace.

    Args:
        apps: Names of the APIs of each app.
        step_s: A piece of code that takes longer is stopped.
        memory_bytes: Address space of the process.
        clock: A monotonic clock in seconds.
    """

    def __init__(
        self,
        apps: Mapping[str, Sequence[str]],
        *,
        step_s: float = STEP_S,
        memory_bytes: int = MEMORY_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._apps = {app: list(names) for app, names in apps.items()}
        self._step_s = step_s
        self._memory_bytes = memory_bytes
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._fresh = False

    def __enter__(self) -> Shell:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def reset(self) -> None:
        """Forgets all variables."""
        self._fresh = False

    def run(self, code: str, call: Call) -> Ran:
        """Runs a piece of code.

        Args:
            code: Python.
            call: Answers the calls of APIs; what it refuses is raised in the code.

        Raises:
            WorkerDied: The process does not start.
        """
        self._ready()
        deadline = self._clock() + self._step_s
        try:
            self._send("run", code)
            while True:
                kind, *rest = self._receive(deadline)
                if kind == "done":
                    return Ran(*rest)
                if kind != "call" or len(rest) != 4:
                    raise ValueError("the shell is out of step")
                self._answer(call, *rest)
        except _TooLong:
            lost = f"the code ran longer than {self._step_s:g} s"
        except (OSError, EOFError, ValueError):
            lost = "the code ended its process, perhaps for want of memory"
        self.close()
        return Ran(f"Stopped: {lost}. The shell starts anew, all variables are gone.", "lost")

    def close(self) -> None:
        """Ends the process; the next use starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process, self._rest, self._fresh = None, b"", False

    @property
    def pid(self) -> int | None:
        """Id of the process, while there is one."""
        return self._process.pid if self._process is not None else None

    def _ready(self) -> None:
        for attempt in (1, 2):
            try:
                if self._process is None:
                    self._start()
                if not self._fresh:
                    self._send("reset", self._apps)
                    self._expect_ready()
                    self._fresh = True
            except (OSError, EOFError, ValueError, _TooLong) as error:
                # A process that has served long may have used up its processor time.
                self.close()
                if attempt == 2:
                    raise WorkerDied("the code shell of the office does not start") from error
            else:
                return

    def _start(self) -> None:
        source = Path(__file__).parents[4]
        # As -I, but the seed of hashes: the order of a set is the same in every run. Nothing else
        # of the environment is handed on.
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-s", "-S", "-c", _PROGRAM),
                *(str(self._memory_bytes), str(CPU_S), str(source)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=tempfile.gettempdir(),
            env={"PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        self._expect_ready()

    def _expect_ready(self) -> None:
        if self._receive(self._clock() + START_S) != ["ready"]:
            raise ValueError("the shell is out of step")

    def _answer(self, call: Call, app: str, api: str, positional: Any, named: Any) -> None:
        try:
            answer = call(app, api, positional, named)
        except ApiRefused as refusal:
            self._send("refused", str(refusal))
        else:
            self._send("answer", answer)

    def _send(self, *message: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        line = json.dumps(message).encode() + b"\n"
        descriptor = self._process.stdin.fileno()
        while line:
            line = line[os.write(descriptor, line) :]

    def _receive(self, deadline: float) -> list[Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        parts = [self._rest]
        size = len(self._rest)
        while b"\n" not in parts[-1]:
            left = deadline - self._clock()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise _TooLong
            more = os.read(descriptor, 1 << 16)
            size += len(more)
            if not more:
                raise EOFError
            if size > _LONGEST_LINE:
                raise ValueError("a message is too long")
            parts.append(more)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        found = json.loads(line)
        if not isinstance(found, list) or not found:
            raise ValueError("the shell is out of step")
        return found
