"""The canary: a release that serves a growing share of episodes until a test has decided."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from tutelage.runtime.release import Release
from tutelage.runtime.store.releases import SqlReleaseStore

logger = logging.getLogger(__name__)

Verdict = Literal["continue", "promote", "roll_back"]
Outcomes = Callable[[Release], Awaitable[Sequence[tuple[str, bool, bool]]]]
"""Finished episodes since the canary began, oldest first: id, whether it served, success."""


class CanaryTest(Protocol):
    """Decides between two students as episodes end."""

    def observe(self, canary: bool, success: bool) -> Verdict:
        """Takes one more episode into account.

        Args:
            canary: Whether the canary served it; else the student so far did.
            success: Whether it succeeded.
        """
        ...


@dataclass(frozen=True, slots=True)
class CanaryState:
    """How far a canary is."""

    verdict: Verdict
    share: float
    canary_episodes: int
    other_episodes: int
    canary_successes: int
    other_successes: int

    def __str__(self) -> str:
        return (
            f"canary {self.canary_successes} of {self.canary_episodes} episodes, "
            f"others {self.other_successes} of {self.other_episodes}, share {self.share:g}"
        )


class Canary:
    """Grows the share of a release, promotes it, or rolls it back.

    All that it knows is in the database: another process may go on at any moment. Outcomes are
    tested in the order in which they were first seen, so that asking again decides the same.

    Args:
        store: Keeps who serves, and the outcomes.
        outcomes: Finished episodes.
        make_test: Makes the sequential test, fresh.
        shares: Shares of episodes, one after the other.
        episodes: Finished episodes of the canary before its share grows.
    """

    def __init__(
        self,
        store: SqlReleaseStore,
        outcomes: Outcomes,
        make_test: Callable[[], CanaryTest],
        *,
        shares: Sequence[float],
        episodes: int,
    ) -> None:
        self._store = store
        self._outcomes = outcomes
        self._make_test = make_test
        self._shares = tuple(shares)
        self._episodes = episodes

    async def step(self, release: Release) -> CanaryState:
        """Looks once: rolls back at once, makes the share grow, or says that it may be promoted.

        Raises:
            ReleaseRefused: The release may be no canary.
            StoreError: The database cannot be read or written.
        """
        traffic = await asyncio.to_thread(self._store.traffic, release.student, release.tenant)
        share = traffic.canary_share
        if traffic.canary is None or traffic.canary.name != release.name:
            share = self._shares[0]
            await asyncio.to_thread(self._store.canary, release.tenant, release.name, share)
        seen = await self._outcomes(release)
        await asyncio.to_thread(self._store.count, release, seen)
        state = self._tested(await asyncio.to_thread(self._store.outcomes, release), share)
        if state.verdict == "roll_back":
            await asyncio.to_thread(
                self._store.roll_back, release.student, release.tenant, str(state)
            )
        elif state.verdict == "continue":
            grown = self._shares[
                min(state.canary_episodes // self._episodes, len(self._shares) - 1)
            ]
            if grown > share:
                await asyncio.to_thread(self._store.canary, release.tenant, release.name, grown)
        return state

    def _tested(self, outcomes: Sequence[tuple[bool, bool]], share: float) -> CanaryState:
        test = self._make_test()
        verdict: Verdict = "continue"
        count = {(served, success): 0 for served in (True, False) for success in (True, False)}
        for is_canary, success in outcomes:
            count[is_canary, success] += 1
            verdict = test.observe(is_canary, success)
            if verdict != "continue":
                break
        return CanaryState(
            verdict,
            share,
            count[True, True] + count[True, False],
            count[False, True] + count[False, False],
            count[True, True],
            count[False, True],
        )

    async def run(
        self,
        release: Release,
        *,
        wait_s: float,
        poll_s: float,
        told: Callable[[CanaryState], None] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        timer: Callable[[], float] = time.monotonic,
    ) -> CanaryState:
        """Looks again and again until there is a verdict, or the time is over.

        Args:
            release: Which.
            wait_s: Longest wait; 0: looks once.
            poll_s: Between two looks.
            told: Hears of each look.
            sleep: Waits.
            timer: A monotonic clock in seconds.
        """
        deadline_s = timer() + wait_s
        while True:
            state = await self.step(release)
            if told is not None:
                told(state)
            if state.verdict != "continue" or timer() + poll_s > deadline_s:
                return state
            await sleep(poll_s)
