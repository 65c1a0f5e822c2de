"""Deletes what nobody asks for any more, about once an hour."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Final

from tutelage.runtime.errors import StoreError

logger = logging.getLogger(__name__)

PERIOD_S: Final = 3600.0
_BATCH_ROWS: Final = 500
# Others write to the database, too.
_PAUSE_S: Final = 0.05


Deletion = Callable[[int], Awaitable[int]]
"""Deletes at most so many rows of a table that are too old; how many they were."""


class Expiry:
    """Deletes the rows of several tables when their time is over, until it is closed.

    The first time is a random part of an hour away, and later ones between half an hour and one
    and a half, so that workers that were started together do not all do it at once.

    Args:
        deletions: One for each table; a ``StoreError`` of theirs is logged and tried again.
        random: Source of the jitter.
        sleep: Waits.
    """

    def __init__(
        self,
        deletions: Sequence[Deletion],
        *,
        random: Random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._deletions = deletions
        self._random = random
        self._sleep = sleep
        self._is_failing = False
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to wait for the first time."""
        self._running = asyncio.create_task(self._run(), name="tutelage-expiry")
        self._running.add_done_callback(_tell)

    async def aclose(self) -> None:
        """Ends it; a batch that is being deleted is deleted whole, or not at all."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([self._running])

    async def _run(self) -> None:
        await self._sleep(PERIOD_S * self._random.random())
        while True:
            await self._delete()
            await self._sleep(PERIOD_S * self._random.uniform(0.5, 1.5))

    async def _delete(self) -> None:
        try:
            for delete in self._deletions:
                while await delete(_BATCH_ROWS) == _BATCH_ROWS:
                    await self._sleep(_PAUSE_S)
        except StoreError as error:
            if not self._is_failing:
                logger.error("what is too old is not deleted, it is tried again: %s", error)
            self._is_failing = True
        else:
            self._is_failing = False


def _tell(ended: asyncio.Task[None]) -> None:
    if not ended.cancelled() and (error := ended.exception()) is not None:
        logger.error("what is too old is not deleted any more: %s", type(error).__name__)
