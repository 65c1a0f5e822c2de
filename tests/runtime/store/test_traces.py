from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.dialects import postgresql

from tutelage.runtime.errors import SchemaTooNew, StoreError
from tutelage.runtime.store import schema
from tutelage.runtime.store.database import begin_write, migrate, open_engine
from tutelage.runtime.store.spool import Record, Spool
from tutelage.runtime.store.traces import SqlTraceStore, _insert
from tutelage.runtime.store.writer import BatchLimits
from tutelage.runtime.types import EpisodeRecord, Trace

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
MakeTrace = Callable[..., Trace]
MakeEpisode = Callable[..., EpisodeRecord]


async def test_a_trace_comes_back_as_it_was(url: str, spool: Spool, make_trace: MakeTrace) -> None:
    trace = make_trace()
    async with SqlTraceStore(url, spool=spool) as store:
        await store.append(trace)
        assert await store.trace("acme", "t1") == trace
        assert await store.trace("acme", "unknown") is None
    async with SqlTraceStore(url, spool=spool) as store:
        assert await store.trace("acme", "t1") == trace


async def test_columns_hold_what_queries_need(
    url: str, spool: Spool, make_trace: MakeTrace
) -> None:
    async with SqlTraceStore(url, spool=spool) as store:
        await store.append(make_trace(step_index=4, served="teacher"))
    engine = open_engine(url)
    with engine.connect() as connection:
        row = connection.execute(sqlalchemy.select(schema.traces)).mappings().one()
    engine.dispose()
    found = {name: row[name] for name in ("step_index", "served", "reason", "cost_usd")}
    assert found == {"step_index": 4, "served": "teacher", "reason": "agreed", "cost_usd": 0.75}


async def test_a_trace_that_is_posted_is_there_soon(
    url: str, spool: Spool, make_trace: MakeTrace
) -> None:
    lost: list[StoreError | None] = []
    async with SqlTraceStore(url, spool=spool) as store:
        for number in range(100):
            assert store.post(make_trace(f"t{number}", created_at_s=number), lost.append)
        with pytest.raises(StoreError, match="more than 64"):
            store.post(make_trace("x" * 65), lost.append)
    assert lost == [None] * 100
    async with SqlTraceStore(url, spool=spool) as store:
        kept = await store.traces("acme", limit=1000, newest_first=False)
    assert kept == [make_trace(f"t{number}", created_at_s=number) for number in range(100)]


async def test_a_second_append_of_an_id_does_nothing(
    url: str, spool: Spool, make_trace: MakeTrace
) -> None:
    async with SqlTraceStore(url, spool=spool) as store:
        await store.append(make_trace(answer="first"))
        await store.append(make_trace(answer="second"))
        await asyncio.gather(*(store.append(make_trace(answer="third")) for _ in range(5)))
        kept = await store.traces("acme")
    assert [trace.answer for trace in kept] == ["first"]


async def test_tenants_see_only_their_own_even_with_equal_ids(
    url: str, spool: Spool, make_trace: MakeTrace, make_episode: MakeEpisode
) -> None:
    async with SqlTraceStore(url, spool=spool) as store:
        for tenant in ("a", "b"):
            await store.append(make_trace(tenant=tenant, answer=f"of {tenant}"))
            await store.record_episode(make_episode(tenant=tenant, goal=f"of {tenant}"))
        for tenant in ("a", "b"):
            traces = await store.traces(tenant)
            assert [trace.answer for trace in traces] == [f"of {tenant}"]
            assert [trace.answer for trace in await store.traces(tenant, episode_id="e1")] == [
                f"of {tenant}"
            ]
            trace = await store.trace(tenant, "t1")
            assert trace is not None
            assert trace.answer == f"of {tenant}"
            assert [episode.goal for episode in await store.episodes(tenant)] == [f"of {tenant}"]
            episode = await store.episode(tenant, "e1")
            assert episode is not None
            assert episode.goal == f"of {tenant}"
        assert await store.traces("a:b") == []
        assert await store.traces("%") == []


