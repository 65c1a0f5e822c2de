from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from sqlalchemy import Engine, select

from tutelage.runtime.errors import (
    BadRequest,
    Forbidden,
    Unauthenticated,
)
from tutelage.runtime.gateway.key_store import IssuedKey, Operator
from tutelage.runtime.gateway.keyring import Keyring
from tutelage.runtime.gateway.keys import Key
from tutelage.runtime.gateway.orders import KeyOrder
from tutelage.runtime.store import schema

ROOT = Operator("root")


def order(**fields: Any) -> KeyOrder:
    return KeyOrder.model_validate({"name": "ci", "tenant": "acme", **fields})


async def issue(keyring: Keyring, by: Operator | Key = ROOT, **fields: Any) -> IssuedKey:
    return await keyring.create(order(**fields), by)


async def test_revoking_again_changes_nothing(keyring: Keyring, clock: Any) -> None:
    issued = await issue(keyring)
    first = await keyring.revoke(issued.key.id, ROOT)
    clock.advance(10)
    assert await keyring.revoke(issued.key.id, ROOT) == first
    assert await keyring.revoke("key_0000000000000000", ROOT) is None
    assert [entry.action for entry in await keyring.audit.entries()] == [
        "key.create",
        "key.revoke",
    ]


async def test_a_rotated_key_keeps_all_but_its_text(keyring: Keyring, clock: Any) -> None:
    old = await issue(keyring, requests_per_minute=3, expires_in_s=1000)
    before = await keyring.identify(old.text.reveal())
    new = await keyring.rotate(old.key.id, 60.0, ROOT)
    assert new is not None
    assert new.text != old.text
    assert await keyring.identify(new.text.reveal()) == before
    assert await keyring.identify(old.text.reveal()) == before
    assert new.key.prefixes == (new.key.prefixes[0], *old.key.prefixes)
    clock.advance(60)
    with pytest.raises(Unauthenticated, match="expired"):
        await keyring.identify(old.text.reveal())
    assert await keyring.identify(new.text.reveal()) == before
    (listed,) = await keyring.keys(ROOT)
    assert listed == dataclasses.replace(new.key, prefixes=new.key.prefixes[:1])


async def test_a_second_rotation_does_not_prolong_the_oldest_text(
    keyring: Keyring, clock: Any, engine: Engine
) -> None:
    first = await issue(keyring)
    second = await keyring.rotate(first.key.id, 10.0, ROOT)
    third = await keyring.rotate(first.key.id, 1000.0, ROOT)
    assert second is not None
    assert third is not None
    clock.advance(10)
    with pytest.raises(Unauthenticated):
        await keyring.identify(first.text.reveal())
    assert await keyring.identify(second.text.reveal())
    fourth = await keyring.rotate(first.key.id, 0.0, ROOT)
    assert fourth is not None
    for text in (first.text, second.text, third.text):
        with pytest.raises(Unauthenticated):
            await keyring.identify(text.reveal())
    assert await keyring.identify(fourth.text.reveal())
    await keyring.rotate(first.key.id, 0.0, ROOT)
    with engine.connect() as connection:
        assert len(connection.execute(select(schema.key_digests)).all()) == 2


async def test_rotations_that_run_together_leave_one_lasting_text(
    keyring: Keyring, clock: Any
) -> None:
    issued = await issue(keyring)
    rotated = await asyncio.gather(*(keyring.rotate(issued.key.id, 5.0, ROOT) for _ in range(4)))
    clock.advance(5)
    alive = 0
    for one in rotated:
        assert one is not None
        try:
            await keyring.identify(one.text.reveal())
        except Unauthenticated:
            continue
        alive += 1
    assert alive == 1


async def test_a_key_that_has_ended_is_not_rotated(keyring: Keyring, clock: Any) -> None:
    revoked, expired = await issue(keyring), await issue(keyring, expires_in_s=5)
    await keyring.revoke(revoked.key.id, ROOT)
    clock.advance(5)
    for issued in (revoked, expired):
        with pytest.raises(BadRequest, match="revoked or expired"):
            await keyring.rotate(issued.key.id, 0.0, ROOT)
    assert await keyring.rotate("key_0000000000000000", 0.0, ROOT) is None


async def test_a_child_has_no_more_rights_than_its_maker(keyring: Keyring) -> None:
    maker = (
        await issue(
            keyring,
            kind="admin",
            aliases=["gpt", "mini"],
            requests_per_minute=10,
            budget_usd=5,
            budget_period_s=3600,
            writer=False,
            expires_in_s=1000,
        )
    ).key
    for asked, named in (
        ({"tenant": "other"}, "tenant"),
        ({"aliases": ["gpt", "o3"]}, "aliases"),
        ({"requests_per_minute": 11}, "requests_per_minute"),
        ({"budget_usd": 5.01}, "budget_usd"),
        ({"budget_usd": 5, "budget_period_s": 60}, "budget_period_s"),
        ({"budget_period_s": 60}, "budget_period_s"),
        ({"writer": True}, "writer"),
        ({"expires_in_s": 1001}, "expires_in_s"),
        ({"kind": "admin", "requests_per_minute": 11}, "requests_per_minute"),
    ):
        with pytest.raises(Forbidden, match=named):
            await issue(keyring, maker, **asked)
    child = (await issue(keyring, maker, tenant=None, requests_per_minute=2)).key
    assert child.tenant == "acme"
    assert child.expires_at_s == maker.expires_at_s
    assert child.rights == dataclasses.replace(maker.rights, requests_per_minute=2)
    assert child.created_by == f"key:{maker.id}"


async def test_a_key_of_a_client_makes_no_keys(keyring: Keyring) -> None:
    client = (await issue(keyring)).key
    with pytest.raises(Forbidden, match="no key of the administration"):
        await issue(keyring, client)


async def test_nobody_takes_over_a_key_with_more_rights(keyring: Keyring) -> None:
    strong = (await issue(keyring, kind="admin")).key
    weak = (await issue(keyring, kind="admin", budget_usd=1)).key
    short = (await issue(keyring, kind="admin", expires_in_s=100)).key
    for by in (weak, short):
        with pytest.raises(Forbidden):
            await keyring.rotate(strong.id, 0.0, by)
    assert await keyring.rotate(weak.id, 0.0, strong) is not None


async def test_an_administrator_of_a_tenant_meets_no_other(keyring: Keyring) -> None:
    ours = (await issue(keyring, kind="admin")).key
    theirs = await issue(keyring, tenant="other")
    everywhere = await issue(keyring, kind="admin", tenant=None)
    for id in (theirs.key.id, everywhere.key.id):
        assert await keyring.key(id, ours) is None
        assert await keyring.revoke(id, ours) is None
        assert await keyring.rotate(id, 0.0, ours) is None
    assert [key.id for key in await keyring.keys(ours)] == [ours.id]
    assert await keyring.keys(ours, "other") == []
    assert len(await keyring.keys(everywhere.key)) == 3
    assert [key.id for key in await keyring.keys(ROOT, "other")] == [theirs.key.id]
    assert await keyring.identify(theirs.text.reveal())


async def test_an_order_that_contradicts_itself_is_refused(keyring: Keyring) -> None:
    with pytest.raises(BadRequest, match="needs a tenant") as caught:
        await issue(keyring, tenant=None)
    assert caught.value.param == "tenant"
    with pytest.raises(BadRequest, match="give budget_usd"):
        await issue(keyring, budget_period_s=60)
