"""A retriever whose bank takes over what other processes have changed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from tutelage.runtime.errors import RetrievalError, StoreError
from tutelage.runtime.models.failures import log_line
from tutelage.runtime.protocols import Retriever
from tutelage.runtime.types import Retrieved, Step

logger = logging.getLogger(__name__)


class CaughtUp:
    """Looks for changes of a tenant's demonstrations beside its searches, which wait for nothing.

    Args:
        retriever: Searches the bank.
        catch_up: Has the bank take over what has changed for a tenant.
        refresh_s: Seconds between two looks.
        timer: A monotonic clock in seconds.
    """

    def __init__(
        self,
        retriever: Retriever,
        catch_up: Callable[[str], Awaitable[bool]],
        refresh_s: float,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._retriever = retriever
        self._catch_up = catch_up
        self._refresh_s = refresh_s
        self._timer = timer
        self._looked_s: dict[str, float] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}

    async def search(self, step: Step) -> Sequence[Retrieved]:
        """As the retriever.

        Raises:
            RetrievalError: The bank cannot be searched.
        """
        due_s = self._looked_s.get(step.tenant, float("-inf")) + self._refresh_s
        if self._timer() >= due_s and step.tenant not in self._looking:
            self._looked_s[step.tenant] = self._timer()
            task = asyncio.create_task(self._look(step.tenant))
            self._looking[step.tenant] = task
            task.add_done_callback(lambda ended: self._looking.pop(step.tenant, None))
        return await self._retriever.search(step)

    async def aclose(self) -> None:
        """Ends the looks that are under way."""
        tasks = list(self._looking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, tenant: str) -> None:
        try:
            await self._catch_up(tenant)
        except (RetrievalError, StoreError) as error:
            logger.warning("demonstrations are not known anew: %s", log_line(error))
