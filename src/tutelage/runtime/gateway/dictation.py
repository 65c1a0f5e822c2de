"""The process that writes traces: it is told of relayed calls and says when each is kept."""

from __future__ import annotations

import asyncio
import marshal
import socket
import struct
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from tutelage.runtime.errors import StoreError
from tutelage.runtime.gateway.relayed import Note, Relayed
from tutelage.runtime.gateway.relayed_traces import RelayedTraces

HEAD: Final = struct.Struct("<I")
"""Before each frame: its bytes."""

_READ_BYTES: Final = 1 << 18
_LATEST_S: Final = 60.0


class Frames:
    """Cuts a stream of bytes into the frames that were written to it."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[Any]:
        """What the frames hold that the piece completes."""
        held = self._rest + piece if self._rest else piece
        start, end = 0, len(held)
        while end - start >= HEAD.size:
            (size,) = HEAD.unpack_from(held, start)
            if end - start < HEAD.size + size:
                break
            start += HEAD.size
            yield marshal.loads(held[start : start + size])
            start += size
        self._rest = held[start:]


def frame(values: Any) -> bytes:
    """Plain values as a frame; both ends are processes of ours that run the same Python."""
    written = marshal.dumps(values)
    return HEAD.pack(len(written)) + written


class _Slot:
    """A call whose trace is not known to be durable yet."""

    __slots__ = ("is_settled", "note")

    def __init__(self) -> None:
        self.is_settled = False
        self.note: Note | None = None


class Dictation:
    """Takes down what one gateway process tells, until that has no more to say.

    Calls are acknowledged in the order in which they came, when their traces are durable or lost.

    Args:
        traces: Makes and keeps the traces.
        sock: Connected to the gateway process.
    """

    def __init__(self, traces: RelayedTraces, sock: socket.socket) -> None:
        self._traces = traces
        self._sock = sock
        self._slots: deque[_Slot] = deque()
        self._writer: asyncio.StreamWriter | None = None
        self._telling = False
        self._all_settled = asyncio.Event()

    async def take(self) -> None:
        """Returns when the other side has hung up, or died, and all that it told is kept."""
        reader, self._writer = await asyncio.open_connection(sock=self._sock)
        frames = Frames()
        try:
            while piece := await _piece(reader):
                for values in frames.feed(piece):
                    await self._take(Relayed(*values))
            async with asyncio.timeout(_LATEST_S):
                while self._slots:
                    self._all_settled.clear()
                    await self._all_settled.wait()
        finally:
            self._writer.close()

    async def _take(self, call: Relayed) -> None:
        slot = _Slot()
        self._slots.append(slot)

        def settled(_: StoreError | None) -> None:
            slot.is_settled = True
            self._note_settled()

        slot.note = await self._traces.write(call, settled)
        if slot.note is None:
            settled(None)

    def _note_settled(self) -> None:
        if not self._telling:
            self._telling = True
            # A group of traces is settled at once, and told of at once.
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        notes = []
        while self._slots and self._slots[0].is_settled:
            note = self._slots.popleft().note
            notes.append(None if note is None else tuple(note))
        if notes and self._writer is not None and not self._writer.is_closing():
            self._writer.write(frame((self._traces.lost, notes)))
        if not self._slots:
            self._all_settled.set()


async def _piece(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(_READ_BYTES)
    except OSError:
        # It died: as good as a hang-up.
        return b""
