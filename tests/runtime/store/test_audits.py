from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine, inspect

from tutelage.runtime.errors import StoreError
from tutelage.runtime.store import schema
from tutelage.runtime.store.audits import SqlAuditStore
from tutelage.runtime.store.database import begin_write, migrate, open_engine
from tutelage.runtime.types import StepAudit


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each of the databases, empty."""
    name = "url" if request.param == "sqlite" else "postgres_url"
    made = open_engine(request.getfixturevalue(name))
    yield made
    made.dispose()


def audit(trace_id: str = "t1", **fields: Any) -> StepAudit:
    known = {
        "tenant": "acme",
        "episode_id": "e1",
        "step_index": 3,
        "created_at_s": 1000.25,
        "propensity": 0.02,
        "action": "open “door” 1",
        "agrees": False,
        "cost_usd": 0.001234,
        "uncached_cost_usd": 0.1,
    }
    return StepAudit.model_validate({**known, "trace_id": trace_id, **fields})


async def test_an_audit_comes_back_as_it_was(engine: Engine) -> None:
    store = SqlAuditStore(engine)
    silent = audit("t2", action=None, agrees=None, created_at_s=1001.0)
    odd = audit("t3", action="a\0b 😀", created_at_s=1002.0)
    for one in (audit(), silent, odd):
        await store.record_audit(one)
    assert await store.audits("acme") == [audit(), silent, odd]
    await store.aclose()
    again = SqlAuditStore(engine)
    assert await again.audits("acme") == [audit(), silent, odd]
    await again.aclose()


async def test_a_second_audit_of_a_trace_does_nothing(engine: Engine) -> None:
    store = SqlAuditStore(engine)
    await store.record_audit(audit(action="first"))
    await store.record_audit(audit(action="second"))
    await asyncio.gather(*(store.record_audit(audit(action="third")) for _ in range(5)))
    assert await store.audits("acme") == [audit(action="first")]
    await store.aclose()


async def test_tenants_see_only_their_own_even_with_equal_ids(engine: Engine) -> None:
    store = SqlAuditStore(engine)
    for tenant in ("a", "b"):
        await store.record_audit(audit(tenant=tenant, action=f"of {tenant}"))
    for tenant in ("a", "b"):
        assert [one.action for one in await store.audits(tenant)] == [f"of {tenant}"]
    assert await store.audits("c") == []
    await store.aclose()


async def test_audits_are_in_the_order_of_time_from_a_moment_on(engine: Engine) -> None:
    store = SqlAuditStore(engine)
    for name, at_s in (("late", 30.0), ("b", 20.0), ("a", 20.0), ("early", 10.0)):
        await store.record_audit(audit(name, created_at_s=at_s))
    assert [one.trace_id for one in await store.audits("acme")] == ["early", "a", "b", "late"]
    later = await store.audits("acme", since_s=20.0)
    assert [one.trace_id for one in later] == ["a", "b", "late"]
    assert await store.audits("acme", since_s=30.5) == []
    await store.aclose()


async def test_closing_finishes_what_was_begun(engine: Engine) -> None:
    store = SqlAuditStore(engine)
    begun = [asyncio.ensure_future(store.record_audit(audit(f"t{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    await store.aclose()
    await asyncio.gather(*begun)
    again = SqlAuditStore(engine)
    assert len(await again.audits("acme")) == 20
    await again.aclose()


async def test_a_database_without_the_table_gets_it(engine: Engine) -> None:
    assert "step_audits" not in inspect(engine).get_table_names()
    store = SqlAuditStore(engine)
    assert await store.audits("acme") == []
    assert "step_audits" in inspect(engine).get_table_names()
    await store.aclose()


async def test_a_table_that_is_gone_is_one_clear_error(engine: Engine) -> None:
    migrate(engine)
    store = SqlAuditStore(engine)
    await store.record_audit(audit())
    with begin_write(engine) as connection:
        schema.step_audits.drop(connection)
    with pytest.raises(StoreError, match="cannot be written"):
        await store.record_audit(audit("t2"))
    with pytest.raises(StoreError, match="cannot be read"):
        await store.audits("acme")
    await store.aclose()


def test_the_migration_makes_the_table_and_index_that_the_code_uses(engine: Engine) -> None:
    migrate(engine)
    found = inspect(engine)
    assert found.get_pk_constraint("step_audits")["constrained_columns"] == ["tenant", "trace_id"]
    assert {column["name"]: column["nullable"] for column in found.get_columns("step_audits")} == {
        column.name: column.nullable for column in schema.step_audits.columns
    }
    assert [
        (index["name"], index["column_names"]) for index in found.get_indexes("step_audits")
    ] == [("step_audits_by_time", ["tenant", "created_at_s"])]


async def test_a_database_of_the_version_before_keeps_what_it_had(url: str) -> None:
    from alembic import command
    from alembic.config import Config

    engine = open_engine(url)
    config = Config()
    config.set_main_option("script_location", "tutelage.runtime.store:migrations")
    with begin_write(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        connection.execute(
            sqlalchemy.insert(schema.episodes),
            {"tenant": "acme", "id": "e1", "created_at_s": 1.0},
        )
    store = SqlAuditStore(engine)
    await store.record_audit(audit())
    await store.aclose()
    with begin_write(engine) as connection:
        assert connection.execute(sqlalchemy.select(schema.episodes.c.id)).scalars().all() == ["e1"]
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
    assert "step_audits" not in inspect(engine).get_table_names()
    engine.dispose()
