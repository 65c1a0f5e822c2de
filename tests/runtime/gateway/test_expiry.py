"""What is too old is deleted about once an hour, and failing at it hurts nobody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from tests.served_gateway import Served, World, call, until

from tutelage.runtime.errors import StoreError
from tutelage.runtime.gateway.conversation_store import SqlConversationStore
from tutelage.runtime.gateway.expiry import PERIOD_S, Expiry
from tutelage.runtime.gateway.stored_responses import StoredResponses
from tutelage.runtime.store.schema import conversations, responses

DAY_S = 86_400.0


class Waits:
    """Takes the place of sleeping: the test says when a wait is over."""

    def __init__(self) -> None:
        self.asked_s: list[float] = []
        self._over = asyncio.Semaphore(0)
        self._begun = asyncio.Condition()

    async def __call__(self, seconds: float) -> None:
        async with self._begun:
            self.asked_s.append(seconds)
            self._begun.notify_all()
        await self._over.acquire()

    async def go_on(self) -> None:
        """Ends the wait, and returns when the next one has begun."""
        count = len(self.asked_s)
        self._over.release()
        await self.begun(count + 1)

    async def begun(self, count: int) -> None:
        async with asyncio.timeout(10), self._begun:
            await self._begun.wait_for(lambda: len(self.asked_s) >= count)


class Table:
    """Rows that are too old, or an error."""

    def __init__(self, rows: int = 0) -> None:
        self.rows = rows
        self.calls = 0
        self.error: Exception | None = None

    async def delete(self, limit: int) -> int:
        self.calls += 1
        if self.error is not None:
            raise self.error
        gone = min(limit, self.rows)
        self.rows -= gone
        return gone


@pytest.fixture
async def waits() -> Waits:
    return Waits()


Start = Callable[..., Expiry]


@pytest.fixture
async def start(waits: Waits) -> AsyncIterator[Start]:
    made: list[Expiry] = []

    def begin(*deletions: Any, seed: int = 1) -> Expiry:
        made.append(Expiry(deletions, random=Random(seed), sleep=waits))
        made[-1].start()
        return made[-1]

    yield begin
    for one in made:
        await one.aclose()


async def test_tables_are_looked_at_about_once_an_hour(start: Start, waits: Waits) -> None:
    first, second = Table(3), Table()
    start(first.delete, second.delete)
    await waits.begun(1)
    assert (first.calls, second.calls) == (0, 0)
    for _ in range(5):
        await waits.go_on()
    assert (first.calls, second.calls) == (5, 5)
    assert first.rows == 0
    assert 0 <= waits.asked_s[0] <= PERIOD_S
    assert all(PERIOD_S / 2 <= seconds <= PERIOD_S * 1.5 for seconds in waits.asked_s[1:])
    assert len(set(waits.asked_s)) == 6


async def test_workers_that_start_together_do_not_delete_together(waits: Waits) -> None:
    made = [Expiry([Table().delete], random=Random(seed), sleep=waits) for seed in range(20)]
    for one in made:
        one.start()
    await waits.begun(20)
    for one in made:
        await one.aclose()
    assert len({round(seconds / 10) for seconds in waits.asked_s}) > 10


async def test_many_rows_are_deleted_a_few_at_a_time(start: Start, waits: Waits) -> None:
    table = Table(1200)
    start(table.delete)
    await waits.begun(1)
    left = []
    for _ in range(3):
        await waits.go_on()
        left.append(table.rows)
    assert left == [700, 200, 0]
    assert waits.asked_s[1:3] == [pytest.approx(0.05)] * 2
    assert waits.asked_s[3] >= PERIOD_S / 2


async def test_a_database_that_is_gone_is_told_once_and_tried_again(
    start: Start, waits: Waits, caplog: pytest.LogCaptureFixture
) -> None:
    table = Table(1)
    table.error = StoreError("the database is gone")
    start(table.delete)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await waits.go_on()
        told = [record.getMessage() for record in caplog.records]
        table.error = None
        await waits.go_on()
        assert table.rows == 0
        table.error = StoreError("it is gone again")
        await waits.go_on()
    assert told == ["what is too old is not deleted, it is tried again: the database is gone"]
    assert len(caplog.records) == 2


async def test_a_mistake_of_ours_ends_it_and_nothing_else(
    start: Start, waits: Waits, caplog: pytest.LogCaptureFixture
) -> None:
    table = Table()
    table.error = ZeroDivisionError("the password is tulip")
    expiry = start(table.delete)
    await waits.begun(1)
    with caplog.at_level(logging.ERROR):
        waits._over.release()
        await until(lambda: bool(caplog.records))
    assert caplog.messages == ["what is too old is not deleted any more: ZeroDivisionError"]
    await expiry.aclose()


async def test_what_never_began_can_be_ended() -> None:
    expiry = Expiry([], random=Random(1))
    await expiry.aclose()
    expiry.start()
    await expiry.aclose()
    await expiry.aclose()


async def rows(engine: Engine) -> tuple[int, int]:
    def count() -> tuple[int, int]:
        with engine.connect() as connection:
            found = [
                connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (conversations, responses)
            ]
        return found[0], found[1]

    return await asyncio.to_thread(count)


async def test_conversations_and_responses_end_when_their_time_is_over(
    engine: Engine, clock: Any, start: Start, waits: Waits
) -> None:
    async def in_thread(function: Any, /) -> Any:
        return await asyncio.to_thread(function)

    known = SqlConversationStore(engine, clock=clock)
    kept = StoredResponses(engine, in_thread, clock=clock, lifetime_s=20 * DAY_S)

    def forget(limit: int) -> Any:
        return known.forget(clock() - 10 * DAY_S, limit)

    start(forget, kept.prune)
    await waits.begun(1)
    for day in range(3):
        await known.save("acme", f"{day:064x}", "e")
        await kept.put("acme", {"id": f"resp_tut_{day}", "output": []}, [])
        clock.advance(DAY_S)
    await waits.go_on()
    assert await rows(engine) == (3, 3)
    clock.advance(7.5 * DAY_S)
    await waits.go_on()
    assert await rows(engine) == (2, 3)
    clock.advance(10 * DAY_S)
    await waits.go_on()
    assert await rows(engine) == (0, 2)
    clock.advance(10 * DAY_S)
    await waits.go_on()
    assert await rows(engine) == (0, 0)
    await known.aclose()


async def test_two_workers_delete_the_same_rows_without_a_quarrel(
    engine: Engine, clock: Any
) -> None:
    stores = [SqlConversationStore(engine, clock=clock) for _ in range(3)]
    await asyncio.gather(*(stores[0].save("acme", f"{n:064x}", "e") for n in range(300)))
    gone = 0
    while counts := await asyncio.gather(*(one.forget(clock() + 1, 20) for one in stores)):
        gone += sum(counts)
        if not any(counts):
            break
    assert gone == 300
    assert (await rows(engine))[0] == 0
    for store in stores:
        await store.aclose()


# In the gateway.


async def test_a_gateway_deletes_what_is_over_and_stops_with_its_parts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = {"gateway.conversations_days": 1, "gateway.responses_days": 2, "gateway.workers": 2}
    began: list[Expiry] = []
    monkeypatch.setattr(Expiry, "start", lambda self: began.append(self))
    now_s = 1_800_000_000.0
    monkeypatch.setattr("tutelage.serving.time.time", lambda: now_s)
    async with world.serve(days) as served:
        (expiry,) = began
        assert (await served.ask("responses", call("responses", "cascade"))).status == 200
        await served.idle()
        (engine,) = {served.gateway.parts.responses._engine}
        await until_rows(engine, (1, 1))
        for forward_s, left in ((0.9 * DAY_S, (1, 1)), (DAY_S, (0, 1)), (DAY_S, (0, 0))):
            now_s += forward_s
            await expiry._delete()
            assert await rows(engine) == left


async def until_rows(engine: Engine, wanted: tuple[int, int]) -> None:
    async with asyncio.timeout(10):
        while await rows(engine) != wanted:  # noqa: ASYNC110 - it is written by a thread
            await asyncio.sleep(0.01)


async def test_a_closed_gateway_leaves_no_task(served: Served, world: World) -> None:
    async with world.serve() as other:
        parts = other.gateway.parts
        waiting = [task for task in asyncio.all_tasks() if task.get_name() == "tutelage-expiry"]
        assert len(waiting) == 2
    await parts.aclose()
    waiting = [task for task in asyncio.all_tasks() if task.get_name() == "tutelage-expiry"]
    assert len(waiting) == 1
    assert served.gateway.parts is not parts
