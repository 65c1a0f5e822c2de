from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from tutelage.runtime.errors import (
    OverBudget,
    OverLimit,
)
from tutelage.runtime.gateway.admission import Admission, Reservation
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.gateway.key_store import Operator
from tutelage.runtime.gateway.keyring import Keyring
from tutelage.runtime.gateway.orders import KeyOrder
from tutelage.runtime.store import schema

DAY_S = 86_400.0


def caller(**limits: Any) -> Caller:
    return Caller(**{"tenant": "acme", "key_id": "key_1", **limits})


async def admit(
    admission: Admission, who: Caller, usd: float = 0.0, tokens: int = 0
) -> Reservation:
    return await admission.admit(who, estimate_usd=usd, estimate_tokens=tokens)


async def test_a_budget_is_reserved_then_settled(admission: Admission) -> None:
    who = caller(budget_usd=1.0)
    first = await admit(admission, who, usd=0.6)
    with pytest.raises(
        OverBudget, match=r"1 USD, does not cover .* 0\.5 USD: 0 are spent and 0\.6"
    ):
        await admit(admission, who, usd=0.5)
    standing = await admission.explain(who)
    assert (standing.spent_usd, standing.reserved_usd, standing.left_usd) == (0.0, 0.6, 0.4)
    assert standing.in_flight == 1
    await first.settle(0.1, 50)
    standing = await admission.explain(who)
    assert (standing.spent_usd, standing.reserved_usd, standing.left_usd) == (0.1, 0.0, 0.9)
    assert (standing.in_flight, standing.budget_usd) == (0, 1.0)
    second = await admit(admission, who, usd=0.9)
    await second.release()
    assert (await admission.explain(who)).left_usd == 0.9


async def test_sums_of_cents_are_exact(admission: Admission) -> None:
    who = caller(budget_usd=0.3)
    for _ in range(3):
        await (await admit(admission, who, usd=0.1)).settle(0.1, 1)
    assert (await admission.explain(who)).left_usd == 0.0
    with pytest.raises(OverBudget):
        await admit(admission, who, usd=1e-9)
    assert await admit(admission, who, usd=0.0)


async def test_a_budget_of_nothing_serves_what_costs_nothing(admission: Admission) -> None:
    who = caller(budget_usd=0.0)
    assert await admit(admission, who, usd=0.0)
    with pytest.raises(OverBudget):
        await admit(admission, who, usd=0.01)


async def test_more_than_the_estimate_is_booked_as_it_is(admission: Admission) -> None:
    who = caller(budget_usd=1.0)
    await (await admit(admission, who, usd=0.1)).settle(1.5, 1)
    standing = await admission.explain(who)
    assert (standing.spent_usd, standing.left_usd) == (1.5, 0.0)
    with pytest.raises(OverBudget):
        await admit(admission, who, usd=0.0)


async def test_keys_and_tenants_are_counted_apart(admission: Admission) -> None:
    for who in (
        caller(budget_usd=1.0),
        caller(budget_usd=1.0, key_id="key_2"),
        caller(budget_usd=1.0, tenant="other"),
    ):
        await admit(admission, who, usd=1.0)
    with pytest.raises(OverBudget):
        await admit(admission, caller(budget_usd=1.0), usd=0.1)


async def test_a_budget_renews_by_periods_from_the_creation_of_the_key(
    keyring: Keyring, admission: Admission, clock: Any
) -> None:
    issued = await keyring.create(
        KeyOrder(name="ci", tenant="acme", budget_usd=1.0, budget_period_s=DAY_S), Operator("root")
    )
    who = issued.key.caller()
    created_s = clock.now_s
    clock.advance(0.6 * DAY_S)
    assert (await admission.explain(who)).renews_at_s == created_s + DAY_S
    await (await admit(admission, who, usd=1.0)).settle(1.0, 1)
    with pytest.raises(OverBudget, match="renews at 2027-01-16"):
        await admit(admission, who, usd=0.1)
    clock.advance(0.4 * DAY_S - 0.01)
    with pytest.raises(OverBudget):
        await admit(admission, who, usd=0.1)
    clock.advance(0.01)
    standing = await admission.explain(who)
    assert (standing.left_usd, standing.period_started_at_s) == (1.0, created_s + DAY_S)
    await (await admit(admission, who, usd=1.0)).settle(0.7, 1)
    assert (await admission.explain(who)).left_usd == pytest.approx(0.3)
    clock.advance(10.5 * DAY_S)
    standing = await admission.explain(who)
    assert (standing.left_usd, standing.renews_at_s) == (1.0, created_s + 12 * DAY_S)


async def test_what_is_under_way_when_a_period_ends_counts_in_the_next(
    admission: Admission, clock: Any
) -> None:
    who = caller(budget_usd=1.0, budget_period_s=100.0)
    reservation = await admit(admission, who, usd=0.8)
    clock.advance(100)
    assert (await admission.explain(who)).left_usd == pytest.approx(0.2)
    await reservation.settle(0.5, 1)
    assert (await admission.explain(who)).left_usd == 0.5


async def test_a_clock_slightly_behind_at_the_end_of_a_period_renews_nothing_twice(
    admission: Admission, clock: Any
) -> None:
    who = caller(budget_usd=1.0, budget_period_s=100.0)
    await admit(admission, who)
    clock.advance(100)
    await (await admit(admission, who, usd=0.8)).settle(0.8, 1)
    clock.advance(-1)
    await (await admit(admission, who, usd=0.1)).settle(0.1, 1)
    clock.advance(1)
    assert (await admission.explain(who)).spent_usd == pytest.approx(0.9)


