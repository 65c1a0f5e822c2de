"""The test that decides a canary: after any episode, as often as one likes."""

from __future__ import annotations

from math import log2
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tutelage.runtime.errors import TrainingError

CanaryDecision = Literal["continue", "promote", "roll_back"]

_SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""Bets tried at once, as shares of the largest one that cannot go bankrupt."""


class SequentialState(BaseModel):
    """All that a sequential test remembers; to be kept, so that a restart forgets nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    canary_episodes: int = 0
    current_episodes: int = 0
    canary_successes: int = 0
    current_successes: int = 0
    open_canary: tuple[int, int] = (0, 0)
    """Episodes and successes of the canary since the last comparison."""
    open_current: tuple[int, int] = (0, 0)
    comparisons: int = 0
    promoting: tuple[float, ...] = (1.0,) * len(_SHARES)
    """Wealth of the bets on "not worse by the margin"."""
    rolling_back: tuple[float, ...] = (0.0,) * len(_SHARES)
    """Wealth of the bets on "worse" that were started."""
    decision: CanaryDecision = "continue"


class SequentialTest:
    """Compares the success of a canary with that of the current student, without a horizon.

    Finished episodes are compared in blocks, closed as soon as each student has one: ``D`` is the
    canary's mean success minus the current student's, in [-1, 1]. Two bettors play:

    - against "worse by ``margin`` or more": wealth times ``1 + b (D + margin)``; at ``1 / delta``
      the canary is promoted. A student that is worse by the margin or more is ever promoted with a
      probability of at most ``delta``, however often one looks (Ville's inequality).
    - against "at least as good": wealth times ``1 - b D``; at ``1 / delta`` it is rolled back. Half
      of the wealth bets from the start, the other half starts over all later times, so that a
      student that turns bad is found too. One that never is worse is ever rolled back with a
      probability of at most ``delta``.

    Bets are averaged over a grid. Premises: chance decides which student plays an episode, the
    share does not look at outcomes of the open block, and episodes are reported as they started,
    not sooner for being won. Sources: Waudby-Smith and Ramdas 2024; Turner, Ly and Gruenwald 2024
    (blocks of two samples); Shin, Ramdas and Rinaldo 2024 (late starts).

    Args:
        margin: Success that may be lost, as a share of episodes, in (0, 1).
        delta: Allowed probability of each of the two errors.
        longest: Canary episodes after which an undecided canary is rolled back; ``None``: never.
        state: What an earlier test remembered.
    """

    def __init__(
        self,
        *,
        margin: float = 0.10,
        delta: float = 0.05,
        longest: int | None = 1000,
        state: SequentialState | None = None,
    ) -> None:
        if not 0 < margin < 1:
            raise TrainingError(f"canary: margin = {margin}: give a share, as in 0.1")
        if not 0 < delta < 0.5:
            raise TrainingError(
                f"canary: delta = {delta}: give a probability below 0.5, as in 0.05"
            )
        if longest is not None and longest < 1:
            raise TrainingError(f"canary: longest = {longest}: give at least 1 episode")
        self._margin, self._delta, self._longest = margin, delta, longest
        self._state = state or SequentialState()

    @property
    def state(self) -> SequentialState:
        """What is to be kept."""
        return self._state

    @property
    def decision(self) -> CanaryDecision:
        """What the episodes so far say; it never changes once it is not ``continue``."""
        return self._state.decision

    def observe(self, canary: bool, success: bool) -> CanaryDecision:
        """Takes note of a finished episode of live traffic.

        Args:
            canary: Whether the canary played it, or the current student.
            success: How it ended.
        """
        if self.decision != "continue":
            return self.decision
        seen = self._count(canary, success)
        key = "open_canary" if canary else "open_current"
        count, won = getattr(seen, key)
        self._state = seen.model_copy(update={key: (count + 1, won + success)})
        (ours, our_wins), (theirs, their_wins) = self._state.open_canary, self._state.open_current
        if ours and theirs:
            self._state = self._state.model_copy(
                update={"open_canary": (0, 0), "open_current": (0, 0)}
            )
            self._compare(our_wins / ours - their_wins / theirs)
        return self._give_up()

    def observe_pair(self, canary_success: bool, current_success: bool) -> CanaryDecision:
        """Takes note of one task that both played, as in a shadow."""
        if self.decision != "continue":
            return self.decision
        self._state = self._count(True, canary_success)
        self._state = self._count(False, current_success)
        self._compare(float(canary_success) - float(current_success))
        return self._give_up()

    def _count(self, canary: bool, success: bool) -> SequentialState:
        arm = "canary" if canary else "current"
        episodes, successes = f"{arm}_episodes", f"{arm}_successes"
        return self._state.model_copy(
            update={
                episodes: getattr(self._state, episodes) + 1,
                successes: getattr(self._state, successes) + success,
            }
        )

    def _compare(self, difference: float) -> None:
        before = self._state
        at = before.comparisons + 1
        # Weights of starts at comparisons 1, 2, ...: one half at once, then halves of a sum to 1.
        waiting = 0.5 / log2(at + 1)
        started = 0.5 if at == 1 else 0.5 / log2(at) - waiting
        surplus = (difference + self._margin) / (1 - self._margin)
        promoting = tuple(
            held * (1 + share * surplus)
            for held, share in zip(before.promoting, _SHARES, strict=True)
        )
        rolling_back = tuple(
            (held + started) * (1 - share * difference)
            for held, share in zip(before.rolling_back, _SHARES, strict=True)
        )
        decision: CanaryDecision = "continue"
        if sum(rolling_back) / len(_SHARES) + waiting >= 1 / self._delta:
            decision = "roll_back"
        elif sum(promoting) / len(_SHARES) >= 1 / self._delta:
            decision = "promote"
        self._state = before.model_copy(
            update={
                "comparisons": at,
                "promoting": promoting,
                "rolling_back": rolling_back,
                "decision": decision,
            }
        )

    def _give_up(self) -> CanaryDecision:
        state = self._state
        if (
            state.decision == "continue"
            and self._longest is not None
            and state.canary_episodes >= self._longest
        ):
            self._state = state.model_copy(update={"decision": "roll_back"})
        return self._state.decision
