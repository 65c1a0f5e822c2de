from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from tutelage.runtime.errors import StoreError
from tutelage.runtime.store.spool import Record, Spool
from tutelage.runtime.store.writer import (
    BatchLimits,
    BatchWriter,
    Counters,
    Unreachable,
    Unstorable,
)

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


class ScriptedDatabase:
    """Takes commits; can be gone, refuse a record, or hold a commit back."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.is_gone = False
        self.refused: set[str] = set()
        self.entered = threading.Event()
        self.released = threading.Event()
        self.released.set()

    def __call__(self, records: Sequence[Record], lock_wait_s: float) -> None:
        self.entered.set()
        assert self.released.wait(30)
        if self.is_gone:
            raise Unreachable("database is gone")
        ids = [str(record.body["id"]) for record in records]
        if self.refused & set(ids):
            raise Unstorable(f"refused one of {ids}")
        self.commits.append(ids)

    @property
    def ids(self) -> list[str]:
        return [id for commit in self.commits for id in commit]


class Clock:
    """A clock that is moved by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def record(id: str) -> Record:
    return Record("trace", {"id": id})


@pytest.fixture
def db() -> ScriptedDatabase:
    return ScriptedDatabase()


async def test_appends_made_together_share_commits_of_bounded_size(
    db: ScriptedDatabase, spool: Spool
) -> None:
    writer = BatchWriter(db, spool, limits=BatchLimits(rows=50))
    writer.start()
    await asyncio.gather(*(writer.put(record(str(number))) for number in range(120)))
    await writer.close()
    assert [len(commit) for commit in db.commits] == [50, 50, 20]
    assert db.ids == [str(number) for number in range(120)]


async def test_a_lone_append_does_not_wait_for_company(db: ScriptedDatabase, spool: Spool) -> None:
    writer = BatchWriter(db, spool, limits=BatchLimits(wait_s=3600.0))
    writer.start()
    async with asyncio.timeout(30):
        await writer.put(record("a"))
    assert db.commits == [["a"]]
    await writer.close()


async def test_appends_that_keep_coming_are_not_waited_for_beyond_the_limit(
    db: ScriptedDatabase, spool: Spool
) -> None:
    writer = BatchWriter(db, spool, limits=BatchLimits(wait_s=0.0, rows=10**6))
    writer.start()
    await asyncio.gather(*(writer.put(record(str(number))) for number in range(10)))
    await writer.close()
    assert sorted(db.ids) == sorted(str(number) for number in range(10))


async def test_the_loop_runs_on_while_a_commit_blocks(db: ScriptedDatabase, spool: Spool) -> None:
    writer = BatchWriter(db, spool)
    writer.start()
    db.released.clear()
    append = asyncio.create_task(writer.put(record("a")))
    async with asyncio.timeout(30):
        while not db.entered.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0)
    assert not append.done()
    db.released.set()
    await append
    await writer.close()


async def test_a_full_queue_makes_an_append_wait_and_then_fail(
    db: ScriptedDatabase, spool: Spool
) -> None:
    limits = BatchLimits(rows=1, queue_rows=2, queue_wait_s=0.01)
    writer = BatchWriter(db, spool, limits=limits)
    writer.start()
    db.released.clear()
    waiting = [asyncio.create_task(writer.put(record(id))) for id in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="2 records wait"):
        await writer.put(record("c"))
    db.released.set()
    await asyncio.gather(*waiting)
    await writer.put(record("d"))
    await writer.close()
    assert db.ids == ["a", "b", "d"]
    assert writer.counters == Counters(stored=3, spooled=0, failed=1)


async def test_a_place_that_becomes_free_is_taken(db: ScriptedDatabase, spool: Spool) -> None:
    writer = BatchWriter(db, spool, limits=BatchLimits(rows=3, queue_rows=2, queue_wait_s=30.0))
    writer.start()
    await asyncio.gather(*(writer.put(record(str(number))) for number in range(25)))
    await writer.close()
    assert db.ids == [str(number) for number in range(25)]


async def test_an_append_that_waits_for_a_place_when_the_store_closes_fails(
    db: ScriptedDatabase, spool: Spool
) -> None:
    writer = BatchWriter(db, spool, limits=BatchLimits(queue_rows=1, queue_wait_s=30.0))
    writer.start()
    db.released.clear()
    first = asyncio.create_task(writer.put(record("a")))
    await asyncio.sleep(0)
    late = asyncio.create_task(writer.put(record("b")))
    await asyncio.sleep(0)
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    db.released.set()
    with pytest.raises(StoreError, match="closed"):
        await late
    await asyncio.gather(first, closing)
    assert db.ids == ["a"]


