"""Tools that traces name are stored once a tenant, in either database and through the spool."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select

from tutelage.runtime.errors import StoreError
from tutelage.runtime.offered_tools import tools_sha256
from tutelage.runtime.store import schema
from tutelage.runtime.store.database import open_engine
from tutelage.runtime.store.spool import Spool
from tutelage.runtime.store.tool_definitions import KeptTools
from tutelage.runtime.store.traces import SqlTraceStore
from tutelage.runtime.types import Trace

MakeTrace = Callable[..., Trace]


def tool(name: str, **more: object) -> dict[str, object]:
    return {
        "type": "function",
        "function": {"parameters": {"type": "object"}, "name": name},
        **more,
    }


def offering(trace: Trace, *tools: dict[str, object]) -> Trace:
    return trace.model_copy(update={"tools": tools, "tools_sha256": tools_sha256(tools)})


def sets(url: str) -> int:
    """How many sets of tools are stored."""
    engine = open_engine(url)
    with engine.connect() as connection:
        count = connection.scalar(select(func.count()).select_from(schema.tool_definitions))
    engine.dispose()
    return int(count or 0)


@pytest.fixture(params=["sqlite", "postgres"])
def any_url(request: pytest.FixtureRequest, url: str) -> str:
    return url if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


async def test_a_trace_comes_back_with_its_tools_which_are_stored_once(
    any_url: str, spool: Spool, make_trace: MakeTrace
) -> None:
    one, two = tool("go", strict=False), tool("look", note="Ünïcode 😀")
    offered = [offering(make_trace(f"t{number}"), one, two) for number in range(20)]
    lost: list[StoreError | None] = []
    async with SqlTraceStore(any_url, spool=spool) as store:
        for trace in offered[:10]:
            await store.append(trace)
        assert all(store.post(trace, lost.append) for trace in offered[10:])
        await store.append(offering(make_trace("other", tenant="other"), one, two))
        await store.append(make_trace("plain"))
        found = {trace.id: trace for trace in await store.traces("acme", limit=50)}
        foreign = await store.trace("other", "other")

    assert lost == [None] * 10
    assert [found[trace.id] for trace in offered] == offered
    assert list(found["t0"].tools[0]["function"]) == ["parameters", "name"]
    assert found["plain"].tools == ()
    assert foreign is not None
    assert foreign.tools == (one, two)
    assert sets(any_url) == 2


async def test_tools_are_not_repeated_in_the_row_of_a_trace(
    url: str, spool: Spool, make_trace: MakeTrace
) -> None:
    async with SqlTraceStore(url, spool=spool) as store:
        await store.append(offering(make_trace(), tool("a very long name " * 100)))
    engine = open_engine(url)
    with engine.connect() as connection:
        (body,) = connection.scalars(select(schema.traces.c.body))
    engine.dispose()

    assert "tools" not in body
    assert body["tools_sha256"] == tools_sha256([tool("a very long name " * 100)])


async def test_tools_of_traces_wait_in_the_spool_with_them(
    url: str, database: Path, spool: Spool, make_trace: MakeTrace
) -> None:
    await asyncio.to_thread(database.mkdir, parents=True)
    trace = offering(make_trace(), tool("go"))
    async with SqlTraceStore(url, spool=spool) as store:
        await store.append(trace)
        assert store.counters.spooled == 2
    shutil.rmtree(database)
    async with SqlTraceStore(url, spool=spool) as store:
        found = await store.trace("acme", "t1")

    assert found == trace


async def test_a_database_that_was_replaced_gets_the_tools_again(
    url: str, database: Path, spool: Spool, make_trace: MakeTrace
) -> None:
    async with SqlTraceStore(url, spool=spool) as store:
        await store.append(offering(make_trace("t1"), tool("go")))
        for file in database.parent.glob(f"{database.name}*"):
            file.unlink()
        await store.append(make_trace("t2"))
        await store.append(offering(make_trace("t3"), tool("go")))
        found = await store.trace("acme", "t3")

    assert found is not None
    assert found.tools == (tool("go"),)


async def test_a_trace_is_kept_though_its_tools_cannot_be(
    url: str, spool: Spool, make_trace: MakeTrace, caplog: pytest.LogCaptureFixture
) -> None:
    trace = offering(make_trace(), tool("half a \ud83d character"))
    async with SqlTraceStore(url, spool=spool) as store:
        await store.append(trace)
        found = await store.trace("acme", "t1")

    assert found is not None
    assert (found.tools, found.tools_sha256) == ((), trace.tools_sha256)
    assert "the tools of trace t1 are not stored" in caplog.text


def test_numbers_beyond_64_bits_are_kept_and_order_is_told_apart() -> None:
    wide = {"type": "function", "function": {"name": "n", "parameters": {"maximum": 2**70}}}
    turned = {"function": wide["function"], "type": "function"}

    assert tools_sha256([wide]) != tools_sha256([turned])
    assert tools_sha256([wide]) == tools_sha256([dict(wide)])
    assert tools_sha256([]) is None


def test_what_was_forgotten_is_written_again(make_trace: MakeTrace) -> None:
    kept = KeptTools(capacity=1)
    one, two = (offering(make_trace(), tool(name)) for name in ("one", "two"))

    kept.settle(one)(None)
    known = kept.missing(one)
    kept.settle(two)(StoreError("gone"))
    refused = kept.missing(two)
    kept.settle(two)(None)

    assert known is None
    assert refused is not None
    assert kept.missing(one) is not None