async def test_traces_are_filtered_ordered_and_limited(
    url: str, spool: Spool, make_trace: MakeTrace
) -> None:
    async with SqlTraceStore(url, spool=spool) as store:
        for number in range(6):
            await store.append(
                make_trace(
                    f"t{number}",
                    step_index=number,
                    episode_id=f"e{number % 2}",
                    created_at_s=1000.0 + number // 2,
                    served="teacher" if number == 3 else "student",
                )
            )

        async def ids(**filters: Any) -> list[str]:
            return [trace.id for trace in await store.traces("acme", **filters)]

        assert await ids(limit=2) == ["t5", "t4"]
        assert await ids(episode_id="e1", newest_first=False) == ["t1", "t3", "t5"]
        assert await ids(served="teacher") == ["t3"]
        assert await ids(served="student", episode_id="e1") == ["t5", "t1"]


async def test_an_episode_keeps_what_an_update_leaves_out(
    url: str, spool: Spool, make_episode: MakeEpisode
) -> None:
    async with SqlTraceStore(url, spool=spool) as store:
        await store.record_episode(make_episode(goal="tidy up", task_id="g1"))
        await store.record_episode(make_episode(success=False, created_at_s=2000.0))
        await store.record_episode(make_episode(reward=0.5))
        assert await store.episode("acme", "e1") == make_episode(
            goal="tidy up", task_id="g1", success=False, reward=0.5
        )
        await store.record_episode(make_episode(success=True))
        episode = await store.episode("acme", "e1")
        assert episode is not None
        assert episode.success is True
        assert await store.episode("acme", "unknown") is None


async def test_updates_of_one_episode_in_one_commit_apply_in_order(
    url: str, spool: Spool, make_episode: MakeEpisode
) -> None:
    async with SqlTraceStore(url, spool=spool) as store:
        await asyncio.gather(
            *(store.record_episode(make_episode(reward=float(number))) for number in range(30))
        )
        episode = await store.episode("acme", "e1")
    assert episode is not None
    assert episode.reward == 29.0


async def test_episodes_are_filtered_by_outcome(
    url: str, spool: Spool, make_episode: MakeEpisode
) -> None:
    async with SqlTraceStore(url, spool=spool) as store:
        for number, success in enumerate((None, True, False, True)):
            await store.record_episode(
                make_episode(f"e{number}", success=success, created_at_s=float(number))
            )

        async def ids(**filters: Any) -> list[str]:
            return [episode.id for episode in await store.episodes("acme", **filters)]

        assert await ids() == ["e3", "e2", "e1", "e0"]
        assert await ids(success=True) == ["e3", "e1"]
        assert await ids(success=False) == ["e2"]
        assert await ids(limit=1, newest_first=False) == ["e0"]


async def test_concurrent_appends_share_commits(
    url: str, spool: Spool, make_trace: MakeTrace
) -> None:
    engine = open_engine(url)
    async with SqlTraceStore(engine, spool=spool, limits=BatchLimits(rows=50)) as store:
        commits: list[object] = []
        event.listen(engine, "commit", commits.append)
        await asyncio.gather(*(store.append(make_trace(f"t{number}")) for number in range(200)))
        assert len(commits) == 4
        assert len(await store.traces("acme", limit=1000)) == 200
    engine.dispose()


async def test_an_append_is_durable_when_it_returns(
    url: str, database: Path, spool: Spool, make_trace: MakeTrace
) -> None:
    engine = open_engine(url)
    async with SqlTraceStore(url, spool=spool) as store:
        for number in range(3):
            await store.append(make_trace(f"t{number}"))
            with engine.connect() as connection:
                rows = connection.execute(sqlalchemy.select(schema.traces.c.id)).all()
            assert len(rows) == number + 1
    engine.dispose()