async def test_a_caller_that_is_cancelled_leaves_its_record_to_be_written(
    db: ScriptedDatabase, spool: Spool
) -> None:
    writer = BatchWriter(db, spool)
    writer.start()
    db.released.clear()
    append = asyncio.create_task(writer.put(record("a")))
    await asyncio.sleep(0)
    append.cancel()
    with pytest.raises(asyncio.CancelledError):
        await append
    db.released.set()
    await writer.put(record("b"))
    await writer.close()
    assert db.ids == ["a", "b"]


async def test_closing_writes_all_that_waits(db: ScriptedDatabase, spool: Spool) -> None:
    writer = BatchWriter(db, spool, limits=BatchLimits(rows=2))
    writer.start()
    appends = [asyncio.create_task(writer.put(record(str(number)))) for number in range(7)]
    await asyncio.sleep(0)
    await writer.close()
    await asyncio.gather(*appends)
    assert len(db.ids) == 7
    with pytest.raises(StoreError, match="closed"):
        await writer.put(record("late"))


async def test_a_writer_that_was_never_started_refuses(db: ScriptedDatabase, spool: Spool) -> None:
    writer = BatchWriter(db, spool)
    with pytest.raises(StoreError, match="async with"):
        await writer.put(record("a"))
    await writer.close()


async def test_a_writer_that_is_torn_down_leaves_nobody_waiting(
    db: ScriptedDatabase, spool: Spool
) -> None:
    writer = BatchWriter(db, spool, limits=BatchLimits(rows=1))
    writer.start()
    db.released.clear()
    appends = [asyncio.create_task(writer.put(record(id))) for id in "abc"]
    async with asyncio.timeout(30):
        while not db.entered.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0)
    task = next(task for task in asyncio.all_tasks() if task.get_name() == "tutelage-store-writer")
    task.cancel()
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    assert all(isinstance(outcome, StoreError) for outcome in outcomes)
    db.released.set()
    with pytest.raises(asyncio.CancelledError):
        await writer.close()


async def test_a_refused_record_fails_alone(db: ScriptedDatabase, spool: Spool) -> None:
    db.refused = {"b"}
    writer = BatchWriter(db, spool)
    writer.start()
    outcomes = await asyncio.gather(
        *(writer.put(record(id)) for id in "abc"), return_exceptions=True
    )
    await writer.close()
    assert [type(outcome) for outcome in outcomes] == [type(None), Unstorable, type(None)]
    assert db.ids == ["a", "c"]
    assert writer.counters == Counters(stored=2, spooled=0, failed=1)
    assert not spool.is_pending


async def test_records_are_spooled_while_the_database_is_gone_and_drained_in_order(
    db: ScriptedDatabase, spool: Spool, eventually: Eventually
) -> None:
    clock = Clock()
    writer = BatchWriter(db, spool, clock=clock, limits=BatchLimits(retry_s=0.01))
    writer.start()
    await writer.put(record("a"))
    db.is_gone = True
    for id in "bcd":
        await writer.put(record(id))
    assert writer.counters == Counters(stored=1, spooled=3, failed=0)
    db.is_gone = False
    await writer.put(record("e"))
    assert db.ids == ["a"], "before the pause is over, what is new queues behind what is spooled"
    clock.now_s += 60.0
    await eventually(lambda: not spool.is_pending)
    await writer.put(record("f"))
    await writer.close()
    assert db.ids == list("abcdef")
    assert writer.counters == Counters(stored=6, spooled=4, failed=0)


async def test_pauses_between_tries_grow(db: ScriptedDatabase, spool: Spool) -> None:
    clock = Clock()
    writer = BatchWriter(db, spool, clock=clock, limits=BatchLimits(retry_s=1.0))
    writer.start()
    db.is_gone = True
    tries = []
    for second in range(40):
        clock.now_s = float(second)
        db.entered.clear()
        await writer.put(record(f"r{second}"))
        # A second record returns after the try that followed the first.
        await writer.put(record(f"s{second}"))
        if db.entered.is_set():
            tries.append(second)
    db.is_gone = False
    await writer.close()
    assert tries == [0, 1, 3, 7, 15, 30]
    assert len(db.ids) == 80


async def test_what_a_dead_process_spooled_is_drained_before_new_records(
    db: ScriptedDatabase, spool: Spool
) -> None:
    Spool(spool.path).append([record(str(number)) for number in range(1200)])
    writer = BatchWriter(db, spool)
    await writer.drain(60.0)
    assert len(db.ids) == 1200
    writer.start()
    await writer.put(record("new"))
    await writer.close()
    assert db.ids == [*(str(number) for number in range(1200)), "new"]


