"""The one writer of a store: groups records into commits, and spools when the database is gone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tutelage.runtime.errors import StoreError
from tutelage.runtime.store.spool import Record, Spool

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Commit = Callable[[Sequence[Record], float], None]
"""Writes records in one transaction, waiting at most so many seconds for a lock."""
Settle = Callable[[StoreError | None], object]
"""Is told, in the loop, when a record is durable, or why it is neither stored nor spooled."""

_DRAIN_ROWS = 500
_DRAIN_LOCK_WAIT_S = 0.25
_RETRY_MAX_S = 15.0


class Unreachable(StoreError):
    """The database cannot be used now; the same records may succeed later."""


class Unstorable(StoreError):
    """The database refuses a record, and always will."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What became of the records of one store since it was opened."""

    stored: int
    """Committed to the database, drained ones included."""
    spooled: int
    """Kept in the spool because the database was gone."""
    failed: int
    """Neither stored nor spooled, or refused by the database when drained."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a group of records is committed, and how many may wait."""

    rows: int = 500
    """Records in one commit, at most."""
    wait_s: float = 0.020
    """How long a commit waits for records that keep coming; it never waits for none."""
    queue_rows: int = 1000
    """Records that may wait for their commit."""
    queue_wait_s: float = 5.0
    """How long an append waits for a place among them before it fails."""
    lock_wait_s: float = 5.0
    """How long a commit waits for another process before its records are spooled."""
    retry_s: float = 0.5
    """First pause before the database is tried again; doubled up to 15 s."""


