"""Limits a minute as buckets that fill evenly; a bucket is the time at which it is full again.

The generic cell rate algorithm (ITU-T I.371): a full bucket holds one minute's worth, so that a
minute may begin with all of it, and no longer time sees more than the limit and one bucket.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE_S = 60.0
_LONGEST_DEBT_S = 600.0
# Sums of Unix times are exact to a microsecond at best.
_TOLERANCE_S = 1e-4


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many units a minute."""

    per_minute: int

    def wait_s(self, full_at_s: float, units: float, now_s: float) -> float:
        """Seconds until ``units`` may be taken; 0 if they may be now.

        Args:
            full_at_s: When the bucket will be full.
            units: No more than a full bucket is asked for: more would wait for ever.
            now_s: Unix seconds, as ``full_at_s``.
        """
        asked_s = min(self._lasting_s(units), MINUTE_S)
        wait_s = _empty_s(full_at_s, now_s) + asked_s - MINUTE_S
        return wait_s if wait_s > _TOLERANCE_S else 0.0

    def taken(self, full_at_s: float, units: float, now_s: float) -> float:
        """The bucket after ``units`` were taken, or with a negative number given back."""
        empty_s = _empty_s(full_at_s, now_s) + self._lasting_s(units)
        return now_s + min(empty_s, _LONGEST_DEBT_S)

    def left(self, full_at_s: float, now_s: float) -> float:
        """Units in the bucket now, at least 0."""
        return max(0.0, 1 - _empty_s(full_at_s, now_s) / MINUTE_S) * self.per_minute

    def _lasting_s(self, units: float) -> float:
        return units / self.per_minute * MINUTE_S


def _empty_s(full_at_s: float, now_s: float) -> float:
    """Seconds until the bucket is full."""
    empty_s = max(0.0, full_at_s - now_s)
    # Later than any debt allows: the clock was set back, which is to lock nobody out.
    return empty_s if empty_s <= 2 * _LONGEST_DEBT_S else 0.0
