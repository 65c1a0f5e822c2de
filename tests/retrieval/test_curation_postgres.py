"""Curation on a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.postgres import postgres, postgres_url  # noqa: F401 - fixtures
from tests.retrieval.traffic import Row, Traffic

from tutelage.retrieval.bank import Bank
from tutelage.retrieval.embedding import HashEmbedder
from tutelage.retrieval.exposures import Exposure, SqlExposureLog
from tutelage.retrieval.rules import DAY_S, CurationRules
from tutelage.runtime.store.database import migrate, open_engine
from tutelage.runtime.store.spool import Spool
from tutelage.runtime.store.traces import SqlTraceStore


@pytest.fixture
async def on_server(postgres_url: str, tmp_path: Path) -> AsyncIterator[Traffic]:  # noqa: F811
    engine = open_engine(postgres_url)
    migrate(engine)
    bank = Bank(engine, HashEmbedder(64), tmp_path / "cache", lambda: 1000.0)
    async with SqlTraceStore(engine, spool=Spool(tmp_path / "spool")) as store:
        yield Traffic(store, engine, bank)
    engine.dispose()


async def test_the_bank_grows_is_judged_revoked_and_rolled_back(on_server: Traffic) -> None:
    traffic = on_server
    rows: list[Row] = [("A room.", "boil", "teacher")]
    await traffic.play("a", key="k1")
    await traffic.play("b", rows, key="k2", goal="boil an egg")
    await traffic.play("c", key="k3")
    log = SqlExposureLog(traffic.engine)
    log.post(Exposure("acme", "a", 0, "step", 1000.0, 0.1, ("b",), (), {"find": "1"}))
    await log.aclose()
    keeper = traffic.curator(CurationRules(idle_s=10 * DAY_S))

    done = await keeper.curate("acme")
    again = await keeper.curate("acme")

    assert (done.candidates, done.promoted, done.rejected) == (5, 3, 2)
    assert (again.candidates, again.promoted) == (0, 0)
    assert await traffic.shown() == ["a", "b"]
    assert keeper.origins.writers("acme", ["a"]) == {"a": {"k1", "k3"}}
    (worth,) = await keeper.worth("acme")
    assert (worth.trajectory_id, worth.episodes is not None) == ("b", True)
    assert await keeper.revoke("acme", "k2") == (1, 1)
    assert await traffic.bank.rollback("acme", 0) == 1
    assert await traffic.shown() == []
    assert await traffic.bank.rollback("acme", 1) == 1
    assert await traffic.shown() == ["a"]
    traffic.now_s += 20 * DAY_S
    assert (await keeper.curate("acme")).idle == 1
    assert next(v.cause for v in await traffic.bank.versions("acme")) == "idle ones retired"
