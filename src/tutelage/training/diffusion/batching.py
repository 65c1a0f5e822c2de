"""One batch of a student for the samples of many requests."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tutelage.runtime.errors import BadResponse
from tutelage.training.diffusion.decoding import Decoded, DecodingSettings, decode
from tutelage.training.diffusion.drawing import Draw
from tutelage.training.diffusion.student import DiffusionStudent

Tell = Callable[[Sequence[int]], bool]
"""Given the tokens written from the start on, in the loop's thread's stead; ``False`` ends it."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One sample that is wanted."""

    prompt: Sequence[int]
    draw: Draw
    limit: int
    """Most tokens."""
    tell: Tell | None = None
    unwanted: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits for it any more."""


class Full(BadResponse):
    """As many samples wait as may."""


class Batcher:
    """Decodes what waits, together, in a thread of its own; one batch at a time.

    Args:
        student: The student.
        settings: How it decodes.
        rows: Most samples in a batch.
        waiting: Most samples that wait for the next batches.
        on_batch: Told the size of each batch and the passes it took.
        clock: Seconds.
    """

    def __init__(
        self,
        student: DiffusionStudent,
        settings: DecodingSettings,
        *,
        rows: int = 32,
        waiting: int = 1024,
        on_batch: Callable[[int, int], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._student = student
        self._settings = settings
        self._rows = rows
        self._most_waiting = waiting
        self._on_batch = on_batch
        self._clock = clock
        self._queue: deque[tuple[Row, asyncio.Future[Decoded]]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="diffusion")

    @property
    def waiting(self) -> int:
        """Samples that no batch has taken yet."""
        return len(self._queue)

    async def write(self, rows: Sequence[Row]) -> list[Decoded]:
        """The samples of one request; they may be written in several batches.

        Raises:
            Full: Too many samples wait already.
            BadResponse: torch failed.
        """
        if len(self._queue) + len(rows) > self._most_waiting:
            raise Full(
                f"{len(self._queue)} samples wait, and {self._most_waiting} may: try again later",
                status=503,
            )
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in rows]
        self._queue.extend(zip(rows, futures, strict=True))
        if self._running is None or self._running.done():
            self._running = loop.create_task(self._run())
        try:
            return list(await asyncio.gather(*futures))
        finally:
            for row in rows:
                row.unwanted.set()

    async def aclose(self) -> None:
        """Waits for the batch under way, and takes no more."""
        for _, future in self._queue:
            future.cancel()
        self._queue.clear()
        if self._running is not None:
            await self._running
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            taken = [self._queue.popleft() for _ in range(min(self._rows, len(self._queue)))]
            wanted = [(row, future) for row, future in taken if not row.unwanted.is_set()]
            if not wanted:
                continue
            rows = [row for row, _ in wanted]
            try:
                made = await loop.run_in_executor(self._thread, self._decode, rows)
            except RuntimeError as error:
                line = str(error).strip().splitlines()[0]
                for _, future in wanted:
                    if not future.done():
                        future.set_exception(BadResponse(f"the student failed: {line}"))
                continue
            if self._on_batch is not None:
                self._on_batch(len(rows), max(one.forwards for one in made))
            for (_, future), one in zip(wanted, made, strict=True):
                if not future.done():
                    future.set_result(one)

    def _decode(self, rows: Sequence[Row]) -> list[Decoded]:
        def told(number: int, tokens: Sequence[int]) -> bool:
            row = rows[number]
            return not row.unwanted.is_set() and (row.tell is None or row.tell(tokens))

        return decode(
            self._student.model,
            [row.prompt for row in rows],
            self._settings,
            draws=[row.draw for row in rows],
            limits=[row.limit for row in rows],
            on_commit=told,
            clock=self._clock,
        )
