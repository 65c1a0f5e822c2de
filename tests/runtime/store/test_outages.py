from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from tutelage.runtime.errors import SchemaTooNew, StoreError
from tutelage.runtime.store.database import begin_write, migrate, open_engine
from tutelage.runtime.store.spool import Record, Spool
from tutelage.runtime.store.traces import SqlTraceStore
from tutelage.runtime.store.writer import BatchLimits
from tutelage.runtime.types import EpisodeRecord, Trace

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
MakeTrace = Callable[..., Trace]
MakeEpisode = Callable[..., EpisodeRecord]

HASTY = BatchLimits(lock_wait_s=0.05, retry_s=0.01)
HOLD_THE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_by_another_process(database: Path) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield
        process.communicate()


def put_folder_in_place_of(database: Path) -> None:
    if database.exists():
        database.rename(database.with_name("hidden"))
    database.mkdir(parents=True)


def put_back(database: Path) -> None:
    database.rmdir()
    if database.with_name("hidden").exists():
        database.with_name("hidden").rename(database)


def damage(database: Path) -> None:
    database.parent.mkdir()
    database.write_bytes(b"not a database" * 1000)


def remove(database: Path) -> None:
    for path in database.parent.glob(database.name + "*"):
        path.unlink()


async def test_a_folder_in_place_of_the_file_spools_until_it_is_gone(
    url: str, database: Path, spool: Spool, make_trace: MakeTrace, eventually: Eventually
) -> None:
    async with SqlTraceStore(url, spool=spool, limits=HASTY) as store:
        await store.append(make_trace("t0"))
        put_folder_in_place_of(database)
        for number in (1, 2, 3):
            await store.append(make_trace(f"t{number}"))
        assert store.counters.spooled == 3
        with pytest.raises(StoreError, match="database"):
            await store.traces("acme")
        put_back(database)
        await eventually(lambda: not spool.is_pending)
        found = await store.traces("acme", newest_first=False)
    assert [trace.id for trace in found] == ["t0", "t1", "t2", "t3"]


async def test_a_file_removed_under_the_store_is_made_anew_and_nothing_goes_to_the_dead_file(
    url: str, database: Path, spool: Spool, make_trace: MakeTrace
) -> None:
    async with SqlTraceStore(url, spool=spool, limits=HASTY) as store:
        await store.append(make_trace("t0"))
        remove(database)
        await store.append(make_trace("t1"))
        assert [trace.id for trace in await store.traces("acme")] == ["t1"]
        remove(database)
        assert await store.traces("acme") == []
        await store.append(make_trace("t2"))
    async with SqlTraceStore(url, spool=spool) as store:
        assert [trace.id for trace in await store.traces("acme")] == ["t2"]


async def test_a_file_removed_during_a_commit_is_noticed_before_the_append_returns(
    url: str, database: Path, spool: Spool, make_trace: MakeTrace, eventually: Eventually
) -> None:
    engine = open_engine(url)
    async with SqlTraceStore(engine, spool=spool, limits=HASTY) as store:
        await store.append(make_trace("t0"))

        def remove_first(_: object) -> None:
            if not store.counters.spooled:
                remove(database)

        event.listen(engine, "commit", remove_first)
        await store.append(make_trace("t1"))
        assert store.counters.spooled == 1
        await eventually(lambda: not spool.is_pending)
        assert [trace.id for trace in await store.traces("acme")] == ["t1"]
    engine.dispose()


async def test_a_database_locked_by_another_process_spools_until_it_is_free(
    url: str,
    database: Path,
    spool: Spool,
    make_trace: MakeTrace,
    make_episode: MakeEpisode,
    eventually: Eventually,
) -> None:
    async with SqlTraceStore(url, spool=spool, limits=HASTY) as store:
        await store.append(make_trace("t0"))
        with locked_by_another_process(database):
            for number in (1, 2):
                await store.append(make_trace(f"t{number}"))
            await store.record_episode(make_episode(goal="tidy up"))
            await store.record_episode(make_episode(success=True))
            await store.append(make_trace("t1", answer="a repeat"))
            assert store.counters.spooled == 5
            assert len(await store.traces("acme")) == 1, "readers are not locked out"
        await eventually(lambda: not spool.is_pending)
        found = await store.traces("acme", newest_first=False)
        assert await store.episode("acme", "e1") == make_episode(goal="tidy up", success=True)
    assert [trace.id for trace in found] == ["t0", "t1", "t2"]
    assert {trace.answer for trace in found} == {"go to shelf 1"}


