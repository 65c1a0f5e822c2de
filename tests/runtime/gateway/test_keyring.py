from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from tutelage.runtime.errors import (
    Forbidden,
    KeysUnavailable,
    StoreError,
    Unauthenticated,
)
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.gateway.key_store import IssuedKey, Operator
from tutelage.runtime.gateway.keyring import Keyring
from tutelage.runtime.gateway.keys import Key, Pepper, new_key_text
from tutelage.runtime.gateway.orders import KeyOrder
from tutelage.runtime.store import schema
from tutelage.runtime.store.database import begin_write, open_engine

ROOT = Operator("root")


def order(**fields: Any) -> KeyOrder:
    return KeyOrder.model_validate({"name": "ci", "tenant": "acme", **fields})


async def issue(keyring: Keyring, by: Operator | Key = ROOT, **fields: Any) -> IssuedKey:
    return await keyring.create(order(**fields), by)


@pytest.fixture
def statements(engine: Engine) -> Iterator[list[str]]:
    """What the database was asked."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("PRAGMA", "BEGIN")):
            seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def dump(folder: Path) -> bytes:
    """All bytes of the database, those of its log included."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("gateway.sqlite*")))


class Outage:
    """Refuses statements of an engine while it lasts."""

    def __init__(self, engine: Engine) -> None:
        self.lasts = False
        event.listen(engine, "before_cursor_execute", self._refuse)

    def _refuse(self, *_: Any) -> None:
        if self.lasts:
            raise sqlalchemy.exc.OperationalError("SELECT", {}, Exception("the server is gone"))


async def test_a_key_identifies_its_caller(keyring: Keyring) -> None:
    issued = await issue(
        keyring, aliases=["gpt"], requests_per_minute=7, budget_usd=2.5, budget_period_s=60
    )
    caller = await keyring.identify(issued.text.reveal())
    assert caller == Caller(
        tenant="acme",
        key_id=issued.key.id,
        aliases=frozenset({"gpt"}),
        requests_per_minute=7,
        budget_usd=2.5,
        budget_period_s=60.0,
    )


async def test_a_key_survives_a_restart_but_not_another_pepper(
    keyring: Keyring, engine: Engine, pepper: Pepper
) -> None:
    from tutelage.runtime.secret import Secret

    issued = await issue(keyring)
    async with Keyring(engine, pepper) as again:
        assert (await again.identify(issued.text.reveal())).key_id == issued.key.id
    async with Keyring(engine, Pepper(Secret("another pepper of the tests"))) as other:
        with pytest.raises(Unauthenticated, match="unknown"):
            await other.identify(issued.text.reveal())


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "tut-",
        "tut-' OR '1'='1",
        "tut-" + "a" * 42 + "'",
        "'; DROP TABLE keys; --",
        "tut-" + "A" * 43,
        "tut-" + "A" * 100_000,
        "tut-" + "é" * 43,
        "tut-" + "٣" * 43,
        "tut-" + "\0" * 43,
        "tut-\udcff" + "A" * 42,
        "😀",
    ],
)
async def test_what_is_no_key_is_refused_without_being_repeated(
    keyring: Keyring, token: str | None
) -> None:
    await issue(keyring)
    with pytest.raises(Unauthenticated) as caught:
        await keyring.identify(token)
    with pytest.raises(Unauthenticated):
        await keyring.identify_admin(token)
    assert not token or len(token) < 5 or token not in str(caught.value)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)
@given(st.text(max_size=60) | st.from_regex(r"(tut|tutadmin)-[A-Za-z0-9_-]{43}", fullmatch=True))
def test_any_text_is_a_known_key_or_refused(sqlite_url: str, pepper: Pepper, token: str) -> None:
    async def ask() -> None:
        engine = open_engine(sqlite_url)
        async with Keyring(engine, pepper) as keyring:
            with pytest.raises(Unauthenticated):
                await keyring.identify(token)
        engine.dispose()

    asyncio.run(ask())


async def test_texts_without_the_form_of_a_key_never_reach_the_database(
    keyring: Keyring, statements: list[str]
) -> None:
    for token in ("x", "sk-" + "A" * 43, "tut-" + "A" * 44):
        with pytest.raises(Unauthenticated):
            await keyring.identify(token)
    assert statements == []


async def test_keys_that_begin_alike_are_kept_apart(keyring: Keyring, pepper: Pepper) -> None:
    issued = await issue(keyring)
    real = issued.text.reveal()
    assert (await keyring.identify(real)).key_id == issued.key.id
    for length in (20, 30, 46):
        flipped = "A" if real[length] != "A" else "B"
        twin = real[:length] + flipped + real[length + 1 :]
        assert twin != real
        with pytest.raises(Unauthenticated):
            await keyring.identify(twin)
    assert (await keyring.identify(real)).key_id == issued.key.id


