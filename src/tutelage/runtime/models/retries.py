"""How often, and after how long a wait, a failed model call is made again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from random import Random

from tutelage.runtime.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Retries:
    """Bounded retries with jittered exponential waits.

    Raises:
        ConfigError: A value is out of range.
    """

    attempts: int = 3
    """Calls in all, the first included."""
    base_s: float = 0.5
    """Upper bound of the first wait; it doubles with every failure."""
    cap_s: float = 8.0
    """Upper bound of any wait that the endpoint did not ask for."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigError(
                f"retries.attempts = {self.attempts}: give 1 or more, 1 never retries"
            )
        for name, value in (("base_s", self.base_s), ("cap_s", self.cap_s)):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"retries.{name} = {value}: give seconds, 0 or more")

    def delay_s(self, failures: int, random: Random, retry_after_s: float | None = None) -> float:
        """Seconds to wait before the next call.

        Half of the exponential bound is kept and half is drawn at random, so that clients that
        failed together do not come back together.

        Args:
            failures: Calls that have failed so far, 1 or more.
            random: Source of the jitter.
            retry_after_s: What the endpoint asked for; a lower bound of the wait.
        """
        # The exponent is bounded because 2.0**1024 overflows.
        bound = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 64))
        jittered = bound / 2 + random.random() * bound / 2
        return max(jittered, retry_after_s or 0.0)


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds that an answer asks its client to wait; ``None`` if it does not say.

    Reads ``Retry-After`` as seconds or as an HTTP date (RFC 9110, 10.2.3).

    Args:
        headers: Headers of the answer, looked up case-insensitively by the mapping.
        now_s: Unix time, for dates where the answer has no ``Date`` of its own.
    """
    value = headers.get("Retry-After")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        moment_s = _unix_time_s(value)
        if moment_s is None:
            return None
        # The endpoint's own clock, where it shows it, so that skew between machines cancels out.
        seconds = moment_s - (_unix_time_s(headers.get("Date", "")) or now_s)
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _unix_time_s(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