async def test_a_period_that_a_wrong_clock_began_is_left_again(
    admission: Admission, clock: Any
) -> None:
    who = caller(budget_usd=1.0, budget_period_s=100.0)
    clock.advance(365 * DAY_S)
    await admit(admission, who)
    clock.advance(-365 * DAY_S)
    renews_at_s = (await admission.explain(who)).renews_at_s
    assert renews_at_s is not None
    assert renews_at_s - clock.now_s <= 200


async def test_a_budget_without_period_never_renews(admission: Admission, clock: Any) -> None:
    who = caller(budget_usd=1.0)
    await (await admit(admission, who, usd=1.0)).settle(1.0, 1)
    clock.advance(1000 * DAY_S)
    with pytest.raises(OverBudget) as caught:
        await admit(admission, who, usd=0.1)
    assert "renews" not in str(caught.value)
    assert (await admission.explain(who)).renews_at_s is None


async def test_the_reservation_of_a_worker_that_died_lapses(
    admission: Admission, clock: Any
) -> None:
    who = caller(budget_usd=1.0, parallel_requests=1)
    await admit(admission, who, usd=1.0)
    clock.advance(899)
    with pytest.raises(OverLimit):
        await admit(admission, who, usd=1.0)
    clock.advance(1)
    standing = await admission.explain(who)
    assert (standing.reserved_usd, standing.in_flight) == (0.0, 0)
    assert await admit(admission, who, usd=1.0)


async def test_a_settlement_after_the_lapse_is_still_booked_once(
    admission: Admission, clock: Any
) -> None:
    who = caller(budget_usd=1.0)
    reservation = await admit(admission, who, usd=0.5)
    clock.advance(1000)
    other = await admit(admission, who, usd=0.5)
    await reservation.settle(0.25, 1)
    standing = await admission.explain(who)
    assert (standing.spent_usd, standing.reserved_usd, standing.in_flight) == (0.25, 0.5, 1)
    await other.release()


async def test_reservations_that_lapsed_long_ago_are_deleted(
    admission: Admission, clock: Any, engine: Engine
) -> None:
    for _ in range(3):
        await admit(admission, caller(budget_usd=1.0), usd=0.1)
    clock.advance(2 * DAY_S)
    await admit(admission, caller(budget_usd=1.0), usd=0.1)
    with engine.connect() as connection:
        left = connection.execute(select(func.count()).select_from(schema.reservations)).scalar()
    assert left == 1


async def test_requests_a_minute_are_held_with_the_time_to_wait(
    admission: Admission, clock: Any
) -> None:
    who = caller(requests_per_minute=6)
    for left in range(6, 0, -1):
        assert (await admission.explain(who)).requests_left == left
        await (await admit(admission, who)).release()
    with pytest.raises(OverLimit, match="6 requests a minute") as caught:
        await admit(admission, who)
    assert caught.value.retry_after_s == pytest.approx(10.0, abs=0.01)
    clock.advance(caught.value.retry_after_s)
    assert await admit(admission, who)
    with pytest.raises(OverLimit):
        await admit(admission, who)


async def test_tokens_a_minute_follow_what_was_really_used(
    admission: Admission, clock: Any
) -> None:
    who = caller(tokens_per_minute=1000)
    reservation = await admit(admission, who, tokens=900)
    assert (await admission.explain(who)).tokens_left == 100
    with pytest.raises(OverLimit, match="1000 tokens a minute") as caught:
        await admit(admission, who, tokens=400)
    assert caught.value.retry_after_s == pytest.approx(18.0, abs=0.01)
    await reservation.settle(0.0, 200)
    assert (await admission.explain(who)).tokens_left == 800
    used_more = await admit(admission, who, tokens=100)
    await used_more.settle(0.0, 800)
    assert (await admission.explain(who)).tokens_left == 0
    clock.advance(60)
    given_back = await admit(admission, who, tokens=500)
    await given_back.release()
    assert (await admission.explain(who)).tokens_left == 1000


async def test_requests_at_once_are_held(admission: Admission) -> None:
    who = caller(parallel_requests=2)
    first, second = await admit(admission, who), await admit(admission, who)
    with pytest.raises(OverLimit, match="2 requests of this key are under way") as caught:
        await admit(admission, who)
    assert caught.value.retry_after_s == 1.0
    await first.settle(0.0, 1)
    third = await admit(admission, who)
    await second.release()
    await third.release()
    assert (await admission.explain(who)).in_flight == 0


async def test_a_refused_request_uses_up_nothing(admission: Admission) -> None:
    who = caller(requests_per_minute=2, tokens_per_minute=100, budget_usd=1.0)
    for _ in range(5):
        with pytest.raises(OverBudget):
            await admit(admission, who, usd=2.0, tokens=10)
    standing = await admission.explain(who)
    assert (standing.requests_left, standing.tokens_left) == (2, 100)
    assert (standing.left_usd, standing.in_flight) == (1.0, 0)


async def test_huge_numbers_are_counted_as_very_large_ones(admission: Admission) -> None:
    who = caller(tokens_per_minute=10, budget_usd=1e9)
    with pytest.raises(OverBudget):
        await admit(admission, who, usd=1e300, tokens=10**30)
    for _ in range(3):
        await (await admit(admission, caller(parallel_requests=9), usd=0.0)).settle(1e300, 10**30)
    assert (await admission.explain(who)).left_usd == 0.0