async def test_a_long_spool_is_drained_beside_new_records_and_order_is_kept(
    db: ScriptedDatabase, spool: Spool
) -> None:
    Spool(spool.path).append([record(str(number)) for number in range(1200)])
    writer = BatchWriter(db, spool)
    writer.start()
    for number in range(1200, 1210):
        await writer.put(record(str(number)))
    await writer.close()
    assert db.ids == [str(number) for number in range(1210)]


async def test_a_refused_record_does_not_block_the_spool(
    db: ScriptedDatabase, spool: Spool
) -> None:
    Spool(spool.path).append([record(id) for id in "abc"])
    db.refused = {"b"}
    writer = BatchWriter(db, spool)
    await writer.drain(60.0)
    writer.start()
    await writer.close()
    assert db.ids == ["a", "c"]
    assert not spool.is_pending
    assert writer.counters.failed == 1
    assert b'"b"' in spool.path.with_name(spool.path.name + ".rejected").read_bytes()


async def test_a_full_spool_fails_the_append_and_counts_it(
    db: ScriptedDatabase, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "s", max_bytes=150)
    writer = BatchWriter(db, spool)
    writer.start()
    db.is_gone = True
    outcomes = await asyncio.gather(
        *(writer.put(record(str(number))) for number in range(10)), return_exceptions=True
    )
    errors = [outcome for outcome in outcomes if outcome is not None]
    assert 0 < len(errors) < 10
    assert "is full" in str(errors[0])
    assert writer.counters == Counters(stored=0, spooled=10 - len(errors), failed=len(errors))
    assert spool.dropped == len(errors)
    db.is_gone = False
    await writer.close()
    assert db.ids == [str(number) for number in range(10 - len(errors))]


async def test_without_room_in_the_spool_new_records_go_to_a_database_that_is_back(
    db: ScriptedDatabase, tmp_path: Path
) -> None:
    Spool(tmp_path / "s").append([record(str(number)) for number in range(3)])
    writer = BatchWriter(db, Spool(tmp_path / "s", max_bytes=100))
    writer.start()
    await writer.put(record("new"))
    assert "new" in db.ids
    await writer.close()
    assert sorted(db.ids) == ["0", "1", "2", "new"]


async def test_without_room_in_the_spool_and_without_database_an_append_fails(
    db: ScriptedDatabase, tmp_path: Path
) -> None:
    Spool(tmp_path / "s").append([record(str(number)) for number in range(3)])
    db.is_gone = True
    writer = BatchWriter(db, Spool(tmp_path / "s", max_bytes=100))
    writer.start()
    with pytest.raises(StoreError, match="is full"):
        await writer.put(record("new"))
    await writer.close()
    assert writer.counters.failed == 1


async def test_a_spool_that_cannot_be_read_does_not_stop_the_database(
    db: ScriptedDatabase, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    spool.path.parent.mkdir()
    spool.path.write_text("a user's notes, longer than the header of a spool")
    writer = BatchWriter(db, spool)
    with pytest.raises(StoreError, match="another path"):
        await writer.drain(60.0)
    writer.start()
    await writer.put(record("a"))
    await writer.put(record("b"))
    await writer.close()
    assert db.ids == ["a", "b"]
    assert "another path" in caplog.text


async def test_a_record_that_is_posted_is_written_and_its_owner_told(
    db: ScriptedDatabase, spool: Spool
) -> None:
    db.refused = {"b"}
    told: dict[str, StoreError | None] = {}
    writer = BatchWriter(db, spool)
    writer.start()
    for id in "abc":
        assert writer.post(record(id), partial(told.__setitem__, id))
    assert not told
    await writer.close()
    assert db.ids == ["a", "c"]
    assert {id: type(outcome) for id, outcome in told.items()} == {
        "a": type(None),
        "b": Unstorable,
        "c": type(None),
    }


async def test_more_than_may_wait_are_not_posted(db: ScriptedDatabase, spool: Spool) -> None:
    told: list[StoreError | None] = []
    writer = BatchWriter(db, spool, limits=BatchLimits(queue_rows=2))
    writer.start()
    assert [writer.post(record(id), told.append) for id in "abc"] == [True, True, False]
    await writer.put(record("d"))
    assert writer.post(record("e"), told.append)
    await writer.close()
    assert db.ids == ["a", "b", "d", "e"]
    assert told == [None, None, None]


async def test_nothing_is_posted_to_a_writer_that_is_closed(
    db: ScriptedDatabase, spool: Spool
) -> None:
    writer = BatchWriter(db, spool)
    with pytest.raises(StoreError, match="async with"):
        writer.post(record("a"), lambda _: None)
    writer.start()
    await writer.close()
    with pytest.raises(StoreError, match="closed"):
        writer.post(record("b"), lambda _: None)
    assert db.ids == []
