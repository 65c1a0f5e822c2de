"""A world in a process of its own."""

from __future__ import annotations

import asyncio
import faulthandler
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any, Protocol, cast, runtime_checkable

from tutelage.benchmarks.environment import Environment, Opening, OracleAction, Outcome, Task
from tutelage.benchmarks.worlds import create_world
from tutelage.runtime import errors
from tutelage.runtime.errors import BenchmarkError, TutelageError, WorkerDied

IDLE_S = 0.05
"""A worker that got no request for so long loads the task that was announced as next."""
CLOSE_GRACE_S = 2.0
"""An ending worker may take so long before it is stopped, and so long again before it is killed."""

_Reply = tuple[Any, ...]


@runtime_checkable
class Prefetches(Protocol):
    """A world that can load the next task beside the one that is played."""

    def prefetch(self, task: Task) -> None:
        """Loads a task, so that its reset is quick."""
        ...


class WorldProcess:
    """Plays a world in a worker process, which starts with the first request.

    Requests are answered in the order in which they were made; the event loop never waits. The
    worker takes no notice of Ctrl-C, ends when this process ends, and is started anew after it
    died. A request that is cancelled is still carried out.

    Args:
        world: Name of the world, see :func:`tutelage.benchmarks.worlds.create_world`.
        data: The folder of the world's data, where it needs one.
    """

    def __init__(self, world: str, *, data: Path | None = None) -> None:
        self.name = world
        self._data = data
        self._instructions: str | None = None
        # One thread talks to the worker: request and answer can never be mismatched.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"tutelage-{world}")
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._log: IO[str] | None = None
        self._closed = False

    @property
    def instructions(self) -> str:
        """The system message an agent gets; known once a task was reset or listed.

        Raises:
            BenchmarkError: The worker has not started yet.
        """
        if self._instructions is None:
            raise BenchmarkError(f"world {self.name} has not started: reset a task first")
        return self._instructions

    @property
    def pid(self) -> int | None:
        """The worker's process id, while there is a worker."""
        return self._process.pid if self._process is not None else None

    async def tasks(self, split: str) -> Sequence[Task]:
        """Tasks of a split in a stable order.

        Raises:
            WorldMissing: The split is unknown or its files are not there.
            WorkerDied: The worker ended.
        """
        return cast(Sequence[Task], await self._ask("tasks", split))

    async def reset(self, task: Task) -> Opening:
        """Starts a task.

        Raises:
            WorldMissing: The task's files are not there.
            WorkerDied: The worker ended.
        """
        return cast(Opening, await self._ask("reset", task))

    async def step(self, action: str) -> Outcome:
        """Takes an action in the task that was reset last.

        Raises:
            BenchmarkError: No task was reset.
            WorkerDied: The worker ended.
        """
        return cast(Outcome, await self._ask("step", action))

    async def oracle(self) -> OracleAction:
        """The action that the world's oracle would take now.

        Raises:
            BenchmarkError: No task was reset, or the oracle has no answer.
            WorkerDied: The worker ended.
        """
        return cast(OracleAction, await self._ask("oracle"))

    def prefetch(self, task: Task) -> None:
        """Says which task is likely to be reset next; the worker loads it when it is idle."""
        if not self._closed:
            self._thread.submit(self._exchange, "prefetch", task)

    async def aclose(self) -> None:
        """Ends the worker; a busy one is stopped. May be called twice."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._end)

    async def _ask(self, method: str, *arguments: Any) -> Any:
        if self._closed:
            raise BenchmarkError(f"world {self.name} was closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._exchange, method, *arguments)

    def _exchange(self, method: str, *arguments: Any) -> Any:
        """Sends a request and waits for its answer; runs in the thread."""
        if self._process is None:
            self._start()
        assert self._connection is not None
        return self._talk(method, lambda pipe: pipe.send((method, *arguments)))

    def _talk(self, doing: str, speak: Callable[[Connection], None]) -> Any:
        assert self._connection is not None
        try:
            speak(self._connection)
            reply: _Reply = self._connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerDied(self._bury(doing)) from error
        if reply[0] == "error":
            raise _revived(*reply[1:])
        return reply[1]

    def _start(self) -> None:
        handle, log = tempfile.mkstemp(prefix=f"tutelage-{os.getpid()}-", suffix=".log")
        self._log = os.fdopen(handle, errors="replace")
        try:
            self._spawn(log)
            self._instructions = self._talk("starting", lambda pipe: None)
        except (TutelageError, OSError, RuntimeError):
            self._clear()
            raise
        finally:  # Both sides have it open by now; without a name it cannot be left behind.
            os.unlink(log)

    def _spawn(self, log: str) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        process = spawn.Process(
            target=_serve, args=(theirs, self.name, self._data, log), daemon=True
        )
        # The child inherits the mask, so that Ctrl-C cannot hit it before it ignores the signal.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
        self._process = process

    def _bury(self, doing: str) -> str:
        """Collects a worker that ended by itself; returns what there is to say about it."""
        assert self._process is not None
        assert self._log is not None
        _stopped(self._process)
        code = self._process.exitcode
        words = _last_words(self._log.read())
        if not words and doing == "starting":
            words = ": a script that starts a world must do so under if __name__ == '__main__'"
        self._clear()
        return f"the process of world {self.name} ended with exit code {code} in {doing!r}{words}"

    def _clear(self) -> None:
        if self._process is not None:
            _stopped(self._process)
            self._process.close()
        if self._connection is not None:
            self._connection.close()
        if self._log is not None:
            self._log.close()
        self._process = self._connection = self._log = None

    def _end(self) -> None:
        goodbye = self._thread.submit(self._say_goodbye)
        try:
            goodbye.result(CLOSE_GRACE_S)
        except TimeoutError:
            if (process := self._process) is not None:
                process.terminate()
        self._thread.shutdown(cancel_futures=True)
        self._clear()

    def _say_goodbye(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.send(("close",))


def _last_words(output: str) -> str:
    """The error that ended a process, else its last line, after a colon."""
    _, _, rest = output.strip().rpartition("Traceback (most recent call last):\n")
    lines = [line for line in rest.splitlines() if line[:1].strip()]
    if not lines:
        return ""
    return f": {lines[0 if rest != output.strip() else -1]}"


def _stopped(process: BaseProcess) -> None:
    for harder in (process.terminate, process.kill):
        process.join(CLOSE_GRACE_S)
        if process.exitcode is None:
            harder()
    process.join()


def _revived(kind: str, message: str, attributes: dict[str, object]) -> TutelageError:
    """The error that the worker raised; constructors differ, so none is called."""
    found = getattr(errors, kind, BenchmarkError)
    error = cast(TutelageError, found.__new__(found))
    error.args = (message,)
    vars(error).update(attributes)
    return error


def _serve(pipe: Connection, world_name: str, data: Path | None, log: str) -> None:
    """The worker: answers requests until it is told to end or the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _silence(log)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            world = create_world(world_name, data)
        except TutelageError as error:
            pipe.send(_refusal(error))
            return
        pipe.send(("ok", world.instructions))
        _answer(pipe, world)


def _silence(log: str) -> None:
    """Sends all output, also that of C code, to a file that the parent quotes after a crash."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    faulthandler.enable()


def _answer(pipe: Connection, world: Environment) -> None:
    announced: Task | None = None
    while True:
        if announced is not None and not pipe.poll(IDLE_S):
            if isinstance(world, Prefetches):
                with suppress(TutelageError):  # the reset of the task will say it
                    world.prefetch(announced)
            announced = None
        method, *arguments = pipe.recv()
        if method == "close":
            return
        if method == "prefetch":
            announced = arguments[0]
            pipe.send(("ok", None))
            continue
        try:
            pipe.send(("ok", getattr(world, method)(*arguments)))
        except TutelageError as error:
            pipe.send(_refusal(error))


def _refusal(error: TutelageError) -> _Reply:
    return ("error", type(error).__name__, str(error), vars(error))
