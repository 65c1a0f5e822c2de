"""Leaves an endpoint alone for a while when it keeps failing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal

from tutelage.runtime.errors import ConfigError, ModelError, Unreachable
from tutelage.runtime.models.failures import is_transient

State = Literal["closed", "open", "half-open"]


class Breaker:
    """Opens after failures in a row, then lets a single call through to see whether that is over.

    Args:
        after: Transient failures in a row that open it.
        pause_s: How long it stays open before one call may try.
        endpoint: What errors call the endpoint.
        clock: A monotonic clock, seconds.

    Raises:
        ConfigError: A number is out of range.
    """

    def __init__(
        self,
        after: int = 5,
        pause_s: float = 30.0,
        *,
        endpoint: str = "the endpoint",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if after < 1:
            raise ConfigError(f"break_after = {after}: give 1 or more")
        if not (math.isfinite(pause_s) and pause_s > 0):
            raise ConfigError(f"break_s = {pause_s}: give seconds above 0")
        self._after = after
        self._pause_s = pause_s
        self._endpoint = endpoint
        self._clock = clock
        self._failures = 0
        self._opened_s: float | None = None
        self._probing = False

    @property
    def state(self) -> State:
        """``half-open``: the pause is over and one call may try, or is trying."""
        if self._opened_s is None:
            return "closed"
        return "half-open" if self._probing or self._left_s <= 0 else "open"

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._failures

    def attempt(self) -> Attempt:
        """One call, as a context manager that learns from how the call ends.

        Raises:
            Unreachable: At entry, while no call may be made.
        """
        return Attempt(self)

    def succeeded(self) -> None:
        """The endpoint answered, if only that the request was wrong."""
        if self._opened_s is None:
            self._failures = 0

    def failed(self) -> None:
        """The endpoint failed in a way that may pass."""
        self._failures += 1
        if self._opened_s is None and self._failures >= self._after:
            self._opened_s = self._clock()

    @property
    def _left_s(self) -> float:
        return (self._opened_s or 0.0) + self._pause_s - self._clock()

    def _admit(self) -> bool:
        """Whether the call that is let through is the one that tries an open breaker."""
        if self._opened_s is None:
            return False
        if self._probing or self._left_s > 0:
            wait_s = max(self._left_s, 1.0)
            raise Unreachable(
                f"{self._endpoint} failed {self._failures} times in a row and is tried again in "
                f"{wait_s:.0f} s: check the endpoint, or name another upstream for this alias",
                retry_after_s=wait_s,
            )
        self._probing = True
        return True

    def _conclude(self, succeeded: bool | None) -> None:
        """The end of the call that tried an open breaker; ``None``: it was cancelled."""
        self._probing = False
        if succeeded:
            self._failures = 0
            self._opened_s = None
        elif succeeded is not None:
            self._failures += 1
            self._opened_s = self._clock()


class Attempt:
    """One call under a breaker; a call that is cancelled counts neither way."""

    __slots__ = ("_breaker", "_is_probe")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._is_probe = False

    def __enter__(self) -> None:
        self._is_probe = self._breaker._admit()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        succeeded: bool | None = error is None
        if isinstance(error, ModelError):
            succeeded = not is_transient(error)
        elif error is not None:
            succeeded = None
        if self._is_probe:
            self._breaker._conclude(succeeded)
        elif succeeded is False:
            self._breaker.failed()
        elif error is not None and succeeded:
            self._breaker.succeeded()