class BatchWriter:
    """Takes records from many tasks and commits them in groups, in order, in one thread.

    Args:
        commit: The transaction; raises ``Unreachable`` or ``Unstorable``. Runs in the thread.
        spool: Where records go while the database is gone.
        clock: Seconds from any origin; paces the tries.
        limits: Sizes and waits.
    """

    def __init__(
        self,
        commit: Commit,
        spool: Spool,
        *,
        clock: Callable[[], float] = time.monotonic,
        limits: BatchLimits | None = None,
    ) -> None:
        self._commit = commit
        self._spool = spool
        self._clock = clock
        self._limits = limits or BatchLimits()
        self._waiting: deque[tuple[Record, Settle]] = deque()
        self._arrived = asyncio.Event()
        self._places = asyncio.Semaphore(self._limits.queue_rows)
        self._posted = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tutelage-store")
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._is_down = False
        self._is_busy = False
        self._retry_at_s = 0.0
        self._pause_s = self._limits.retry_s
        self._stored = self._spooled = self._failed = 0

    @property
    def counters(self) -> Counters:
        """What became of the records so far."""
        return Counters(stored=self._stored, spooled=self._spooled, failed=self._failed)

    async def call(self, function: Callable[[], Result]) -> Result:
        """Runs a blocking function in the writer's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def start(self) -> None:
        """Starts the writer task; spooled records are drained by and by."""
        self._task = asyncio.create_task(self._run(), name="tutelage-store-writer")

    async def put(self, record: Record) -> None:
        """Returns when the record is durable. A caller that is cancelled leaves it to be written.

        Raises:
            StoreError: The record was neither stored nor spooled, or no place was free in time.
        """
        self._check_open()
        await self._take_place(record)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settled(outcome: StoreError | None) -> None:
            self._places.release()
            _settle(future, outcome)

        self._waiting.append((record, settled))
        self._arrived.set()
        await future

    def post(self, record: Record, settle: Settle) -> bool:
        """Leaves a record to be written; ``False`` if no place is free, and nothing was done.

        Args:
            record: What is to be stored.
            settle: Called when it is durable, or lost.

        Raises:
            StoreError: The store is not open.
        """
        self._check_open()
        if self._posted >= self._limits.queue_rows:
            return False
        self._posted += 1

        def settled(outcome: StoreError | None) -> None:
            self._posted -= 1
            settle(outcome)

        self._waiting.append((record, settled))
        self._arrived.set()
        return True

    def _check_open(self) -> None:
        if self._task is None or self._task.done() or self._closing:
            raise StoreError("the trace store is closed: use it inside 'async with'")

    async def _take_place(self, record: Record) -> None:
        if not self._places.locked():
            # Without the timer that waiting needs.
            await self._places.acquire()
            return
        try:
            async with asyncio.timeout(self._limits.queue_wait_s):
                await self._places.acquire()
        except TimeoutError as error:
            self._failed += 1
            raise StoreError(
                f"{self._limits.queue_rows} records wait for the database, and none was written"
                f" within {self._limits.queue_wait_s} s: the {record.kind} is not stored"
            ) from error
        try:
            self._check_open()
        except StoreError:
            self._places.release()
            raise

    async def drain(self, budget_s: float) -> None:
        """Drains the spool until it is empty, the database fails, or the time is used up.

        Raises:
            StoreError: The spool cannot be read.
        """
        await self.call(lambda: self._drain(budget_s))

    async def close(self) -> None:
        """Writes all that waits, tries the spool once more, and ends the thread."""
        self._closing = True
        self._arrived.set()
        try:
            if self._task is not None:
                await self._task
                await self.drain(float("inf"))
        except StoreError as error:
            logger.error("%s; its records stay there", error)
        finally:
            self._thread.shutdown()

    async def _run(self) -> None:
        try:
            while self._waiting or not self._closing:
                await self._wait_for_arrival()
                await self._write_batch()
                if self._is_recovering and self._clock() >= self._retry_at_s:
                    await self.call(self._try_to_recover)
        finally:
            # Reached early only when the loop is torn down: nobody may wait for ever.
            while self._waiting:
                _, settle = self._waiting.popleft()
                settle(StoreError("the trace store was stopped before it wrote this"))

    @property
    def _is_recovering(self) -> bool:
        return self._is_down or self._spool.is_pending

    async def _wait_for_arrival(self) -> None:
        if self._waiting or self._closing:
            return
        self._arrived.clear()
        pause_s = self._retry_at_s - self._clock() if self._is_recovering else None
        if pause_s is not None and pause_s <= 0:
            return
        try:
            async with asyncio.timeout(pause_s):
                await self._arrived.wait()
        except TimeoutError:
            return

    async def _write_batch(self) -> None:
        await self._gather()
        count = min(len(self._waiting), self._limits.rows)
        if count == 0:
            return
        self._is_busy = count > 1
        batch = [self._waiting.popleft() for _ in range(count)]
        unfinished: StoreError | None = StoreError("the trace store was stopped while it wrote")
        outcomes: Sequence[StoreError | None] = [unfinished] * count
        try:
            outcomes = await self.call(lambda: self._write([record for record, _ in batch]))
        finally:
            for (_, settle), outcome in zip(batch, outcomes, strict=True):
                settle(outcome)

    async def _gather(self) -> None:
        """Lets tasks that are about to append do so, as long as records keep coming.

        Commits cost far more than rows: where the last group had several, this one is filled.
        """
        if self._is_busy and len(self._waiting) < self._limits.rows and not self._closing:
            await asyncio.sleep(self._limits.wait_s / 2)
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._limits.wait_s
        seen = 0
        while seen < len(self._waiting) < self._limits.rows and loop.time() < deadline_s:
            seen = len(self._waiting)
            await asyncio.sleep(0)

    def _write(self, records: Sequence[Record]) -> list[StoreError | None]:
        """Commits or spools; an error for each record that is neither."""
        if not self._is_recovering:
            try:
                return self._count_failed(self._commit_each(records, self._limits.lock_wait_s))
            except Unreachable as error:
                self._mark_down(error)
        return self._count_failed(self._keep(records))

    def _count_failed(self, outcomes: list[StoreError | None]) -> list[StoreError | None]:
        self._failed += sum(outcome is not None for outcome in outcomes)
        return outcomes

    def _commit_each(
        self, records: Sequence[Record], lock_wait_s: float
    ) -> list[StoreError | None]:
        """One commit for all, or one for each when the database refuses one of them."""
        try:
            self._commit(records, lock_wait_s)
        except Unstorable as error:
            if len(records) == 1:
                return [error]
            return [self._commit_each([record], lock_wait_s)[0] for record in records]
        self._stored += len(records)
        return [None] * len(records)

    def _keep(self, records: Sequence[Record]) -> list[StoreError | None]:
        try:
            kept = self._spool.append(records)
        except StoreError as error:
            kept, problem = 0, error
        else:
            problem = StoreError(
                f"the database is gone and the spool {self._spool.path} is full"
                f" ({self._spool.max_bytes} bytes)"
            )
        self._spooled += kept
        rest = records[kept:]
        if rest and not self._is_down:
            # The database is back, only the spool has no room: order matters less than keeping.
            try:
                return [None] * kept + self._commit_each(rest, self._limits.lock_wait_s)
            except Unreachable as error:
                self._mark_down(error)
        return [None] * kept + [problem] * len(rest)

    def _mark_down(self, error: StoreError) -> None:
        if not self._is_down:
            logger.warning("%s; traces go to the spool %s", error, self._spool.path)
        self._is_down = True
        self._pause()

    def _pause(self) -> None:
        self._retry_at_s = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _RETRY_MAX_S)

    def _try_to_recover(self) -> None:
        try:
            self._recover()
        except StoreError as error:
            logger.error("%s", error)
            self._pause()

    def _recover(self) -> bool:
        """Drains one slice of the spool; whether the database took it."""
        try:
            with self._spool.oldest(_DRAIN_ROWS) as records:
                outcomes = self._commit_each(records, _DRAIN_LOCK_WAIT_S)
                for record, outcome in zip(records, outcomes, strict=True):
                    if outcome is not None:
                        logger.error("a spooled %s is set aside: %s", record.kind, outcome)
                        self._spool.reject(record)
                        self._failed += 1
        except Unreachable as error:
            self._mark_down(error)
            return False
        if self._is_down:
            logger.info("the database is back; the spool is being drained")
        self._is_down = False
        self._pause_s = self._limits.retry_s
        return True

    def _drain(self, budget_s: float) -> None:
        deadline_s = time.monotonic() + budget_s
        while self._spool.is_pending and time.monotonic() < deadline_s and self._recover():
            pass


def _settle(future: asyncio.Future[None], outcome: StoreError | None) -> None:
    if future.done():
        return
    if outcome is None:
        future.set_result(None)
    else:
        future.set_exception(outcome)