async def test_a_database_of_a_newer_release_is_refused_at_the_start(
    url: str, spool: Spool
) -> None:
    engine = open_engine(url)
    migrate(engine)
    with begin_write(engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(SchemaTooNew):
        async with SqlTraceStore(url, spool=spool):
            pass


async def test_a_path_that_is_no_spool_is_refused_at_the_start(url: str, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("a user's notes, longer than the header of a spool")
    with pytest.raises(StoreError, match="another path"):
        async with SqlTraceStore(url, spool=Spool(path)):
            pass


async def test_an_id_too_long_for_its_column_is_named(
    url: str, spool: Spool, make_trace: MakeTrace, make_episode: MakeEpisode
) -> None:
    async with SqlTraceStore(url, spool=spool) as store:
        with pytest.raises(StoreError, match="trace id has 65 characters, more than 64"):
            await store.append(make_trace("x" * 65))
        with pytest.raises(StoreError, match="episode id has 129 characters, more than 128"):
            await store.record_episode(make_episode("x" * 129))


async def test_a_trace_that_is_no_json_is_named(
    url: str, spool: Spool, make_trace: MakeTrace
) -> None:
    trace = make_trace().model_copy(update={"prompt": ({"content": object()},)})
    async with SqlTraceStore(url, spool=spool) as store:
        with pytest.raises(StoreError, match="'t1' cannot be written as JSON"):
            await store.append(trace)


async def test_a_record_the_database_refuses_fails_alone(
    url: str, spool: Spool, make_trace: MakeTrace
) -> None:
    not_a_number = make_trace("bad").model_copy(update={"cost_usd": {"student": math.nan}})
    too_large = make_trace("worse").model_copy(update={"step_index": 2**70})
    async with SqlTraceStore(url, spool=spool) as store:
        outcomes = await asyncio.gather(
            *(store.append(trace) for trace in (make_trace("a"), not_a_number, too_large)),
            store.append(make_trace("b")),
            return_exceptions=True,
        )
        assert [isinstance(outcome, StoreError) for outcome in outcomes] == [
            False,
            True,
            True,
            False,
        ]
        assert len(await store.traces("acme")) == 2
        assert store.counters.failed == 2
    assert not spool.is_pending


async def test_a_body_of_a_newer_release_is_an_error_that_says_so(
    url: str, spool: Spool, make_trace: MakeTrace
) -> None:
    engine = open_engine(url)
    async with SqlTraceStore(engine, spool=spool) as store:
        await store.append(make_trace())
        with begin_write(engine) as connection:
            body = {**make_trace().model_dump(mode="json"), "novelty": 1}
            connection.execute(schema.traces.update().values(body=body))
        with pytest.raises(StoreError, match=r"novelty.*upgrade tutelage"):
            await store.trace("acme", "t1")
    engine.dispose()


def test_statements_compile_for_postgresql(
    make_trace: MakeTrace, make_episode: MakeEpisode
) -> None:
    statements: list[str] = []

    dialect: Any = postgresql

    def execute(statement: Any, rows: list[dict[str, Any]]) -> None:
        compiled = statement.compile(dialect=dialect.dialect(), column_keys=list(rows[0]))
        statements.append(" ".join(str(compiled).split()))

    connection: Any = SimpleNamespace(dialect=dialect.dialect(), execute=execute)
    trace = Record("trace", make_trace().model_dump(mode="json"))
    episode = Record("episode", make_episode(goal="a\0b").model_dump(mode="json"))
    _insert(connection, [trace, episode])
    assert statements[0].endswith("ON CONFLICT DO NOTHING")
    assert "ON CONFLICT (tenant, id) DO UPDATE SET goal = coalesce(excluded.goal" in statements[1]


async def test_postgresql_text_gets_no_nul(
    url: str, spool: Spool, make_episode: MakeEpisode
) -> None:
    async with SqlTraceStore(url, spool=spool) as store:
        await store.record_episode(make_episode(goal="a\0b"))
        episode = await store.episode("acme", "e1")
    assert episode is not None
    assert episode.goal == "a\ufffdb"
