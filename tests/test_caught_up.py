from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.made_releases import Clock

from tutelage.caught_up import CaughtUp
from tutelage.runtime.errors import StoreError
from tutelage.runtime.types import Retrieved, Step


class Nothing:
    async def search(self, step: Step) -> Sequence[Retrieved]:
        return ()


class Looks:
    def __init__(self, error: Exception | None = None) -> None:
        self.tenants: list[str] = []
        self.error = error
        self.done = asyncio.Event()
        self.done.set()

    async def __call__(self, tenant: str) -> bool:
        self.tenants.append(tenant)
        await self.done.wait()
        if self.error is not None:
            raise self.error
        return False


def step(tenant: str = "acme") -> Step:
    return Step(tenant=tenant, episode_id="e", index=0, goal="g", observation="o")


async def settled(made: CaughtUp) -> None:
    async with asyncio.timeout(5):
        await asyncio.gather(*made._looking.values())


async def test_changes_are_looked_for_at_an_interval_and_by_tenant() -> None:
    clock, looks = Clock(), Looks()
    made = CaughtUp(Nothing(), looks, 5.0, clock)
    for tenant in ("acme", "acme", "other"):
        assert await made.search(step(tenant)) == ()
        await settled(made)
    assert looks.tenants == ["acme", "other"]
    clock.now_s += 5
    await made.search(step())
    await settled(made)
    assert looks.tenants == ["acme", "other", "acme"]


async def test_a_search_waits_for_no_look_and_none_is_begun_twice() -> None:
    clock, looks = Clock(), Looks()
    looks.done.clear()
    made = CaughtUp(Nothing(), looks, 5.0, clock)
    for _ in range(3):
        assert await made.search(step()) == ()
        clock.now_s += 60
        await asyncio.sleep(0)
    assert looks.tenants == ["acme"]
    await made.aclose()
    assert made._looking == {}


async def test_a_look_that_fails_is_told_and_fails_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = CaughtUp(Nothing(), Looks(StoreError("gone")), 5.0, Clock())
    assert await made.search(step()) == ()
    await settled(made)
    assert "demonstrations are not known anew" in caplog.text