async def test_two_stored_keys_that_begin_alike_open_their_own_tenants(
    keyring: Keyring, engine: Engine, pepper: Pepper
) -> None:
    ours, theirs = await issue(keyring), await issue(keyring, tenant="other")
    text = ours.text.reveal()
    twin = text[:-2] + ("AA" if text[-2:] != "AA" else "BB")
    with begin_write(engine) as connection:
        connection.execute(
            schema.key_digests.update()
            .where(schema.key_digests.c.key_id == theirs.key.id)
            .values(digest=pepper.digest(twin), prefix=twin[:10])
        )
    for _ in range(2):
        assert (await keyring.identify(text)).tenant == "acme"
        assert (await keyring.identify(twin)).tenant == "other"


async def test_a_copy_of_the_database_holds_no_usable_key(
    sqlite_url: str, pepper: Pepper, tmp_path: Path
) -> None:
    engine = open_engine(sqlite_url)
    async with Keyring(engine, pepper) as keyring:
        texts = [
            (await issue(keyring, kind=kind, name=kind)).text.reveal()
            for kind in ("client", "admin", "client")
        ]
        rotated = await keyring.rotate((await issue(keyring)).key.id, 60.0, ROOT)
        assert rotated is not None
        texts.append(rotated.text.reveal())
        stored = dump(tmp_path)
    engine.dispose()
    assert rotated.key.id.encode() in stored
    for text in texts:
        secret = text.partition("-")[2]
        assert text.encode() not in stored
        assert hashlib.sha256(text.encode()).hexdigest().encode() not in stored
        for start in range(len(secret) - 8):
            assert secret[start : start + 8].encode() not in stored


async def test_the_text_of_a_key_is_in_no_repr(keyring: Keyring) -> None:
    issued = await issue(keyring)
    secret = issued.text.reveal()
    for shown in (repr(issued), str(issued), repr(await keyring.keys(ROOT)), repr(vars(keyring))):
        assert secret not in shown


