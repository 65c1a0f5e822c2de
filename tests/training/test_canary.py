"""A canary that turns bad is rolled back; a good one is promoted; anybody may go on with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest
from tests.made_releases import Clock, draft, serving

from tutelage.runtime.release import Release
from tutelage.runtime.store.database import open_engine
from tutelage.runtime.store.releases import SqlReleaseStore
from tutelage.training.canary import Canary, CanaryState, Verdict

SHARES = (0.05, 0.25, 0.5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlReleaseStore]:
    engine = open_engine(f"sqlite:///{tmp_path / 'releases.sqlite'}")
    yield SqlReleaseStore(engine, time.time)
    engine.dispose()


class Counting:
    """Rolls back at the third failure of the canary, promotes at its tenth success."""

    def __init__(self) -> None:
        self.failures = self.successes = 0

    def observe(self, canary: bool, success: bool) -> Verdict:
        self.failures += canary and not success
        self.successes += canary and success
        if self.failures == 3:
            return "roll_back"
        return "promote" if self.successes == 10 else "continue"


class Episodes:
    """Episodes that have ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, bool, bool]] = []

    async def __call__(self, release: Release) -> Sequence[tuple[str, bool, bool]]:
        return self.ended

    def end(self, *outcomes: tuple[bool, bool]) -> None:
        for canary, success in outcomes:
            self.ended.append((f"e{len(self.ended)}", canary, success))


def canary(store: SqlReleaseStore, episodes: Episodes, count: int = 3) -> Canary:
    return Canary(store, episodes, Counting, shares=SHARES, episodes=count)


def shadowed(store: SqlReleaseStore) -> Release:
    release = store.add(draft())
    store.shadow("acme", release.name, "")
    return release


async def test_the_share_grows_with_the_episodes_of_the_canary(store: SqlReleaseStore) -> None:
    release, episodes = shadowed(store), Episodes()
    made = canary(store, episodes)
    shares = []
    for _ in range(7):
        await made.step(release)
        shares.append(store.traffic("student", "acme").canary_share)
        episodes.end((True, True), (False, True))
    assert shares == [0.05, 0.05, 0.05, 0.25, 0.25, 0.25, 0.5]


async def test_a_canary_that_turns_bad_is_rolled_back_at_once(store: SqlReleaseStore) -> None:
    serving(store)
    release, episodes = shadowed(store), Episodes()
    made = canary(store, episodes, 100)
    episodes.end(*[(True, True)] * 5, (True, False), (False, False), (True, False))
    assert (await made.step(release)).verdict == "continue"
    episodes.end((True, False), (True, True))
    state = await made.step(release)
    assert (state.verdict, state.canary_episodes, state.canary_successes) == ("roll_back", 8, 5)
    assert store.release("acme", release.name).stage == "rolled_back"
    traffic = store.traffic("student", "acme")
    assert traffic.current is not None
    assert (traffic.current.name, traffic.canary) == ("student@1", None)
    assert "canary 5 of 8 episodes, others 0 of 1" in store.events("acme", release.name)[-1].detail


async def test_another_process_goes_on_and_decides_the_same(store: SqlReleaseStore) -> None:
    release, episodes = shadowed(store), Episodes()
    outcomes = [(True, True)] * 4 + [(True, False)] * 2 + [(True, True)] * 3
    for outcome in outcomes:
        episodes.end(outcome)
        assert (await canary(store, episodes).step(release)).verdict == "continue"
    # Seen later, but counted where it was first seen.
    episodes.ended.insert(0, ("late", True, False))
    assert (await canary(store, episodes).step(release)).verdict == "roll_back"
    assert store.outcomes(release) == [*outcomes, (True, False)]


async def test_a_verdict_of_promotion_moves_no_traffic(store: SqlReleaseStore) -> None:
    release, episodes = shadowed(store), Episodes()
    episodes.end(*[(True, True)] * 10)
    state = await canary(store, episodes).step(release)
    assert state.verdict == "promote"
    assert store.release("acme", release.name).stage == "canary"


async def test_it_waits_no_longer_than_it_may(store: SqlReleaseStore) -> None:
    release, episodes, clock = shadowed(store), Episodes(), Clock()
    told: list[CanaryState] = []
    made = canary(store, episodes)
    waiting = {"poll_s": 10.0, "told": told.append, "sleep": clock.sleep, "timer": clock}
    state = await made.run(release, wait_s=35, **waiting)  # type: ignore[arg-type]
    assert (state.verdict, clock.now_s, len(told)) == ("continue", 1030, 4)
    await made.run(release, wait_s=0, **waiting)  # type: ignore[arg-type]
    assert len(told) == 5


async def test_episodes_drawn_by_share_end_in_the_verdict(store: SqlReleaseStore) -> None:
    release, episodes, random = shadowed(store), Episodes(), Random(3)
    made, asked = canary(store, episodes, 5), 0
    state = await made.step(release)
    while state.verdict == "continue":
        asked += 1
        is_canary = random.random() < store.traffic("student", "acme").canary_share
        episodes.end((is_canary, random.random() < (0.2 if is_canary else 0.9)))
        state = await made.step(release)
        assert asked < 500
    assert state.verdict == "roll_back"
