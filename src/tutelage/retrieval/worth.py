"""What trajectories have been worth, as a search may ask it at every step."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from tutelage.retrieval.exposures import Exposure
from tutelage.retrieval.utility import Weighed, tally_episodes
from tutelage.runtime.errors import StoreError
from tutelage.runtime.models.failures import log_line

logger = logging.getLogger(__name__)

MOST = 2.0
"""A trajectory never counts for more than two of unknown worth."""
PRIOR_WEIGHT = 2.0
"""Episodes that the success of all of them counts as."""


class ExposureReader(Protocol):
    """Reads what was shown to the student and how its episodes ended; blocking."""

    def of_tenant(self, tenant: str, *, since_s: float = 0.0) -> list[Exposure]:
        """What was found for steps."""
        ...

    def outcomes(self, tenant: str, *, since_s: float = 0.0) -> dict[str, bool]:
        """Success by episode."""
        ...


class MeasuredWorth:
    """Success with a trajectory over success in general, from the outcomes of episodes.

    Both are posterior means, so that a trajectory that was seen little is worth about 1. They are
    read beside the searches, which wait for nothing: until they are known, none is.

    Args:
        exposures: What was shown, and what came of it.
        window_s: How far back that is looked at.
        refresh_s: Seconds between two looks.
        clock: Unix time in seconds.
        timer: A monotonic clock in seconds.
    """

    def __init__(
        self,
        exposures: ExposureReader,
        *,
        window_s: float,
        refresh_s: float,
        clock: Callable[[], float],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._exposures = exposures
        self._window_s = window_s
        self._refresh_s = refresh_s
        self._clock = clock
        self._timer = timer
        self._known: dict[str, Mapping[str, float]] = {}
        self._looked_s: dict[str, float] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}

    async def utilities(self, tenant: str) -> Mapping[str, float]:
        """What is known now, by trajectory."""
        due_s = self._looked_s.get(tenant, float("-inf")) + self._refresh_s
        if self._timer() >= due_s and tenant not in self._looking:
            self._looked_s[tenant] = self._timer()
            task = asyncio.create_task(self._look(tenant))
            self._looking[tenant] = task
            task.add_done_callback(lambda _: self._looking.pop(tenant, None))
        return self._known.get(tenant, {})

    async def aclose(self) -> None:
        """Waits for the looks that are under way."""
        await asyncio.gather(*self._looking.values(), return_exceptions=True)

    async def _look(self, tenant: str) -> None:
        try:
            self._known[tenant] = await asyncio.to_thread(self._measure, tenant)
        except StoreError as error:
            logger.warning("what demonstrations are worth is not known: %s", log_line(error))

    def _measure(self, tenant: str) -> Mapping[str, float]:
        since_s = self._clock() - self._window_s
        exposures = self._exposures.of_tenant(tenant, since_s=since_s)
        success = self._exposures.outcomes(tenant, since_s=since_s)
        tallies, rate = tally_episodes(exposures, success)
        prior = min(max(rate, 0.01), 0.99)
        return {
            id: min(_posterior_mean(tally.shown, prior) / prior, MOST)
            for id, tally in tallies.items()
            if tally.shown.trials
        }


def _posterior_mean(shown: Weighed, prior: float) -> float:
    """Of the Beta posterior of ``utility``, without its bounds, which take long to find."""
    return (shown.rate * shown.size + prior * PRIOR_WEIGHT) / (shown.size + PRIOR_WEIGHT)