async def test_the_text_of_a_key_reaches_no_log(
    keyring: Keyring, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        texts = [(await issue(keyring)).text.reveal(), new_key_text("client").reveal()]
        await keyring.identify(texts[0])
        with pytest.raises(Unauthenticated):
            await keyring.identify(texts[1])
        texts.append((await issue(keyring)).text.reveal())
        Outage(engine).lasts = True
        with pytest.raises(KeysUnavailable):
            await keyring.identify(texts[2])
    assert "the server is gone" in caplog.text
    for text in texts:
        assert text[10:] not in caplog.text


async def test_keys_of_the_two_classes_do_not_open_each_others_door(keyring: Keyring) -> None:
    client = await issue(keyring)
    admin = await issue(keyring, kind="admin", tenant=None)
    with pytest.raises(Forbidden, match="opens the administration"):
        await keyring.identify(admin.text.reveal())
    with pytest.raises(Forbidden, match="opens no administration"):
        await keyring.identify_admin(client.text.reveal())
    assert (await keyring.identify_admin(admin.text.reveal())).id == admin.key.id


async def test_a_key_expires_also_while_it_is_remembered(keyring: Keyring, clock: Any) -> None:
    issued = await issue(keyring, expires_in_s=100)
    clock.advance(99.9)
    assert await keyring.identify(issued.text.reveal())
    clock.advance(0.1)
    with pytest.raises(Unauthenticated, match="expired"):
        await keyring.identify(issued.text.reveal())


async def test_a_known_key_is_looked_up_once(
    keyring: Keyring, ticks: Any, statements: list[str]
) -> None:
    text = (await issue(keyring)).text.reveal()
    statements.clear()
    await asyncio.gather(*(keyring.identify(text) for _ in range(20)))
    ticks.advance(29.9)
    await keyring.identify(text)
    assert len(statements) == 1
    ticks.advance(0.1)
    await keyring.identify(text)
    assert len(statements) == 2


async def test_an_unknown_key_is_remembered_for_a_shorter_time(
    keyring: Keyring, ticks: Any, statements: list[str]
) -> None:
    text = new_key_text("client").reveal()
    await keyring.keys(ROOT)
    statements.clear()
    for advance_s, asked in ((0.0, 1), (9.9, 1), (0.1, 2)):
        ticks.advance(advance_s)
        with pytest.raises(Unauthenticated):
            await keyring.identify(text)
        assert len(statements) == asked


async def test_guesses_do_not_push_out_keys_and_do_not_pile_up(
    engine: Engine, pepper: Pepper, ticks: Any, statements: list[str]
) -> None:
    async with Keyring(engine, pepper, ticks=ticks, remembered=5) as keyring:
        text = (await issue(keyring)).text.reveal()
        await keyring.identify(text)
        for _ in range(20):
            with pytest.raises(Unauthenticated):
                await keyring.identify(new_key_text("client").reveal())
        statements.clear()
        await keyring.identify(text)
        assert statements == []
        assert len(keyring._unknown) == 5
        others = [(await issue(keyring)).text.reveal() for _ in range(8)]
        for other in others:
            await keyring.identify(other)
        assert len(keyring._known) == 5


async def test_a_key_revoked_elsewhere_works_for_the_cache_time_at_most(
    keyring: Keyring, engine: Engine, pepper: Pepper, ticks: Any
) -> None:
    issued = await issue(keyring)
    text = issued.text.reveal()
    await keyring.identify(text)
    async with Keyring(engine, pepper) as elsewhere:
        revoked = await elsewhere.revoke(issued.key.id, ROOT)
        assert revoked is not None
        with pytest.raises(Unauthenticated, match="revoked"):
            await elsewhere.identify(text)
    ticks.advance(29.9)
    assert await keyring.identify(text)
    ticks.advance(0.1)
    with pytest.raises(Unauthenticated, match="revoked"):
        await keyring.identify(text)


async def test_a_key_revoked_here_ends_at_once(keyring: Keyring) -> None:
    issued = await issue(keyring)
    await keyring.identify(issued.text.reveal())
    await keyring.revoke(issued.key.id, ROOT)
    with pytest.raises(Unauthenticated, match="revoked"):
        await keyring.identify(issued.text.reveal())


async def test_a_look_up_that_was_under_way_at_a_revocation_is_not_remembered(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = await issue(keyring)
    text = issued.text.reveal()
    find, reading, go_on = keyring._store.find, threading.Event(), threading.Event()

    def slow(digest: str) -> Any:
        found = find(digest)
        reading.set()
        assert go_on.wait(30)
        return found

    monkeypatch.setattr(keyring._store, "find", slow)
    early = asyncio.create_task(keyring.identify(text))
    await asyncio.to_thread(reading.wait, 30)
    await keyring.revoke(issued.key.id, ROOT)
    go_on.set()
    assert (await early).key_id == issued.key.id
    with pytest.raises(Unauthenticated, match="revoked"):
        await keyring.identify(text)


async def test_a_remembered_key_works_through_an_outage_and_no_other_does(
    keyring: Keyring, engine: Engine, ticks: Any, caplog: pytest.LogCaptureFixture
) -> None:
    known = (await issue(keyring)).text.reveal()
    unasked = (await issue(keyring)).text.reveal()
    await keyring.identify(known)
    outage = Outage(engine)
    outage.lasts = True
    ticks.advance(29.9)
    assert await keyring.identify(known)
    with caplog.at_level(logging.ERROR):
        for text in (unasked, new_key_text("client").reveal()):
            with pytest.raises(KeysUnavailable):
                await keyring.identify(text)
    assert caplog.text.count("the server is gone") == 1
    assert unasked not in caplog.text
    with pytest.raises(Unauthenticated):
        await keyring.identify("nonsense")
    ticks.advance(0.1)
    with pytest.raises(KeysUnavailable):
        await keyring.identify(known)
    outage.lasts = False
    ticks.advance(1.0)
    assert await keyring.identify(known)
    assert await keyring.identify(unasked)


async def test_a_database_that_failed_is_left_alone_for_a_moment(
    keyring: Keyring, engine: Engine, ticks: Any, statements: list[str]
) -> None:
    text = (await issue(keyring)).text.reveal()
    outage = Outage(engine)
    outage.lasts = True
    with pytest.raises(KeysUnavailable):
        await keyring.identify(text)
    outage.lasts = False
    statements.clear()
    with pytest.raises(KeysUnavailable):
        await keyring.identify(text)
    assert statements == []
    ticks.advance(1.0)
    assert await keyring.identify(text)


async def test_changes_in_an_outage_fail_with_one_line(keyring: Keyring, engine: Engine) -> None:
    await keyring.keys(ROOT)
    outage = Outage(engine)
    outage.lasts = True
    with pytest.raises(StoreError, match="cannot be written: the server is gone"):
        await issue(keyring)
    outage.lasts = False
    assert await keyring.keys(ROOT) == []


async def test_a_caller_who_leaves_while_a_key_is_looked_up_disturbs_no_other(
    keyring: Keyring,
) -> None:
    text = (await issue(keyring)).text.reveal()
    leaving = asyncio.create_task(keyring.identify(text))
    staying = asyncio.create_task(keyring.identify(text))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).tenant == "acme"
    assert leaving.cancelled() or await asyncio.gather(leaving, return_exceptions=True)


async def test_looking_up_never_blocks_the_event_loop(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()
    find = keyring._store.find

    def noting(digest: str) -> Any:
        threads.add(threading.current_thread().name)
        return find(digest)

    monkeypatch.setattr(keyring._store, "find", noting)
    await keyring.identify((await issue(keyring)).text.reveal())
    assert len(threads) == 1
    assert threads.pop().startswith("tutelage-keys")
