from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import Engine

from tutelage.runtime.errors import StoreError
from tutelage.runtime.gateway.conversation_store import SqlConversationStore
from tutelage.runtime.gateway.conversations import Conversations
from tutelage.runtime.store.database import open_engine
from tutelage.runtime.types import ChatRequest, Message

DIGEST = "a" * 64
OTHER = "b" * 64


@pytest.fixture
async def store(engine: Engine) -> AsyncIterator[SqlConversationStore]:
    store = SqlConversationStore(engine, clock=lambda: 100.0)
    yield store
    await store.aclose()


async def test_what_is_saved_is_loaded_by_its_tenant_only(store: SqlConversationStore) -> None:
    await store.save("acme", DIGEST, "e1")

    assert await store.load("acme", DIGEST) == "e1"
    assert await store.load("other", DIGEST) is None
    assert await store.load("acme", OTHER) is None


async def test_the_episode_that_was_saved_last_counts(store: SqlConversationStore) -> None:
    await store.save("acme", DIGEST, "e1")
    await store.save("acme", DIGEST, "e2")

    assert await store.load("acme", DIGEST) == "e2"


async def test_rows_that_come_together_are_written_together(
    store: SqlConversationStore, engine: Engine
) -> None:
    await store.save("acme", DIGEST, "e0")
    commits: list[object] = []
    sqlalchemy.event.listen(engine, "commit", commits.append)

    await asyncio.gather(*(store.save("acme", f"{n:064x}", f"e{n}") for n in range(200)))

    assert len(commits) < 10
    assert await store.load("acme", f"{199:064x}") == "e199"


async def test_a_caller_that_is_cancelled_leaves_its_row_to_be_written(
    store: SqlConversationStore,
) -> None:
    saving = asyncio.create_task(store.save("acme", DIGEST, "e1"))
    await asyncio.sleep(0)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    await store.save("acme", OTHER, "e2")

    assert await store.load("acme", DIGEST) == "e1"


async def test_what_waits_is_written_before_the_store_is_closed(engine: Engine) -> None:
    store = SqlConversationStore(engine)
    saving = asyncio.create_task(store.save("acme", DIGEST, "e1"))
    await asyncio.sleep(0)
    await store.aclose()
    await saving
    reader = SqlConversationStore(engine)

    assert await reader.load("acme", DIGEST) == "e1"
    await reader.aclose()


async def test_a_store_without_rows_closes(engine: Engine) -> None:
    store = SqlConversationStore(engine)
    await store.aclose()

    with pytest.raises(RuntimeError):
        await store.load("acme", DIGEST)


async def test_rows_beyond_the_queue_are_refused(engine: Engine) -> None:
    store = SqlConversationStore(engine, queue_rows=2)

    outcomes = await asyncio.gather(
        *(store.save("acme", f"{n:064x}", "e") for n in range(5)), return_exceptions=True
    )
    await store.aclose()

    assert sum(isinstance(outcome, StoreError) for outcome in outcomes) == 3


async def test_old_rows_are_forgotten(engine: Engine) -> None:
    now = [100.0]
    store = SqlConversationStore(engine, clock=lambda: now[0])
    await store.save("acme", DIGEST, "e1")
    now[0] = 200.0
    await store.save("acme", OTHER, "e2")

    assert await store.forget(before_s=150.0) == 1
    assert await store.load("acme", DIGEST) is None
    assert await store.load("acme", OTHER) == "e2"
    await store.aclose()


async def test_a_database_that_is_gone_is_a_store_error_to_everyone_who_waits(
    tmp_path: Path,
) -> None:
    (tmp_path / "traces.sqlite").write_bytes(b"this is no database" * 100)
    engine = open_engine(f"sqlite:///{tmp_path / 'traces.sqlite'}")
    store = SqlConversationStore(engine)

    outcomes = await asyncio.gather(
        *(store.save("acme", f"{n:064x}", "e") for n in range(3)), return_exceptions=True
    )
    with pytest.raises(StoreError):
        await store.load("acme", DIGEST)
    await store.aclose()
    engine.dispose()

    assert [type(outcome) for outcome in outcomes] == [StoreError] * 3


async def test_workers_share_conversations_through_the_database(engine: Engine) -> None:
    first, second = SqlConversationStore(engine), SqlConversationStore(engine)
    hello = {"role": "user", "content": "hi"}
    opening = ChatRequest.model_validate({"model": "m", "messages": [hello]})
    answer = Message(role="assistant", content="hello")
    await Conversations(store=first).remember("acme", opening, answer, "e1")
    following = opening.model_copy(update={"messages": [*opening.messages, answer]})

    assert await Conversations(store=second).find("acme", following) == "e1"
    await first.aclose()
    await second.aclose()
