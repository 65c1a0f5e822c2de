from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine, event

from tutelage.runtime.errors import (
    KeysUnavailable,
    OverBudget,
    OverLimit,
    StoreError,
    TutelageError,
)
from tutelage.runtime.gateway.admission import Admission, Reservation
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.store.database import open_engine


def caller(**limits: Any) -> Caller:
    return Caller(**{"tenant": "acme", "key_id": "key_1", **limits})


async def admit(
    admission: Admission, who: Caller, usd: float = 0.0, tokens: int = 0
) -> Reservation:
    return await admission.admit(who, estimate_usd=usd, estimate_tokens=tokens)


async def outcomes(*asked: Coroutine[Any, Any, Any]) -> list[Any]:
    return await asyncio.gather(*asked, return_exceptions=True)


@pytest.fixture
def commits(engine: Engine) -> Iterator[list[object]]:
    seen: list[object] = []

    def note(connection: object) -> None:
        seen.append(connection)

    event.listen(engine, "commit", note)
    yield seen
    event.remove(engine, "commit", note)


class Outage:
    """Refuses statements of an engine while it lasts."""

    def __init__(self, engine: Engine) -> None:
        self.lasts = True
        event.listen(engine, "before_cursor_execute", self._refuse)

    def _refuse(self, *_: Any) -> None:
        if self.lasts:
            raise sqlalchemy.exc.OperationalError("SELECT", {}, Exception("the server is gone"))


async def test_a_caller_without_limits_never_touches_the_database(
    engine: Engine, admission: Admission
) -> None:
    Outage(engine)
    reservation = await admit(admission, caller(), usd=1e6, tokens=10**9)
    await reservation.settle(5.0, 100)
    await reservation.release()
    assert admission.owed == 0


async def test_only_the_first_end_of_a_reservation_counts(admission: Admission) -> None:
    who = caller(budget_usd=1.0)
    reservation = await admit(admission, who, usd=0.5)
    await asyncio.gather(reservation.settle(0.2, 1), reservation.settle(0.2, 1))
    await reservation.release()
    other = await admit(admission, who, usd=0.5)
    await other.release()
    await other.settle(0.5, 1)
    assert (await admission.explain(who)).spent_usd == 0.2


@pytest.mark.parametrize("usd", [-0.01, float("nan"), float("inf")])
async def test_a_sum_that_is_none_is_refused(admission: Admission, usd: float) -> None:
    who = caller(budget_usd=1.0)
    with pytest.raises(ValueError, match="no sum"):
        await admit(admission, who, usd=usd)
    with pytest.raises(ValueError, match="tokens"):
        await admit(admission, who, tokens=-1)
    reservation = await admit(admission, who)
    with pytest.raises(ValueError, match="no sum"):
        await reservation.settle(usd, 1)
    with pytest.raises(ValueError, match="tokens"):
        await reservation.settle(0.0, -1)
    await reservation.settle(0.5, 1)
    assert (await admission.explain(who)).spent_usd == 0.5


async def test_what_comes_together_shares_a_transaction(
    admission: Admission, commits: list[object]
) -> None:
    who = caller(budget_usd=1000.0)
    reservations = await asyncio.gather(*(admit(admission, who, usd=0.5) for _ in range(150)))
    assert len(commits) <= 2
    await asyncio.gather(*(reservation.settle(0.25, 1) for reservation in reservations))
    assert len(commits) <= 4
    assert (await admission.explain(who)).spent_usd == 37.5


async def test_a_budget_is_not_overshot_in_a_race_within_a_worker(admission: Admission) -> None:
    who = caller(budget_usd=1.0)
    results = await outcomes(*(admit(admission, who, usd=0.03) for _ in range(200)))
    admitted = [result for result in results if isinstance(result, Reservation)]
    assert len(admitted) == 33
    assert {type(result) for result in results} == {Reservation, OverBudget}
    await asyncio.gather(*(reservation.settle(0.02, 5) for reservation in admitted))
    standing = await admission.explain(who)
    assert (standing.spent_usd, standing.reserved_usd, standing.in_flight) == (0.66, 0.0, 0)


