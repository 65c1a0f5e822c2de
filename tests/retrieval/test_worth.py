from __future__ import annotations

import pytest

from tutelage.retrieval.exposures import Exposure
from tutelage.retrieval.utility import tally_episodes, utility
from tutelage.retrieval.worth import MOST, MeasuredWorth
from tutelage.runtime.errors import StoreError


class Read:
    """Exposures of one trajectory an episode, and how the episodes ended."""

    def __init__(self, *episodes: tuple[str, bool], error: Exception | None = None) -> None:
        self.episodes, self.error, self.since_s = episodes, error, [0.0]

    def of_tenant(self, tenant: str, *, since_s: float = 0.0) -> list[Exposure]:
        if self.error is not None:
            raise self.error
        self.since_s.append(since_s)
        return [
            Exposure(
                tenant=tenant,
                episode_id=str(place),
                step_index=0,
                layer="step",
                at_s=1.0,
                share=0.0,
                shown=(name,),
                left_out=(),
            )
            for place, (name, _) in enumerate(self.episodes)
        ]

    def outcomes(self, tenant: str, *, since_s: float = 0.0) -> dict[str, bool]:
        return {str(place): success for place, (_, success) in enumerate(self.episodes)}


class Timer:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def worth(read: Read, timer: Timer) -> MeasuredWorth:
    return MeasuredWorth(read, window_s=50.0, refresh_s=10.0, clock=lambda: 80.0, timer=timer)


async def known(made: MeasuredWorth) -> dict[str, float]:
    await made.utilities("t")
    await made.aclose()
    return dict(await made.utilities("t"))


async def test_a_search_waits_for_nothing_and_is_told_what_is_known() -> None:
    read = Read(("good", True), ("good", True), ("bad", False), ("bad", False))
    made = worth(read, Timer())
    assert await made.utilities("t") == {}
    found = await known(made)
    assert found["bad"] < 1 < found["good"] <= MOST
    assert read.since_s[-1] == 30.0


async def test_what_is_known_is_the_posterior_mean_over_the_success_of_all() -> None:
    read = Read(("good", True), ("good", True), ("good", False), ("bad", False))
    tallies, rate = tally_episodes(read.of_tenant("t"), read.outcomes("t"))
    found = await known(worth(read, Timer()))
    for name, tally in tallies.items():
        assert found[name] == pytest.approx(utility(name, tally, rate).rate / rate)


async def test_little_evidence_moves_a_trajectory_little() -> None:
    many = [("usual", place % 2 == 0) for place in range(100)]
    found = await known(worth(Read(*many, ("rare", True)), Timer()))
    assert found["usual"] == pytest.approx(1.0, abs=0.02)
    assert 1.0 < found["rare"] < 1.4


async def test_a_rare_success_counts_twice_at_most() -> None:
    many = [("usual", False)] * 200 + [("lucky", True)] * 5
    assert (await known(worth(Read(*many), Timer())))["lucky"] == MOST


async def test_it_is_looked_at_again_after_a_while() -> None:
    read, timer = Read(("a", True)), Timer()
    made = worth(read, timer)
    await known(made)
    looks = len(read.since_s)
    timer.now_s = 9.0
    await known(made)
    assert len(read.since_s) == looks
    timer.now_s = 10.0
    await known(made)
    assert len(read.since_s) == looks + 1


async def test_a_database_that_is_gone_leaves_what_was_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    read, timer = Read(("a", True)), Timer()
    made = worth(read, timer)
    before = await known(made)
    read.error, timer.now_s = StoreError("the database is gone"), 20.0
    assert await known(made) == before
    assert "the database is gone" in caplog.text
