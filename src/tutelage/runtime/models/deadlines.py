"""Deadlines of one model call, each with a name that its error tells."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from types import TracebackType

from tutelage.runtime.errors import ConfigError, ModelTimeout
from tutelage.runtime.time_limit import TimeLimit


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

    def first_byte(self) -> AbstractContextManager[None]:
        """Bounds the wait for the first byte; raises ``ModelTimeout``."""
        return self._within("first_byte_s", self._timeouts.first_byte_s)

    def idle(self) -> AbstractContextManager[None]:
        """Bounds one wait for more of an answer; raises ``ModelTimeout``."""
        return self._within("idle_s", self._timeouts.idle_s)

    def idle_limit(self) -> tuple[str, float]:
        """The deadline that bounds a wait for more of an answer, and its seconds from now."""
        remaining_s = self.remaining_s
        if remaining_s < self._timeouts.idle_s:
            return "total_s", remaining_s
        return "idle_s", self._timeouts.idle_s

    def passed(self, name: str) -> ModelTimeout:
        """The error for a deadline that has passed, e.g. ``connect_s``."""
        return ModelTimeout(
            f"{self._endpoint} passed the {name} deadline of {getattr(self._timeouts, name):g} s: "
            f"raise timeouts.{name}, or check that the endpoint is alive"
        )

    def _within(self, name: str, limit_s: float) -> _Bound:
        remaining_s = self.remaining_s
        if remaining_s < limit_s:
            name, limit_s = "total_s", remaining_s
        return _Bound(self, name, limit_s)


class _Bound:
    """Bounds a block by one of the deadlines."""

    __slots__ = ("_deadlines", "_limit", "_name")

    def __init__(self, deadlines: Deadlines, name: str, limit_s: float) -> None:
        self._deadlines = deadlines
        self._name = name
        self._limit = TimeLimit(limit_s)

    def __enter__(self) -> None:
        self._limit.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._limit.__exit__(kind, error, traceback)
        except TimeoutError as ended:
            raise self._deadlines.passed(self._name) from ended