async def test_a_full_disk_spools_until_there_is_room(
    url: str, spool: Spool, make_trace: MakeTrace, eventually: Eventually
) -> None:
    engine = open_engine(url)
    migrate(engine)
    with engine.connect() as connection:
        empty = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    engine.dispose()

    # Room for some of the traces, of three or four pages each.
    pages = [empty + 20]

    def limit_pages(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages[0]}")

    event.listen(engine, "connect", limit_pages)
    async with SqlTraceStore(engine, spool=spool, limits=HASTY) as store:
        for number in range(20):
            await store.append(make_trace(f"t{number}", answer="x" * 10_000))
        assert store.counters.failed == 0
        assert 0 < store.counters.spooled < 20
        pages[0] = 10**6
        await eventually(lambda: not spool.is_pending)
        assert len(await store.traces("acme")) == 20
    engine.dispose()


async def test_a_store_whose_database_is_gone_at_the_start_opens_and_spools(
    url: str, database: Path, spool: Spool, make_trace: MakeTrace
) -> None:
    put_folder_in_place_of(database)
    async with SqlTraceStore(url, spool=spool) as store:
        await store.append(make_trace("t0"))
        assert store.counters.spooled == 1
    assert spool.is_pending
    put_back(database)
    async with SqlTraceStore(url, spool=spool) as store:
        assert not spool.is_pending
        assert [trace.id for trace in await store.traces("acme")] == ["t0"]


async def test_a_damaged_database_spools_and_says_so(
    url: str, database: Path, spool: Spool, make_trace: MakeTrace, caplog: pytest.LogCaptureFixture
) -> None:
    damage(database)
    async with SqlTraceStore(url, spool=spool) as store:
        await store.append(make_trace())
        assert store.counters.spooled == 1
    assert "not a database" in caplog.text


async def test_a_database_that_a_newer_release_took_over_is_not_written(
    url: str, database: Path, spool: Spool, make_trace: MakeTrace
) -> None:
    async with SqlTraceStore(url, spool=spool, limits=HASTY) as store:
        await store.append(make_trace("t0"))
        remove(database)
        engine = open_engine(url)
        migrate(engine)
        with begin_write(engine) as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        engine.dispose()
        await store.append(make_trace("t1"))
        assert store.counters.spooled == 1
        with pytest.raises(SchemaTooNew):
            await store.traces("acme")


@pytest.mark.parametrize(
    "foreign",
    [
        Record("trace", {"id": "t0", "tenant": "acme"}),
        Record("episode", {"id": "e0", "goal": None}),
        Record(
            "episode",
            {
                **EpisodeRecord(id="e0", tenant="acme", created_at_s=1.0).model_dump(),
                "success": "maybe",
            },
        ),
    ],
    ids=["trace without fields", "episode without fields", "value of another type"],
)
async def test_a_spooled_record_of_another_release_is_set_aside(
    url: str, spool: Spool, make_trace: MakeTrace, foreign: Record
) -> None:
    good = Record("trace", make_trace().model_dump(mode="json"))
    Spool(spool.path).append([foreign, good])
    async with SqlTraceStore(url, spool=spool) as store:
        assert [trace.id for trace in await store.traces("acme")] == ["t1"]
        assert store.counters.failed == 1
    assert not spool.is_pending
    assert spool.path.with_name(spool.path.name + ".rejected").stat().st_size > 0


async def test_a_table_that_is_gone_is_an_error_for_readers_and_spools_for_writers(
    url: str, spool: Spool, make_trace: MakeTrace
) -> None:
    engine = open_engine(url)
    async with SqlTraceStore(engine, spool=spool, limits=HASTY) as store:
        with begin_write(engine) as connection:
            connection.exec_driver_sql("DROP TABLE traces")
        with pytest.raises(StoreError, match="cannot be read: no such table"):
            await store.traces("acme")
        await store.append(make_trace())
        assert store.counters.spooled == 1
    engine.dispose()


async def test_the_text_of_an_error_holds_nothing_of_the_trace(
    url: str, database: Path, spool: Spool, make_trace: MakeTrace, caplog: pytest.LogCaptureFixture
) -> None:
    async with SqlTraceStore(url, spool=spool, limits=HASTY) as store:
        await store.append(make_trace("t0"))
        with locked_by_another_process(database):
            await store.append(make_trace("t1", answer="private words"))
    assert "database is locked" in caplog.text
    assert "private words" not in caplog.text
