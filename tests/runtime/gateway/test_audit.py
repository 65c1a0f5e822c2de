from __future__ import annotations

import asyncio
import multiprocessing
from typing import Any

import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.exc import OperationalError

from tutelage.runtime.errors import StoreError
from tutelage.runtime.gateway.audit import ORIGIN, AuditLog
from tutelage.runtime.gateway.key_store import Operator
from tutelage.runtime.gateway.keyring import Keyring
from tutelage.runtime.gateway.keys import Pepper
from tutelage.runtime.gateway.orders import KeyOrder
from tutelage.runtime.secret import Secret
from tutelage.runtime.store import schema
from tutelage.runtime.store.database import begin_write, open_engine
from tutelage.runtime.store.transactions import Transactions

ROOT = Operator("root")
PEPPER = "a pepper for several processes"


@pytest.fixture
def log(engine: Engine, pepper: Pepper, clock: Any) -> AuditLog:
    return AuditLog(Transactions(engine), pepper, clock=clock)


async def fill(log: AuditLog, count: int) -> None:
    for number in range(count):
        await log.record(
            actor="operator:root", action="test", subject=f"s{number}", detail={"é": number / 7}
        )


def change(engine: Engine, entry: int, **values: Any) -> None:
    table = schema.audit
    with begin_write(engine) as connection:
        connection.execute(table.update().where(table.c.number == entry).values(**values))


def delete(engine: Engine, *numbers: int) -> None:
    table = schema.audit
    with begin_write(engine) as connection:
        connection.execute(table.delete().where(table.c.number.in_(numbers)))


async def test_an_empty_log_is_whole(log: AuditLog) -> None:
    verdict = await log.verify()
    assert (verdict.entries, verdict.head, verdict.problem) == (0, ORIGIN, None)
    assert await log.entries() == []


async def test_entries_come_back_in_order_and_in_pages(log: AuditLog, clock: Any) -> None:
    await fill(log, 5)
    entries = await log.entries()
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry.subject for entry in await log.entries(after=2, limit=2)] == ["s2", "s3"]
    first = entries[0]
    assert (first.at_s, first.actor, first.action) == (clock.now_s, "operator:root", "test")
    assert dict(first.detail) == {"é": 0.0}
    verdict = await log.verify()
    assert (verdict.entries, verdict.head, verdict.problem) == (5, entries[-1].digest, None)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at_s", 1.5),
        ("actor", "operator:mallory"),
        ("action", "other"),
        ("subject", "s9"),
        ("detail", "{}"),
        ("detail", "no JSON"),
        ("digest", "0" * 64),
        ("digest", "é"),
    ],
)
async def test_a_changed_entry_is_found(
    log: AuditLog, engine: Engine, column: str, value: Any
) -> None:
    await fill(log, 4)
    change(engine, 2, **{column: value})
    verdict = await log.verify()
    assert verdict.entries == 1
    assert verdict.problem is not None
    assert verdict.problem.startswith("entry 2 was changed")
    assert len(await log.entries()) == 4


async def test_a_removed_entry_is_found(log: AuditLog, engine: Engine) -> None:
    await fill(log, 4)
    delete(engine, 3)
    assert (await log.verify()).problem == "entry 3 is gone"
    change(engine, 4, number=3)
    problem = (await log.verify()).problem
    assert problem == "entry 3 does not follow the entry before it"


async def test_an_entry_that_was_rechained_without_the_pepper_is_found(
    log: AuditLog, engine: Engine
) -> None:
    await fill(log, 3)
    forger = AuditLog(Transactions(engine), Pepper(Secret("the pepper of a forger")))
    delete(engine, 3)
    await fill(forger, 1)
    problem = (await log.verify()).problem
    assert problem == "entry 3 was changed, or written under another pepper"


async def test_a_log_cut_short_is_found_by_its_former_head(log: AuditLog, engine: Engine) -> None:
    await fill(log, 3)
    before = await log.verify()
    await fill(log, 2)
    known = (before.entries, before.head)
    assert (await log.verify(known)).problem is None
    delete(engine, 4, 5)
    assert (await log.verify(known)).problem is None
    delete(engine, 2, 3)
    assert (await log.verify()).problem is None
    assert (await log.verify(known)).problem == "entries 2 to 3 are gone"
    await fill(log, 2)
    assert (await log.verify(known)).problem == "entry 3 is another one than it was"


async def test_a_long_log_is_checked_piece_by_piece(
    log: AuditLog, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tutelage.runtime.gateway.audit._ROWS_AT_ONCE", 3)
    await fill(log, 9)
    assert (await log.verify()).entries == 9
    change(engine, 8, subject="other")
    assert (await log.verify()).entries == 7


async def test_every_change_of_a_key_is_noted_with_who_did_it(keyring: Keyring) -> None:
    order = KeyOrder(name="boss", kind="admin")
    admin = (await keyring.create(order, ROOT)).key
    issued = await keyring.create(KeyOrder(name="ci", tenant="acme", budget_usd=1.0), admin)
    await keyring.rotate(issued.key.id, 5.0, admin)
    await keyring.revoke(issued.key.id, ROOT)
    entries = await keyring.audit.entries()
    assert [(entry.actor, entry.action, entry.subject) for entry in entries] == [
        ("operator:root", "key.create", admin.id),
        (f"key:{admin.id}", "key.create", issued.key.id),
        (f"key:{admin.id}", "key.rotate", issued.key.id),
        ("operator:root", "key.revoke", issued.key.id),
    ]
    assert entries[1].detail["budget_usd"] == 1.0
    assert entries[1].detail["tenant"] == "acme"
    assert entries[2].detail["overlap_s"] == 5.0
    assert issued.text.reveal() not in repr(entries)
    assert (await keyring.audit.verify()).problem is None


async def test_a_change_that_cannot_be_noted_is_not_made(keyring: Keyring, engine: Engine) -> None:
    issued = await keyring.create(KeyOrder(name="ci", tenant="acme"), ROOT)

    def refuse(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO audit"):
            raise OperationalError(statement, {}, Exception("disk full"))

    event.listen(engine, "before_cursor_execute", refuse)
    for change_it in (
        lambda: keyring.revoke(issued.key.id, ROOT),
        lambda: keyring.rotate(issued.key.id, 0.0, ROOT),
        lambda: keyring.create(KeyOrder(name="other", tenant="acme"), ROOT),
    ):
        with pytest.raises(StoreError, match="disk full"):
            await change_it()
    (key,) = await keyring.keys(ROOT)
    assert key == issued.key
    assert (await keyring.identify(issued.text.reveal())).key_id == key.id


def write(url: str, begin: Any, count: int) -> None:
    async def record() -> None:
        engine = open_engine(url)
        log = AuditLog(Transactions(engine), Pepper(Secret(PEPPER)))
        begin.wait()
        await asyncio.gather(
            *(
                log.record(actor="a", action="b", subject=str(number), detail={})
                for number in range(count)
            )
        )
        engine.dispose()

    asyncio.run(record())


def test_writers_of_several_processes_and_threads_keep_one_chain(
    database_url: str, engine: Engine
) -> None:
    spawn = multiprocessing.get_context("spawn")
    begin = spawn.Barrier(3)
    workers = [spawn.Process(target=write, args=(database_url, begin, 20)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 3
    verdict = asyncio.run(AuditLog(Transactions(engine), Pepper(Secret(PEPPER))).verify())
    assert (verdict.entries, verdict.problem) == (60, None)
    with engine.connect() as connection:
        subjects = connection.execute(select(schema.audit.c.subject)).scalars().all()
    assert sorted(subjects) == sorted([str(number) for number in range(20)] * 3)
