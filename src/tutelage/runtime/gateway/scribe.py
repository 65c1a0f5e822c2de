"""Hands relayed calls to a process that writes their traces, and starts it anew when it dies."""

from __future__ import annotations

import asyncio
import logging
import marshal
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from tutelage.runtime.gateway.dictation import HEAD, Frames
from tutelage.runtime.gateway.relayed import Note, Relayed

logger = logging.getLogger(__name__)

MOST_BYTES: Final = 64 * 2**20
"""Of calls whose traces are not known to be durable."""

_FLUSH_S: Final = 0.020
_AT_ONCE_BYTES: Final = 1 << 17
_PAUSE_MAX_S: Final = 15.0
_END_S: Final = 30.0
_DEATHS: Final = 3

_Told = tuple[str, int, float | None, float | None]
Noted = Callable[[Note | None], object]
"""Is told what the trace of a call says when it is durable or lost; ``None``: there is none."""


class WritingProcess(Protocol):
    """The process at the other end."""

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, when it has ended.

        Raises:
            subprocess.TimeoutExpired: It has not ended in time.
        """
        ...

    def kill(self) -> None:
        """Ends it at once."""
        ...


Start = Callable[[socket.socket], WritingProcess]
"""Starts the process with its end of the connection; blocking."""


class _Line(asyncio.Protocol):
    """The connection to one process."""

    def __init__(self, scribe: Scribe) -> None:
        self._scribe = scribe
        self._frames = Frames()

    def data_received(self, piece: bytes) -> None:
        for lost, notes in self._frames.feed(piece):
            self._scribe._acknowledged(lost, notes)

    def connection_lost(self, error: Exception | None) -> None:
        self._scribe._hung_up()


class Scribe:
    """The process that writes the traces of relayed calls, as the gateway's loop sees it.

    What is handed over is kept here, too, until the process says that it is durable: when it dies,
    another one is started and told all of it again, which changes nothing where the trace was
    written already.

    Args:
        start: Starts the process.
        most_bytes: Of what is kept here.
        pause_s: Before another process is started; doubled up to 15 s while nothing is written.
        patience_s: How long ``aclose`` waits for traces to be durable.
    """

    def __init__(
        self,
        start: Start,
        *,
        most_bytes: int = MOST_BYTES,
        pause_s: float = 0.5,
        patience_s: float = 30.0,
    ) -> None:
        self._start = start
        self._first_pause_s = self._pause_s = pause_s
        self._patience_s = patience_s
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[bytes, Noted]] = deque()
        self._bytes = 0
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._process: WritingProcess | None = None
        self._starting: asyncio.Task[None] | None = None
        self._is_closing = False
        self._changed = asyncio.Event()
        self._lost_here = self._lost_before = self._lost_there = 0
        self._deaths = 0
        """Since a trace was last known to be durable."""

    @property
    def lost(self) -> int:
        """Traces that could not be kept."""
        return self._lost_here + self._lost_before + self._lost_there

    @property
    def backlog(self) -> int:
        """Calls whose traces are not known to be durable."""
        return len(self._waiting)

    def open(self) -> None:
        """Begins to start the process; what is handed over meanwhile waits."""
        self._starting = asyncio.get_running_loop().create_task(self._connect(0.0))

    def post(self, call: Relayed, noted: Noted) -> bool:
        """Hands a call over; ``False`` if too much waits, and nothing was done."""
        if self._bytes >= self._most_bytes or self._is_closing:
            return False
        written = marshal.dumps(call[:])
        self._waiting.append((written, noted))
        self._bytes += len(written)
        self._unsent.append(written)
        self._unsent_bytes += len(written)
        if self._unsent_bytes > _AT_ONCE_BYTES:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self._flush)
        return True

    async def place(self, seconds: float) -> bool:
        """Waits until there is room again; ``False`` if there is none in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._bytes >= self._most_bytes and not self._is_closing:
                    self._changed.clear()
                    await self._changed.wait()
        return self._bytes < self._most_bytes and not self._is_closing

    async def aclose(self) -> None:
        """Waits until all is durable, and ends the process."""
        self._is_closing = True
        self._changed.set()
        self._flush()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                while self._waiting:
                    self._changed.clear()
                    await self._changed.wait()
        if self._waiting:
            logger.error("%d traces are lost: nobody wrote them in time", len(self._waiting))
            self._lost_here += len(self._waiting)
            while self._waiting:
                self._take(None)
        if self._starting is not None:
            self._starting.cancel()
            with suppress(asyncio.CancelledError):
                await self._starting
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        await self._end()

    async def _connect(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        await self._end()
        here, there = socket.socketpair()
        here.setblocking(False)
        try:
            self._process = await asyncio.to_thread(self._start, there)
        except OSError as error:
            here.close()
            logger.error("the process that writes traces does not start: %s", error.strerror)
            self._hung_up()
            return
        finally:
            there.close()
        self._lost_before, self._lost_there = self._lost_before + self._lost_there, 0
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: _Line(self), sock=here
        )
        self._transport = transport
        self._unsent = [written for written, _ in self._waiting]
        self._flush()

    def _hung_up(self) -> None:
        self._transport = None
        if self._is_closing and not self._waiting:
            return
        logger.error("the process that writes traces has ended; another one starts")
        self._deaths += 1
        if self._deaths >= _DEATHS and self._waiting:
            # Nothing was written between so many deaths: it may be this call that it dies of.
            self._deaths = 0
            self._lost_here += 1
            logger.error("a trace is lost: the process that writes traces ends over it")
            self._take(None)
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _PAUSE_MAX_S)
        self._starting = asyncio.get_running_loop().create_task(self._connect(pause_s))

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(_ended, process)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is None:
            # Sent when there is a process again.
            self._unsent.clear()
        elif self._unsent:
            unsent, self._unsent = self._unsent, []
            pieces: list[bytes] = []
            for written in unsent:
                pieces += (HEAD.pack(len(written)), written)
            self._transport.write(b"".join(pieces))
        self._unsent_bytes = 0

    def _acknowledged(self, lost: int, notes: list[_Told | None]) -> None:
        self._lost_there, self._pause_s, self._deaths = lost, self._first_pause_s, 0
        for values in notes:
            self._take(None if values is None else Note(*values))
        self._changed.set()

    def _take(self, note: Note | None) -> None:
        """Forgets the oldest call: there is no more to do for it."""
        written, noted = self._waiting.popleft()
        self._bytes -= len(written)
        noted(note)


def _ended(process: WritingProcess) -> None:
    """Waits for the end of a process that nobody talks to any more."""
    from subprocess import TimeoutExpired

    try:
        process.wait(_END_S)
    except TimeoutExpired:
        process.kill()
        process.wait()
