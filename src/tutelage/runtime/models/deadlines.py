"""Deadlines of one model call, each with a name that its error tells."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, fields

from tutelage.runtime.errors import ConfigError, ModelTimeout


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines of one model call, seconds.

    Raises:
        ConfigError: A value is not a positive number of seconds.
    """

    connect_s: float = 5.0
    """Until a connection stands, name lookup and TLS included."""
    first_byte_s: float = 120.0
    """From the start of an attempt until the first byte of the answer's body."""
    idle_s: float = 60.0
    """Longest silence within an answer."""
    total_s: float = 300.0
    """All attempts, waits and reading together."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"timeouts.{field.name} = {value}: give seconds above 0")


class Deadlines:
    """The deadlines of one call that has started.

    Args:
        endpoint: What errors call the endpoint.
        timeouts: The limits.
        clock: A monotonic clock, seconds.
    """

    def __init__(self, endpoint: str, timeouts: Timeouts, clock: Callable[[], float]) -> None:
        self._endpoint = endpoint
        self._timeouts = timeouts
        self._clock = clock
        self._ends_s = clock() + timeouts.total_s

    @property
    def remaining_s(self) -> float:
        """Seconds left of the total."""
        return self._ends_s - self._clock()

    def first_byte(self) -> AbstractAsyncContextManager[None]:
        """Bounds the wait for the first byte; raises ``ModelTimeout``."""
        return self._within("first_byte_s", self._timeouts.first_byte_s)

    def idle(self) -> AbstractAsyncContextManager[None]:
        """Bounds one wait for more of an answer; raises ``ModelTimeout``."""
        return self._within("idle_s", self._timeouts.idle_s)

    def passed(self, name: str) -> ModelTimeout:
        """The error for a deadline that has passed, e.g. ``connect_s``."""
        return ModelTimeout(
            f"{self._endpoint} passed the {name} deadline of {getattr(self._timeouts, name):g} s: "
            f"raise timeouts.{name}, or check that the endpoint is alive"
        )

    @asynccontextmanager
    async def _within(self, name: str, limit_s: float) -> AsyncIterator[None]:
        remaining_s = self.remaining_s
        if remaining_s < limit_s:
            name, limit_s = "total_s", remaining_s
        try:
            async with asyncio.timeout(limit_s) as scope:
                yield
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise self.passed(name) from error
