"""The bank on a real PostgreSQL server with pgvector."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, text
from tests.postgres import postgres, postgres_url  # noqa: F401 - fixtures
from tests.retrieval.conftest import CountingEmbedder, MakeStep, MakeTrajectory

from tutelage.retrieval.bank import Bank
from tutelage.retrieval.embedding import Embedder, HashEmbedder
from tutelage.retrieval.pgvector_bank import PgVectorBank
from tutelage.retrieval.selection import KeyedRetriever, Selection
from tutelage.runtime.errors import ConfigError, EmbedderMismatch, RetrievalError, StoreError
from tutelage.runtime.store.database import migrate, open_engine
from tutelage.runtime.types import Trajectory

THINGS = ("mug", "fork", "book", "lamp", "vase", "pan", "key", "towel")
PLACES = ("shelf", "desk", "bed", "sink", "cabinet", "table")


@pytest.fixture
def server(postgres_url: str) -> Iterator[Engine]:  # noqa: F811
    engine = open_engine(postgres_url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def make(
    server: Engine, tmp_path: Path, clock: Callable[[], float], embedder: CountingEmbedder
) -> Callable[..., PgVectorBank]:
    def made(
        other: Embedder | None = None, exact_rows: int = 2_000, kept_rows: int = 100
    ) -> PgVectorBank:
        return PgVectorBank(
            server,
            other or embedder,
            tmp_path / "pg",
            clock,
            exact_rows=exact_rows,
            kept_rows=kept_rows,
        )

    return made


def tasks(make: MakeTrajectory, count: int, tenant: str = "acme") -> list[Trajectory]:
    found = []
    for number in range(count):
        thing = THINGS[number % len(THINGS)]
        place = PLACES[number // len(THINGS) % len(PLACES)]
        goal = f"put the {thing} on the {place}"
        turns = [
            (f"You see a {thing} {number}.", f"take {thing} {number}"),
            (f"You hold it. There is a {place}.", f"move {thing} {number} to {place}"),
        ]
        id, category = f"{tenant}-{number:05}", "place" if number % 2 else None
        found.append(
            make(
                id,
                tenant=tenant,
                goal=goal,
                turns=turns,
                category=category,
                plan="take, then move" if number % 3 else None,
                task_id=f"task-{number}",
            )
        )
    return found


async def test_it_finds_what_the_bank_with_faiss_finds(
    make: Callable[..., PgVectorBank], bank: Bank, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    shared = make()
    for one in (shared, bank):
        await one.add(tasks(trajectory, 90))
        await one.add(tasks(trajectory, 3, "other"))
    for selection in (Selection(k=5), Selection(k=5, category_bonus=0.1, diversity=0.5)):
        for thing, place in zip(THINGS, (*PLACES, *PLACES), strict=False):
            asked = step(f"You see a {thing} 3.", goal=f"put a {thing} on a {place}")
            local = await KeyedRetriever(bank, selection).search(asked)
            remote = await KeyedRetriever(shared, selection).search(asked)
            assert len(remote) == 5
            np.testing.assert_allclose(
                [one.score for one in remote], [one.score for one in local], atol=2e-3
            )
            assert {one.demonstration.tenant for one in remote} == {"acme"}
    assert await shared.version("acme") == await bank.version("acme")
    assert await shared.size("acme") == await bank.size("acme") == 180
    assert list(await shared.trajectories("acme")) == list(await bank.trajectories("acme"))
    assert await shared.demonstration("acme", "acme-00007:1") == await bank.demonstration(
        "acme", "acme-00007:1"
    )
    assert await shared.demonstration("acme", "acme-00007:x") is None
    assert await shared.demonstration("other", "acme-00007:1") is None
    assert len((await shared.shard("acme")).trajectories) == 90


async def test_what_one_process_adds_or_takes_out_holds_for_another_at_once(
    make: Callable[..., PgVectorBank], trajectory: MakeTrajectory, step: MakeStep
) -> None:
    writer, reader = make(), make()
    asked = step("You see a mug 0.", goal="put the mug on the shelf")

    async def shown() -> list[str]:
        found = await KeyedRetriever(reader, Selection(k=3)).search(asked)
        return [one.demonstration.trajectory_id for one in found]

    assert await shown() == []
    first, second = tasks(trajectory, 2)
    await writer.add([first])
    assert await shown() == [first.id]
    await writer.add([second])
    assert await shown() == [first.id, second.id]
    assert await writer.retire("acme", first.id)
    assert await shown() == [second.id]
    assert await writer.rollback("acme", 1) == 2
    assert await shown() == [first.id]
    assert await writer.rollback("acme", 2) == 1
    assert await shown() == [first.id, second.id]
    assert [one.trajectories for one in await reader.versions("acme")] == [2, 1, 1, 2, 1]
    assert not await reader.catch_up("acme")


async def test_a_tenant_with_few_rows_in_a_large_table_gets_all_that_it_asks_for(
    make: Callable[..., PgVectorBank], trajectory: MakeTrajectory
) -> None:
    shared = make(exact_rows=20)
    await shared.add(tasks(trajectory, 600, "large"))
    await shared.add(tasks(trajectory, 30, "small"))
    await shared.add(tasks(trajectory, 4, "tiny"))
    (goal,) = await shared.embedder.embed(["put the mug on the shelf"])
    # The first search of a tenant is a scan, which tells how many rows it has.
    for tenant, count in (("small", 25), ("small", 25), ("large", 40), ("large", 40), ("tiny", 4)):
        found = await shared.near(tenant, goal, count)
        assert len(found.trajectories) == count
        assert {one.tenant for one in found.trajectories} == {tenant}
        best = [float(score) for score in found.goals @ goal]
        assert best == sorted(best, reverse=True)
    found = await shared.near("large", goal, 590, task_id="task-0")
    assert len(found.trajectories) == 590
    assert all(one.task_id != "task-0" for one in found.trajectories)
    everything = await shared.near("large", goal, 700)
    assert len(everything.trajectories) == 600


async def test_a_large_tenant_is_searched_by_the_index(
    make: Callable[..., PgVectorBank],
    server: Engine,
    trajectory: MakeTrajectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tutelage.retrieval.pgvector_table._BULK_ROWS", 100)
    shared = make(exact_rows=50)
    await Bank(server, shared.embedder, tmp_path, lambda: 5.0).add(tasks(trajectory, 400))
    (goal,) = await shared.embedder.embed(["put the mug on the shelf"])
    await shared.near("acme", goal, 6)
    scans = text("SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE indexrelname LIKE '%_goal'")

    def scanned() -> int:
        with server.begin() as connection:
            connection.execute(text("SELECT pg_stat_force_next_flush()"))
        with server.begin() as connection:
            return int(connection.scalar(scans) or 0)

    before = scanned()
    found = await shared.near("acme", goal, 6)
    assert all(one.goal == "put the mug on the shelf" for one in found.trajectories)
    assert scanned() == before + 1


async def test_rows_that_another_kind_of_bank_added_are_made_when_it_catches_up(
    make: Callable[..., PgVectorBank],
    server: Engine,
    trajectory: MakeTrajectory,
    step: MakeStep,
    tmp_path: Path,
) -> None:
    shared = make()
    local = Bank(server, shared.embedder, tmp_path, lambda: 5.0)
    first, second, third = tasks(trajectory, 3)
    await local.add([first])
    await shared.open()
    assert await shared.size("acme") == 2
    await local.add([second])
    assert await shared.size("acme") == 2
    assert await shared.catch_up("acme")
    assert not await shared.catch_up("acme")
    assert await shared.size("acme") == 4
    await local.add([third])
    await shared.refresh("acme")
    assert await shared.size("acme") == 6


async def test_quarantined_ones_are_found_once_they_are_active(
    make: Callable[..., PgVectorBank], trajectory: MakeTrajectory
) -> None:
    shared = make()
    (one,) = tasks(trajectory, 1)
    await shared.add([one])
    assert await shared.change("acme", {one.id: "quarantined"}, "looked at", cause="test") == 1
    assert await shared.is_empty("acme")
    assert await shared.change("acme", {one.id: "active"}, "", cause="test") == 1
    assert not await shared.is_empty("acme")
    assert await shared.change("acme", {}, "", cause="test") == 0


async def test_another_embedder_is_refused_until_the_bank_is_indexed_again(
    make: Callable[..., PgVectorBank], trajectory: MakeTrajectory, step: MakeStep
) -> None:
    await make().add(tasks(trajectory, 5))
    other = make(HashEmbedder(32))
    with pytest.raises(EmbedderMismatch, match="tutelage demos reindex"):
        await other.open()
    assert await other.reindex() == 5
    await other.open()
    asked = step("You see a mug 0.", goal="put the mug on the shelf")
    assert len(await KeyedRetriever(other).search(asked)) == 5


async def test_what_was_found_is_kept_but_not_more_than_said(
    make: Callable[..., PgVectorBank], trajectory: MakeTrajectory
) -> None:
    shared = make(kept_rows=4)
    await shared.add(tasks(trajectory, 9))
    (goal,) = await shared.embedder.embed(["put the mug on the shelf"])
    for _ in range(2):
        assert len((await shared.near("acme", goal, 9)).trajectories) == 9
    assert len(shared._kept) == 4


async def test_searches_answer_while_others_add(
    make: Callable[..., PgVectorBank], trajectory: MakeTrajectory, step: MakeStep
) -> None:
    writer, reader = make(), make()
    await writer.add(tasks(trajectory, 8))
    asked = step("You see a mug 0.", goal="put the mug on the shelf")
    adding = asyncio.create_task(writer.add(tasks(trajectory, 300)))
    searches = 0
    while not adding.done():
        found = await KeyedRetriever(reader, Selection(k=1)).search(asked)
        assert found[0].demonstration.goal == "put the mug on the shelf"
        searches += 1
    assert sum(one.outcome == "added" for one in await adding) == 292
    assert searches > 1
    assert await reader.size("acme") == 600


async def test_a_damaged_row_is_named(
    make: Callable[..., PgVectorBank], server: Engine, trajectory: MakeTrajectory
) -> None:
    shared = make()
    await shared.add(tasks(trajectory, 2))
    (goal,) = await shared.embedder.embed(["put the mug on the shelf"])
    with server.begin() as connection:
        connection.execute(text("UPDATE trajectories SET turns = '[1]' WHERE id = 'acme-00000'"))
        connection.execute(
            text(
                f"UPDATE {shared._table.name} SET steps = '\\x00000000' "
                "WHERE trajectory_id = 'acme-00001'"
            )
        )
    with pytest.raises(StoreError, match="trajectory 'acme-00000' of tenant 'acme' is damaged"):
        await shared.demonstration("acme", "acme-00000:0")
    with pytest.raises(RetrievalError, match="vectors of trajectory 'acme-00001' are damaged"):
        await shared.demonstration("acme", "acme-00001:0")
    with server.begin() as connection:
        connection.execute(text(f"DROP TABLE {shared._table.name}"))
    with pytest.raises(StoreError, match="vectors of demonstrations in database"):
        await shared.near("acme", goal, 2)


async def test_sqlite_is_refused_with_what_to_set(
    database: Engine, embedder: CountingEmbedder, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"set store\.url to postgresql"):
        PgVectorBank(database, embedder, tmp_path, lambda: 1.0)
