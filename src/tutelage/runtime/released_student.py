"""Which release of the student acts in an episode, as the database says it now."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping

from tutelage.runtime.errors import StoreError
from tutelage.runtime.models.failures import log_line
from tutelage.runtime.protocols import ActingStudent
from tutelage.runtime.release import Served, Traffic
from tutelage.runtime.types import Step

logger = logging.getLogger(__name__)

REMEMBERED_EPISODES = 20_000


class CurrentTraffic:
    """Who serves whom, read again when it is older than ``refresh_s``.

    The request that finds it too old waits for the new one, so that a worker that was idle does not
    serve by what held long ago; none waits longer than ``patience_s``. A swap or a rollback thus
    reaches every new step within ``refresh_s + patience_s``. While the database is gone, what was
    read last holds.

    Args:
        read: Reads the traffic of all tenants.
        refresh_s: How old it may be.
        patience_s: How long a request waits for a reading.
        timer: A monotonic clock in seconds.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Mapping[str, Traffic]]],
        *,
        refresh_s: float,
        patience_s: float,
        timer: Callable[[], float],
    ) -> None:
        self._read = read
        self._refresh_s = refresh_s
        self._patience_s = patience_s
        self._timer = timer
        self._known: Mapping[str, Traffic] | None = None
        self._due_s = float("-inf")
        self._reading: asyncio.Future[Mapping[str, Traffic]] | None = None

    @property
    def serving(self) -> frozenset[str]:
        """Names of all releases that serve, as of the last reading."""
        return frozenset(
            one.name
            for traffic in (self._known or {}).values()
            for one in (traffic.current, traffic.canary)
            if one is not None
        )

    async def of(self, tenant: str) -> Traffic | None:
        """Who serves a tenant; ``None``: the student as it is configured.

        Raises:
            StoreError: Nothing could be read since the start.
        """
        if self._timer() >= self._due_s:
            await self._refresh()
        if self._known is None:
            raise StoreError("which release serves could not be read yet: see store.url")
        return self._known.get(tenant)

    async def _refresh(self) -> None:
        asked_s, reading = self._timer(), self._reading
        if reading is None or reading.get_loop() is not asyncio.get_running_loop():
            reading = self._reading = asyncio.ensure_future(self._read())
        await asyncio.wait([reading], timeout=self._patience_s)
        if reading is not self._reading:
            # Another request took it in while this one waited.
            return
        self._due_s = asked_s + self._refresh_s
        if not reading.done():
            logger.warning("which release serves is not known anew: the database is slow")
            return
        self._reading = None
        try:
            self._known = reading.result()
        except StoreError as error:
            logger.warning("which release serves is not known anew: %s", log_line(error))


class ReleasedStudents:
    """Gives every step the release whose turn it is.

    An episode keeps its release as long as that serves, also while the canary's share grows. Which
    episodes the canary gets is a matter of a hash, so that all workers agree on it, and a larger
    share includes the episodes of a smaller one.

    Args:
        traffic: Who serves whom.
        make: Makes what acts for a release; called once for each release and policy.
        remembered: How many episodes are remembered.
    """

    def __init__(
        self,
        traffic: CurrentTraffic,
        make: Callable[[Served], Awaitable[ActingStudent]],
        *,
        remembered: int = REMEMBERED_EPISODES,
    ) -> None:
        self._traffic = traffic
        self._make = make
        self._remembered = remembered
        self._episodes: OrderedDict[tuple[str, str], str | None] = OrderedDict()
        self._acting: dict[tuple[str, str], ActingStudent] = {}
        self._making = asyncio.Lock()

    async def student_for(self, step: Step) -> ActingStudent | None:
        """Who acts in a step; ``None``: the student as it is configured.

        Raises:
            StoreError: Who serves is not known.
            ConfigError: What acts for the release cannot be made.
        """
        traffic = await self._traffic.of(step.tenant)
        if traffic is None:
            return None
        served = self._chosen(step, traffic)
        return None if served is None else await self._made(served)

    def _chosen(self, step: Step, traffic: Traffic) -> Served | None:
        key = (step.tenant, step.episode_id)
        current, canary = traffic.current, traffic.canary
        by_name = {one.name if one else None: one for one in (current, canary or current)}
        if self._episodes.get(key, "") in by_name:
            self._episodes.move_to_end(key)
            return by_name[self._episodes[key]]
        is_canary = canary is not None and place(step, canary.name) < traffic.canary_share
        chosen = canary if is_canary else current
        self._episodes[key] = chosen.name if chosen else None
        while len(self._episodes) > self._remembered:
            self._episodes.popitem(last=False)
        return chosen

    async def _made(self, served: Served) -> ActingStudent:
        policy = json.dumps(served.policy, sort_keys=True) if served.policy else ""
        key = (served.name, hashlib.sha256(policy.encode()).hexdigest())
        found = self._acting.get(key)
        if found is not None:
            return found
        async with self._making:
            if key not in self._acting:
                self._acting[key] = await self._make(served)
            return self._acting[key]


def place(step: Step, release: str) -> float:
    """Where an episode stands in [0, 1): a canary with a larger share serves it.

    Uniform over episodes, the same in every process, and another one for every release.
    """
    named = json.dumps([release, step.tenant, step.episode_id])
    digest = hashlib.sha256(named.encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2.0**53