def race(url: str, requests: int, begin: Any, results: Any, limits: dict[str, Any]) -> None:
    """A worker of its own that asks many times at once, and settles what it got."""

    async def ask() -> int:
        engine = open_engine(url)
        async with Admission(engine) as admission:

            async def serve() -> bool:
                try:
                    reservation = await admit(admission, caller(**limits), usd=0.03, tokens=1)
                except (OverBudget, OverLimit):
                    return False
                await reservation.settle(0.03, 1)
                return True

            begin.wait()
            served = await asyncio.gather(*(serve() for _ in range(requests)))
        engine.dispose()
        return sum(served)

    results.put(asyncio.run(ask()))


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [({"budget_usd": 1.0}, 33), ({"requests_per_minute": 40}, 40), ({"tokens_per_minute": 50}, 50)],
)
def test_no_limit_is_overshot_in_a_200_way_race_of_processes(
    database_url: str, engine: Engine, limits: dict[str, Any], allowed: int
) -> None:
    spawn = multiprocessing.get_context("spawn")
    begin, results = spawn.Barrier(4), spawn.Queue()
    workers = [
        spawn.Process(target=race, args=(database_url, 50, begin, results, limits))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    served = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    # A rate refills a little while the race lasts.
    refilled = 0 if "budget_usd" in limits else 10
    assert allowed <= sum(served) <= allowed + refilled

    async def explain() -> Any:
        async with Admission(engine) as admission:
            return await admission.explain(caller(**limits))

    standing = asyncio.run(explain())
    assert standing.spent_usd == pytest.approx(0.03 * sum(served))
    assert (standing.reserved_usd, standing.in_flight) == (0.0, 0)


async def test_workers_that_admit_several_keys_do_not_wait_for_each_other_for_ever(
    engine: Engine, clock: Any
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(Admission(engine, clock=clock)) for _ in "ab"]
        names = [f"key_{number}" for number in range(8)]

        async def use(worker: Admission, name: str) -> None:
            reservation = await admit(worker, caller(budget_usd=10.0, key_id=name), usd=0.5)
            await reservation.settle(0.5, 1)

        for _ in range(10):
            await asyncio.gather(
                *(use(workers[0], name) for name in names),
                *(use(workers[1], name) for name in reversed(names)),
            )
        for name in names:
            standing = await workers[0].explain(caller(budget_usd=99.0, key_id=name))
            assert (standing.spent_usd, standing.in_flight) == (10.0, 0)


async def test_a_caller_who_leaves_while_waiting_holds_nothing_back(
    engine: Engine, clock: Any
) -> None:
    who = caller(budget_usd=1.0)
    async with Admission(engine, clock=clock) as admission:
        leaving = asyncio.create_task(admit(admission, who, usd=1.0))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        async with asyncio.timeout(30):
            while (await admission.explain(who)).in_flight:  # noqa: ASYNC110 - a row is waited for
                await asyncio.sleep(0)
        assert await admit(admission, who, usd=1.0)


async def test_a_caller_who_leaves_while_settling_is_still_booked(
    engine: Engine, clock: Any
) -> None:
    who = caller(budget_usd=1.0)
    async with Admission(engine, clock=clock) as admission:
        reservation = await admit(admission, who, usd=1.0)
        leaving = asyncio.create_task(reservation.settle(0.5, 1))
        await asyncio.sleep(0)
        leaving.cancel()
    async with Admission(engine, clock=clock) as admission:
        assert (await admission.explain(who)).spent_usd == 0.5


async def test_who_is_waiting_at_the_end_is_still_answered(engine: Engine, clock: Any) -> None:
    admission = Admission(engine, clock=clock)
    asked = [
        asyncio.create_task(admit(admission, caller(budget_usd=1.0), usd=0.5)) for _ in range(3)
    ]
    await asyncio.sleep(0)
    await admission.aclose()
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(result) for result in results] == [Reservation, Reservation, OverBudget]


async def test_nothing_limited_is_served_while_it_cannot_be_counted(
    admission: Admission, engine: Engine, ticks: Any, caplog: pytest.LogCaptureFixture
) -> None:
    who = caller(budget_usd=1.0)
    outage = Outage(engine)
    with caplog.at_level(logging.ERROR):
        results = await outcomes(*(admit(admission, who) for _ in range(5)))
    assert {type(result) for result in results} == {KeysUnavailable}
    assert caplog.text.count("the server is gone") == 1
    with pytest.raises(StoreError):
        await admission.explain(who)
    outage.lasts = False
    with pytest.raises(KeysUnavailable):
        await admit(admission, who)
    ticks.advance(1.0)
    assert await admit(admission, who)


async def test_what_ends_in_an_outage_is_booked_when_the_database_is_back(
    admission: Admission, engine: Engine, eventually: Callable[..., Any]
) -> None:
    who = caller(budget_usd=1.0)
    reservation = await admit(admission, who, usd=0.5)
    outage = Outage(engine)
    await reservation.settle(0.25, 1)
    assert admission.owed == 1
    outage.lasts = False
    await eventually(lambda: admission.owed == 0)
    assert (await admission.explain(who)).spent_usd == 0.25


async def test_what_is_owed_is_booked_at_the_end(engine: Engine, clock: Any) -> None:
    who = caller(budget_usd=1.0)
    async with Admission(engine, clock=clock) as admission:
        reservation = await admit(admission, who, usd=0.5)
        outage = Outage(engine)
        await reservation.settle(0.25, 1)
        outage.lasts = False
    assert admission.owed == 0
    async with Admission(engine, clock=clock) as admission:
        assert (await admission.explain(who)).spent_usd == 0.25


async def test_what_can_not_be_booked_at_the_end_is_said(
    engine: Engine, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with Admission(engine, clock=clock) as admission:
        reservation = await admit(admission, caller(budget_usd=1.0), usd=0.5)
        Outage(engine)
        await reservation.settle(0.25, 1)
    assert "1 requests are not booked" in caplog.text
    with pytest.raises(KeysUnavailable):
        await admit(admission, caller(budget_usd=1.0))


async def test_counting_never_blocks_the_event_loop(
    admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()
    apply = admission._meters.apply

    def noting(operations: Any) -> Any:
        threads.add(threading.current_thread().name)
        return apply(operations)

    monkeypatch.setattr(admission._meters, "apply", noting)
    await (await admit(admission, caller(budget_usd=1.0))).release()
    assert len(threads) == 1
    assert threads.pop().startswith("tutelage-admission")


async def test_a_fault_of_the_counting_itself_leaves_nobody_waiting(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    admission = Admission(engine)

    def broken(_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(admission._meters, "apply", broken)
    with pytest.raises(KeysUnavailable):
        await admit(admission, caller(budget_usd=1.0))
    assert admission._runner is not None
    with pytest.raises(ZeroDivisionError):
        await admission._runner
    await admission.aclose()


async def test_refusals_are_errors_that_a_client_is_told(admission: Admission) -> None:
    results = await outcomes(
        admit(admission, caller(budget_usd=0.0), usd=1.0),
        admit(admission, caller(parallel_requests=1, key_id="key_2")),
        admit(admission, caller(parallel_requests=1, key_id="key_2")),
    )
    refusals = [result for result in results if not isinstance(result, Reservation)]
    assert len(refusals) == 2
    for refusal in refusals:
        assert isinstance(refusal, TutelageError)
        assert "\n" not in str(refusal)
