"""What keys have spent, reserved and used, counted in the database for all workers together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select, tuple_
from sqlalchemy import func as sql
from sqlalchemy.dialects import postgresql, sqlite

from tutelage.runtime.errors import OverBudget, OverLimit
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.gateway.rate_limits import RateLimit
from tutelage.runtime.store import schema
from tutelage.runtime.store.transactions import Transactions

NANO = 1_000_000_000
"""Money is counted in whole billionths of a USD: sums of floats would drift."""

_LARGEST = 2**62
_PARALLEL_WAIT_S = 1.0
# A lapsed reservation is kept so long, so that a late settlement is still counted, and only once.
_KEPT_S = 86_400.0
_PURGE_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Admit:
    """A request that wants to be served."""

    id: str
    caller: Caller
    nanousd: int
    tokens: int

    @property
    def held_nanousd(self) -> int:
        """What is reserved: nothing where no budget is to be kept."""
        return 0 if self.caller.budget_usd is None else self.nanousd


@dataclass(frozen=True, slots=True)
class Settle:
    """A request that has ended; zeros where nothing came of it."""

    id: str
    caller: Caller
    nanousd: int
    tokens: int


Operation = Admit | Settle
Refusal = OverLimit | OverBudget


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a key stands; ``None`` where it has no such limit."""

    spent_usd: float
    """Settled in this period."""
    reserved_usd: float
    """Held back for requests under way."""
    in_flight: int
    budget_usd: float | None = None
    left_usd: float | None = None
    period_started_at_s: float | None = None
    renews_at_s: float | None = None
    """When the budget is whole again; ``None``: never."""
    requests_left: int | None = None
    tokens_left: int | None = None


@dataclass(slots=True)
class _Meter:
    period_started_s: float
    spent_nanousd: int
    requests_full_at_s: float
    tokens_full_at_s: float
    reserved_nanousd: int = 0
    in_flight: int = 0

    def turn(self, caller: Caller, now_s: float) -> None:
        """Begins the period that ``now_s`` lies in."""
        period_s = caller.budget_period_s
        if period_s is None:
            return
        periods = math.floor((now_s - self.period_started_s) / period_s)
        if periods > 0:
            self.spent_nanousd = 0
        if periods > 0 or periods < -1:
            # A start just ahead is another worker's clock, one further ahead was a wrong clock.
            self.period_started_s += periods * period_s

    def refusal(self, asked: Admit, now_s: float) -> Refusal | None:
        """Why the request may not be served now; ``None``: it may."""
        caller = asked.caller
        if caller.parallel_requests is not None and self.in_flight >= caller.parallel_requests:
            return OverLimit(
                f"{self.in_flight} requests of this key are under way, and "
                f"{caller.parallel_requests} may be: wait for one to end",
                retry_after_s=_PARALLEL_WAIT_S,
            )
        for per_minute, full_at_s, units, what in (
            (caller.requests_per_minute, self.requests_full_at_s, 1, "requests"),
            (caller.tokens_per_minute, self.tokens_full_at_s, asked.tokens, "tokens"),
        ):
            if per_minute is None:
                continue
            wait_s = RateLimit(per_minute).wait_s(full_at_s, units, now_s)
            if wait_s > 0:
                return OverLimit(
                    f"this key may use {per_minute} {what} a minute: try again in {wait_s:.1f} s",
                    retry_after_s=wait_s,
                )
        return self._over_budget(asked)

    def _over_budget(self, asked: Admit) -> OverBudget | None:
        caller = asked.caller
        if caller.budget_usd is None:
            return None
        if self.spent_nanousd + self.reserved_nanousd + asked.nanousd <= nanousd(caller.budget_usd):
            return None
        renewed = ""
        if caller.budget_period_s is not None:
            renews_at_s = self.period_started_s + caller.budget_period_s
            renewed = (
                f"; it renews at {datetime.fromtimestamp(renews_at_s, UTC):%Y-%m-%d %H:%M} UTC"
            )
        return OverBudget(
            f"the budget of this key, {caller.budget_usd:g} USD, does not cover this request of up "
            f"to {_usd(asked.nanousd):g} USD: {_usd(self.spent_nanousd):g} are spent and "
            f"{_usd(self.reserved_nanousd):g} reserved by requests under way{renewed}"
        )

    def admit(self, asked: Admit, now_s: float) -> None:
        caller = asked.caller
        if caller.requests_per_minute is not None:
            limit = RateLimit(caller.requests_per_minute)
            self.requests_full_at_s = limit.taken(self.requests_full_at_s, 1, now_s)
        self._take_tokens(caller, asked.tokens, now_s)
        self.reserved_nanousd += asked.held_nanousd
        self.in_flight += 1

    def settle(self, ended: Settle, held: _Held, now_s: float) -> None:
        self.spent_nanousd = min(self.spent_nanousd + ended.nanousd, _LARGEST)
        self._take_tokens(ended.caller, ended.tokens - held.tokens, now_s)
        if held.expires_at_s > now_s:
            self.reserved_nanousd -= held.nanousd
            self.in_flight -= 1

    def _take_tokens(self, caller: Caller, tokens: int, now_s: float) -> None:
        if caller.tokens_per_minute is not None:
            limit = RateLimit(caller.tokens_per_minute)
            self.tokens_full_at_s = limit.taken(self.tokens_full_at_s, tokens, now_s)


