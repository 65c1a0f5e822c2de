"""What the database promises, on a real PostgreSQL server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, select
from tests.postgres import PostgresServer

from tutelage.runtime.errors import KeysUnavailable, OverBudget, SchemaTooNew, StoreError
from tutelage.runtime.gateway.admission import Admission
from tutelage.runtime.gateway.conversation_store import SqlConversationStore
from tutelage.runtime.gateway.key_store import Operator
from tutelage.runtime.gateway.keyring import Keyring
from tutelage.runtime.gateway.keys import Pepper, new_key_text
from tutelage.runtime.gateway.orders import KeyOrder
from tutelage.runtime.gateway.stored_responses import StoredResponses
from tutelage.runtime.secret import Secret
from tutelage.runtime.store import schema
from tutelage.runtime.store.database import begin_write, file_identity, migrate, open_engine
from tutelage.runtime.store.spool import Spool
from tutelage.runtime.store.traces import SqlTraceStore
from tutelage.runtime.store.writer import BatchLimits
from tutelage.runtime.types import EpisodeRecord, Trace

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
MakeTrace = Callable[..., Trace]
MakeEpisode = Callable[..., EpisodeRecord]

ROOT = Operator("root")
PEPPER = Pepper(Secret("a pepper of the tests, long enough"))


@pytest.fixture
def url(postgres_url: str) -> str:
    return postgres_url


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    made = open_engine(url)
    migrate(made)
    yield made
    made.dispose()


@contextmanager
def stopped(server: PostgresServer) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


def alembic(engine: Engine, verb: Callable[[Config, str], None], revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", "tutelage.runtime.store:migrations")
    with begin_write(engine) as connection:
        config.attributes["connection"] = connection
        verb(config, revision)


def test_the_server_is_a_real_one(engine: Engine) -> None:
    with engine.connect() as connection:
        version = connection.exec_driver_sql("SHOW server_version").scalar()
    assert str(version).startswith("18")
    assert file_identity(engine) == (0, 0)


def test_the_migrated_schema_is_the_declared_one(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


def test_revisions_can_be_taken_back_and_keep_what_older_ones_hold(engine: Engine) -> None:
    with begin_write(engine) as connection:
        connection.execute(schema.episodes.insert().values(tenant="a", id="e", created_at_s=1.0))
    alembic(engine, command.downgrade, "0001")
    assert "keys" not in inspect(engine).get_table_names()
    migrate(engine)
    assert set(schema.metadata.tables) < set(inspect(engine).get_table_names())
    with engine.connect() as connection:
        assert connection.execute(select(schema.episodes.c.id)).scalars().all() == ["e"]
    alembic(engine, command.downgrade, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]


def test_workers_that_migrate_together_all_succeed(url: str) -> None:
    problems: list[StoreError] = []
    start = threading.Barrier(4)

    def migrate_once() -> None:
        engine = open_engine(url)
        start.wait()
        try:
            migrate(engine)
        except StoreError as error:
            problems.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=migrate_once) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


async def test_a_database_of_a_newer_release_is_refused(
    url: str, engine: Engine, spool: Spool
) -> None:
    with begin_write(engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew):
        async with SqlTraceStore(url, spool=spool):
            pass


async def test_traces_come_back_as_they_were_to_their_tenant_only(
    url: str, spool: Spool, make_trace: MakeTrace, make_episode: MakeEpisode
) -> None:
    async with SqlTraceStore(url, spool=spool) as store:
        for tenant in ("a", "b"):
            await store.append(make_trace(tenant=tenant, answer=f"of {tenant}"))
            await store.record_episode(make_episode(tenant=tenant, goal="a\0b"))
    async with SqlTraceStore(url, spool=spool) as store:
        for tenant in ("a", "b"):
            assert await store.traces(tenant) == [make_trace(tenant=tenant, answer=f"of {tenant}")]
            episode = await store.episode(tenant, "e1")
            assert episode is not None
            assert episode.goal == "a\ufffdb"
        assert await store.traces("a:b") == []
    assert not spool.is_pending


async def test_appends_are_grouped_and_idempotent(
    url: str, spool: Spool, make_trace: MakeTrace, make_episode: MakeEpisode
) -> None:
    async with SqlTraceStore(url, spool=spool) as store:
        await asyncio.gather(
            *(store.append(make_trace(f"t{number % 100}")) for number in range(200)),
            *(store.record_episode(make_episode(reward=float(number))) for number in range(30)),
        )
        assert len(await store.traces("acme", limit=1000)) == 100
        episode = await store.episode("acme", "e1")
        assert store.counters.failed == 0
    assert episode is not None
    assert episode.reward == 29.0


async def test_an_episode_keeps_what_an_update_leaves_out(
    url: str, spool: Spool, make_episode: MakeEpisode
) -> None:
    async with SqlTraceStore(url, spool=spool) as store:
        await store.record_episode(make_episode(goal="tidy up", task_id="g1"))
        await store.record_episode(make_episode(success=True, created_at_s=2000.0))
        assert await store.episode("acme", "e1") == make_episode(
            goal="tidy up", task_id="g1", success=True
        )


async def test_a_record_the_server_refuses_fails_alone(
    url: str, spool: Spool, make_trace: MakeTrace
) -> None:
    too_large = make_trace("bad").model_copy(update={"step_index": 2**40})
    async with SqlTraceStore(url, spool=spool) as store:
        outcomes = await asyncio.gather(
            store.append(make_trace("a")),
            store.append(too_large),
            store.append(make_trace("b")),
            return_exceptions=True,
        )
        assert [isinstance(outcome, StoreError) for outcome in outcomes] == [False, True, False]
        assert len(await store.traces("acme")) == 2


async def test_traces_of_an_outage_are_spooled_and_drained_in_order(
    url: str,
    spool: Spool,
    postgres: PostgresServer,
    make_trace: MakeTrace,
    eventually: Eventually,
) -> None:
    limits = BatchLimits(lock_wait_s=0.05, retry_s=0.01)
    async with SqlTraceStore(url, spool=spool, limits=limits) as store:
        await store.append(make_trace("before"))
        with stopped(postgres):
            for number in range(3):
                await store.append(make_trace(f"t{number}", created_at_s=2000.0 + number))
            assert store.counters.spooled == 3
            with pytest.raises(StoreError):
                await store.traces("acme")
        await eventually(lambda: not spool.is_pending)
        found = [trace.id for trace in await store.traces("acme", newest_first=False)]
    assert found == ["before", "t0", "t1", "t2"]


async def test_a_server_that_is_down_at_the_start_is_found_later(
    url: str,
    spool: Spool,
    postgres: PostgresServer,
    make_trace: MakeTrace,
    eventually: Eventually,
) -> None:
    limits = BatchLimits(retry_s=0.01)
    postgres.stop()
    try:
        async with SqlTraceStore(url, spool=spool, limits=limits) as store:
            await store.append(make_trace())
            assert spool.is_pending
            postgres.start()
            await eventually(lambda: not spool.is_pending)
            assert len(await store.traces("acme")) == 1
    finally:
        postgres.ensure_started()


async def test_keys_work_through_an_outage_as_far_as_they_are_remembered(
    engine: Engine, postgres: PostgresServer
) -> None:
    time_s = 0.0
    async with Keyring(engine, PEPPER, ticks=lambda: time_s) as keyring:
        known = await keyring.create(KeyOrder(name="a", tenant="acme"), ROOT)
        unasked = await keyring.create(KeyOrder(name="b", tenant="acme"), ROOT)
        caller = await keyring.identify(known.text.reveal())
        with stopped(postgres):
            assert await keyring.identify(known.text.reveal()) == caller
            for text in (unasked.text, new_key_text("client")):
                with pytest.raises(KeysUnavailable):
                    await keyring.identify(text.reveal())
        time_s = 2.0
        assert (await keyring.identify(unasked.text.reveal())).key_id == unasked.key.id
        await keyring.rotate(known.key.id, 0.0, ROOT)
        await keyring.revoke(unasked.key.id, ROOT)
        verdict = await keyring.audit.verify()
    assert (verdict.entries, verdict.problem) == (4, None)


async def test_what_was_spent_in_an_outage_is_booked_after_it(
    engine: Engine, postgres: PostgresServer, eventually: Eventually
) -> None:
    time_s = 0.0
    async with (
        Keyring(engine, PEPPER) as keyring,
        Admission(engine, ticks=lambda: time_s) as admission,
    ):
        order = KeyOrder(name="a", tenant="acme", budget_usd=1.0)
        caller = (await keyring.create(order, ROOT)).key.caller()
        reservation = await admission.admit(caller, estimate_usd=0.5, estimate_tokens=1)
        with stopped(postgres):
            await reservation.settle(0.75, 1)
            time_s = 2.0
            with pytest.raises(KeysUnavailable):
                await admission.admit(caller, estimate_usd=0.1, estimate_tokens=1)
        await eventually(lambda: admission.owed == 0)
        time_s = 4.0
        with pytest.raises(OverBudget):
            await admission.admit(caller, estimate_usd=0.5, estimate_tokens=1)
        assert (await admission.explain(caller)).spent_usd == 0.75


async def test_stored_responses_are_kept_chained_and_deleted(engine: Engine) -> None:
    async def in_thread(function: Callable[[], Any], /) -> Any:
        return await asyncio.to_thread(function)

    store = StoredResponses(engine, in_thread, clock=lambda: 1000.0)
    items = [{"id": "i1", "type": "message", "content": "Ünïcode 😀"}]
    await store.put("acme", {"id": "resp_tut_1", "output": [{"id": "o1"}]}, items)
    await store.put("acme", {"id": "resp_tut_2"}, [{"id": "i2"}], previous_id="resp_tut_1")
    await store.put("acme", {"id": "resp_tut_2", "output": []}, [{"id": "i2"}])
    assert await store.get("acme", "resp_tut_1") == {"id": "resp_tut_1", "output": [{"id": "o1"}]}
    assert await store.get("other", "resp_tut_1") is None
    assert await store.get("acme", "a\0b") is None
    assert await store.conversation("acme", "resp_tut_1") == [*items, {"id": "o1"}]
    page = await store.input_items("acme", "resp_tut_1")
    assert page is not None
    assert page["data"] == items
    assert await store.delete("acme", "resp_tut_1")
    assert not await store.delete("acme", "resp_tut_1")
    late = StoredResponses(engine, in_thread, clock=lambda: 1e10)
    assert await late.get("acme", "resp_tut_2") is None
    assert await late.prune() == 1


async def test_conversations_are_shared_by_workers(engine: Engine) -> None:
    one, two = SqlConversationStore(engine), SqlConversationStore(engine, clock=lambda: 5.0)
    await asyncio.gather(
        *(store.save("acme", f"digest{number}", "e1") for store in (one, two) for number in "abc")
    )
    await two.save("acme", "digesta", "e2")
    assert await one.load("acme", "digesta") == "e2"
    assert await one.load("other", "digesta") is None
    await one.aclose()
    await two.aclose()


def test_a_database_that_does_not_exist_is_one_clear_line(postgres: PostgresServer) -> None:
    engine = open_engine(postgres.url("nowhere"))
    with pytest.raises(StoreError, match=r'database "nowhere" does not exist') as caught:
        migrate(engine)
    engine.dispose()
    assert "\n" not in str(caught.value)


def test_a_reader_is_not_stopped_by_a_writer(engine: Engine) -> None:
    with begin_write(engine) as writer:
        writer.execute(schema.episodes.insert().values(tenant="acme", id="e1", created_at_s=1.0))
        with engine.connect() as reader:
            assert reader.execute(sqlalchemy.select(schema.episodes)).all() == []
