from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.gateway.rate_limits import RateLimit

NOW_S = 1_800_000_000.0


@pytest.mark.parametrize("per_minute", [1, 3, 7, 60, 1000])
def test_a_full_bucket_holds_exactly_a_minutes_worth(per_minute: int) -> None:
    limit, full_at_s = RateLimit(per_minute), 0.0
    for taken in range(per_minute):
        assert limit.wait_s(full_at_s, 1, NOW_S) == 0.0
        assert round(limit.left(full_at_s, NOW_S)) == per_minute - taken
        full_at_s = limit.taken(full_at_s, 1, NOW_S)
    assert limit.wait_s(full_at_s, 1, NOW_S) == pytest.approx(60 / per_minute, abs=1e-3)
    assert limit.left(full_at_s, NOW_S) == pytest.approx(0.0, abs=1e-3)


def test_after_the_wait_one_more_is_let_through() -> None:
    limit = RateLimit(2)
    full_at_s = limit.taken(limit.taken(0.0, 1, NOW_S), 1, NOW_S)
    wait_s = limit.wait_s(full_at_s, 1, NOW_S)
    assert limit.wait_s(full_at_s, 1, NOW_S + wait_s - 0.01) > 0
    assert limit.wait_s(full_at_s, 1, NOW_S + wait_s) == 0.0
    assert limit.wait_s(full_at_s, 1, NOW_S + 1000) == 0.0


def test_what_is_larger_than_a_bucket_needs_a_full_one_and_leaves_a_debt() -> None:
    limit = RateLimit(100)
    assert limit.wait_s(0.0, 250, NOW_S) == 0.0
    assert limit.wait_s(limit.taken(0.0, 1, NOW_S), 250, NOW_S) > 0
    full_at_s = limit.taken(0.0, 250, NOW_S)
    assert limit.wait_s(full_at_s, 1, NOW_S) == pytest.approx(90.6, abs=0.01)
    assert limit.left(full_at_s, NOW_S) == 0.0


def test_what_is_given_back_can_be_taken_again_but_no_more() -> None:
    limit = RateLimit(100)
    full_at_s = limit.taken(limit.taken(0.0, 100, NOW_S), -40, NOW_S)
    assert round(limit.left(full_at_s, NOW_S)) == 40
    assert round(limit.left(limit.taken(full_at_s, -1000, NOW_S), NOW_S)) == 100


def test_a_debt_is_paid_in_ten_minutes_however_large() -> None:
    limit = RateLimit(1)
    full_at_s = limit.taken(0.0, 10**18, NOW_S)
    assert limit.wait_s(full_at_s, 1, NOW_S) == pytest.approx(600.0)
    assert limit.wait_s(full_at_s, 1, NOW_S + 600) == 0.0


def test_a_clock_that_was_set_back_locks_nobody_out() -> None:
    limit = RateLimit(1)
    full_at_s = limit.taken(0.0, 1, NOW_S)
    assert limit.wait_s(full_at_s, 1, NOW_S - 86_400) == 0.0
    assert limit.wait_s(full_at_s, 1, NOW_S - 1) == pytest.approx(61.0)


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 30), st.integers(1, 5)), max_size=80),
)
def test_no_time_sees_more_than_the_limit_and_one_bucket(
    per_minute: int, arrivals: list[tuple[float, int]]
) -> None:
    limit, full_at_s, now_s = RateLimit(per_minute), 0.0, NOW_S
    let_through: list[tuple[float, int]] = []
    for pause_s, units in arrivals:
        now_s += pause_s
        wait_s = limit.wait_s(full_at_s, units, now_s)
        if wait_s == 0.0 and units <= per_minute:
            full_at_s = limit.taken(full_at_s, units, now_s)
            let_through.append((now_s, units))
    for position, (begin_s, _) in enumerate(let_through):
        total = 0
        for at_s, units in let_through[position:]:
            total += units
            allowed = per_minute + per_minute * (at_s - begin_s) / 60
            assert total <= allowed + 1e-2