@dataclass(frozen=True, slots=True)
class _Held:
    nanousd: int
    tokens: int
    expires_at_s: float


Place = tuple[str, str]
"""Tenant and key."""


class Meters:
    """Admits and settles requests, many of them in one transaction. Blocking.

    Args:
        transactions: Of the database.
        clock: Unix seconds.
        reservation_s: After how long a reservation that nobody settles lapses.
    """

    def __init__(
        self,
        transactions: Transactions,
        *,
        clock: Callable[[], float] = time.time,
        reservation_s: float = 900.0,
    ) -> None:
        self._transactions = transactions
        self._clock = clock
        self._reservation_s = reservation_s
        self._purge_at_s = float("-inf")

    def apply(self, operations: Sequence[Operation]) -> list[Refusal | None]:
        """Does all of them in order, or none; why each is refused, in the same order.

        A settlement that comes twice counts once.

        Raises:
            StoreError: The database cannot be written.
        """
        callers = {_place(operation.caller): operation.caller for operation in operations}
        with self._transactions.writing() as connection:
            now_s = self._clock()
            self._purge(connection, now_s)
            meters = self._locked(connection, callers, now_s)
            ids = [operation.id for operation in operations if isinstance(operation, Settle)]
            held = _held(connection, ids)
            for place, caller in callers.items():
                meters[place].turn(caller, now_s)
            refusals: list[Refusal | None] = []
            admitted: list[Admit] = []
            for operation in operations:
                meter = meters[_place(operation.caller)]
                refusal: Refusal | None = None
                if isinstance(operation, Settle):
                    reservation = held.pop(operation.id, None)
                    if reservation is not None:
                        meter.settle(operation, reservation, now_s)
                elif (refusal := meter.refusal(operation, now_s)) is None:
                    meter.admit(operation, now_s)
                    admitted.append(operation)
                refusals.append(refusal)
            if ids or admitted:
                self._write(connection, meters, admitted, ids, now_s)
        return refusals

    def standing(self, caller: Caller) -> Standing:
        """Where the key stands now.

        Raises:
            StoreError: The database cannot be read.
        """
        place = _place(caller)
        with self._transactions.reading() as connection:
            now_s = self._clock()
            meter = _load(connection, [place], now_s).get(place)
            if meter is None:
                meter = _new_meter(_created_at(connection, [place]).get(place, now_s))
        meter.turn(caller, now_s)
        budget_usd, period_s = caller.budget_usd, caller.budget_period_s
        left = None
        if budget_usd is not None:
            left = nanousd(budget_usd) - meter.spent_nanousd - meter.reserved_nanousd
        has_period = budget_usd is not None and period_s is not None
        return Standing(
            spent_usd=_usd(meter.spent_nanousd),
            reserved_usd=_usd(meter.reserved_nanousd),
            in_flight=meter.in_flight,
            budget_usd=budget_usd,
            left_usd=None if left is None else _usd(max(0, left)),
            period_started_at_s=None if budget_usd is None else meter.period_started_s,
            renews_at_s=meter.period_started_s + (period_s or 0.0) if has_period else None,
            requests_left=_left(caller.requests_per_minute, meter.requests_full_at_s, now_s),
            tokens_left=_left(caller.tokens_per_minute, meter.tokens_full_at_s, now_s),
        )

    def _locked(
        self, connection: Connection, callers: Mapping[Place, Caller], now_s: float
    ) -> dict[Place, _Meter]:
        # In one order everywhere, so that two workers never wait for each other.
        places = sorted(callers)
        found = _load(connection, places, now_s, lock=True)
        missing = [place for place in places if place not in found]
        if not missing:
            return found
        created_at_s = _created_at(connection, missing)
        rows = []
        for place in missing:
            meter = _new_meter(created_at_s.get(place, now_s))
            rows.append({"tenant": place[0], "key_id": place[1], **_columns(meter)})
        insert: Callable[..., Any] = (
            postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        )
        connection.execute(insert(schema.meters).on_conflict_do_nothing(), rows)
        return _load(connection, places, now_s, lock=True)

    def _write(
        self,
        connection: Connection,
        meters: Mapping[Place, _Meter],
        admitted: Sequence[Admit],
        settled: Sequence[str],
        now_s: float,
    ) -> None:
        table = schema.reservations
        if settled:
            connection.execute(table.delete().where(table.c.id.in_(settled)))
        if admitted:
            expires_at_s = now_s + self._reservation_s
            rows = [
                {
                    "id": one.id,
                    "tenant": one.caller.tenant,
                    "key_id": one.caller.key_id,
                    "nanousd": one.held_nanousd,
                    "tokens": one.tokens,
                    "expires_at_s": expires_at_s,
                }
                for one in admitted
            ]
            connection.execute(table.insert(), rows)
        meter_table = schema.meters
        update = meter_table.update().where(
            meter_table.c.tenant == bindparam("of_tenant"),
            meter_table.c.key_id == bindparam("of_key"),
        )
        changes = [
            {"of_tenant": tenant, "of_key": key_id, **_columns(meter)}
            for (tenant, key_id), meter in meters.items()
        ]
        connection.execute(update, changes)

    def _purge(self, connection: Connection, now_s: float) -> None:
        # The second condition is for a clock that was set back.
        if now_s < self._purge_at_s and self._purge_at_s - now_s <= _PURGE_EVERY_S:
            return
        self._purge_at_s = now_s + _PURGE_EVERY_S
        table = schema.reservations
        connection.execute(table.delete().where(table.c.expires_at_s < now_s - _KEPT_S))


def nanousd(usd: float) -> int:
    """Billionths of a USD, as they are stored.

    Raises:
        ValueError: The sum is negative or no number.
    """
    if not (math.isfinite(usd) and usd >= 0):
        raise ValueError(f"{usd} USD is no sum that can be counted")
    return round(min(usd * NANO, _LARGEST))


def whole_tokens(tokens: int) -> int:
    """Tokens, as they are stored.

    Raises:
        ValueError: The number is negative.
    """
    if tokens < 0:
        raise ValueError(f"{tokens} tokens cannot be counted")
    return min(tokens, _LARGEST)


def _usd(counted: int) -> float:
    return counted / NANO


def _place(caller: Caller) -> Place:
    return caller.tenant, caller.key_id


def _left(per_minute: int | None, full_at_s: float, now_s: float) -> int | None:
    if per_minute is None:
        return None
    return int(RateLimit(per_minute).left(full_at_s, now_s) + 1e-3)


def _new_meter(created_at_s: float) -> _Meter:
    return _Meter(created_at_s, 0, 0.0, 0.0)


def _columns(meter: _Meter) -> dict[str, Any]:
    return {
        "period_started_s": meter.period_started_s,
        "spent_nanousd": meter.spent_nanousd,
        "requests_full_at_s": meter.requests_full_at_s,
        "tokens_full_at_s": meter.tokens_full_at_s,
    }


def _load(
    connection: Connection, places: Sequence[Place], now_s: float, *, lock: bool = False
) -> dict[Place, _Meter]:
    table = schema.meters
    query = (
        select(table)
        .where(tuple_(table.c.tenant, table.c.key_id).in_(places))
        .order_by(table.c.tenant, table.c.key_id)
    )
    found = {
        (row.tenant, row.key_id): _Meter(
            row.period_started_s,
            row.spent_nanousd,
            row.requests_full_at_s,
            row.tokens_full_at_s,
        )
        for row in connection.execute(query.with_for_update() if lock else query)
    }
    held = schema.reservations
    sums = (
        select(held.c.tenant, held.c.key_id, sql.count(), sql.sum(held.c.nanousd))
        .where(
            tuple_(held.c.tenant, held.c.key_id).in_(places),
            held.c.expires_at_s > now_s,
        )
        .group_by(held.c.tenant, held.c.key_id)
    )
    for tenant, key_id, count, reserved in connection.execute(sums):
        meter = found.get((tenant, key_id))
        if meter is not None:
            meter.in_flight, meter.reserved_nanousd = count, int(reserved)
    return found


def _created_at(connection: Connection, places: Sequence[Place]) -> dict[Place, float]:
    table = schema.keys
    query = select(table.c.tenant, table.c.id, table.c.created_at_s).where(
        tuple_(table.c.tenant, table.c.id).in_(places)
    )
    return {(row.tenant, row.id): row.created_at_s for row in connection.execute(query)}


def _held(connection: Connection, ids: Sequence[str]) -> dict[str, _Held]:
    if not ids:
        return {}
    table = schema.reservations
    query = select(table).where(table.c.id.in_(ids))
    return {
        row.id: _Held(row.nanousd, row.tokens, row.expires_at_s)
        for row in connection.execute(query)
    }
