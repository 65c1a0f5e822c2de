from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.runtime.ledger import Ledger
from tutelage.runtime.prefix_cache import CountedPart, PrefixCacheMeter
from tutelage.runtime.pricing import Price, PriceTable
from tutelage.runtime.teacher_cost import TeacherCost
from tutelage.runtime.types import Served, Step, Turn

PRICE = Price(input=4.0, output=8.0, cache_read=1.0)
COST = TeacherCost(Ledger({"teacher": PRICE}), "any", least_cached_tokens=0)


def step(*turns: tuple[int, int, Served | None], goal: int = 0, now: int = 0) -> Step:
    """An episode of turns ``(characters seen, characters of the action, who served)``."""
    history = tuple(Turn("o" * seen, "a" * did, served) for seen, did, served in turns)
    return Step("t", "e", len(history), "g" * goal, "o" * now, history)


def usd(*, full: int = 0, cached: int = 0, output: int = 0) -> float:
    return (full * 4 + cached * 1 + output * 8) / 1e6


def test_an_opening_is_all_new_and_its_answer_is_of_a_usual_length() -> None:
    assert COST(step(goal=40, now=400)) == pytest.approx(usd(full=110, output=40))


def test_without_the_teacher_nothing_of_the_transcript_is_cached() -> None:
    assert COST(step((400, 40, "student"), now=80)) == pytest.approx(usd(full=130, output=11))


def test_what_stood_in_the_teachers_last_prompt_is_cached() -> None:
    turns: list[tuple[int, int, Served | None]] = [(400, 40, "teacher"), (100, 20, "student")]
    expected = usd(
        cached=(40 + 400) // 4, full=(40 + 20 + 80 + 100) // 4, output=(60 // 2) // 4 + 1
    )
    assert COST(step(*turns, goal=40, now=80)) == pytest.approx(expected)


def test_the_latest_prompt_of_the_teacher_counts() -> None:
    turns: list[tuple[int, int, Served | None]] = [(400, 40, "teacher"), (400, 40, "teacher")]
    expected = usd(cached=(400 + 40 + 400) // 4, full=40 // 4, output=11)
    assert COST(step(*turns)) == pytest.approx(expected)


def test_an_unknown_server_is_not_the_teacher() -> None:
    assert COST(step((400, 40, None))) == COST(step((400, 40, "student")))


def test_a_teacher_whose_price_nobody_knows_costs_nothing() -> None:
    assert TeacherCost(Ledger({}), "unheard-of")(step(goal=400)) == 0.0


def test_a_teacher_without_a_price_of_its_own_is_priced_by_its_model() -> None:
    table = PriceTable({"known": PRICE})
    assert TeacherCost(Ledger({}, table), "known")(step(goal=40, now=400)) == pytest.approx(
        usd(full=110, output=40)
    )


WRITTEN = TeacherCost(Ledger({"teacher": Price(4.0, 8.0, 1.0, cache_write=5.0)}), "any")


def test_what_is_new_to_a_long_prompt_is_priced_as_written() -> None:
    opening = step(goal=96, now=4000)
    assert WRITTEN(opening) == pytest.approx((1024 * 5 + 40 * 8) / 1e6)
    grown = step((4000, 400, "teacher"), goal=96, now=80)
    written, output = 1144 - 1024, 400 // 4 + 1
    assert WRITTEN(grown) == pytest.approx((1024 * 1 + written * 5 + output * 8) / 1e6)


def test_a_prompt_too_short_for_the_providers_cache_is_neither_read_nor_written() -> None:
    assert WRITTEN(step((400, 40, "teacher"), now=80)) == pytest.approx((130 * 4 + 11 * 8) / 1e6)
    first_long = step((3600, 40, "teacher"), now=1000)
    assert WRITTEN(first_long) == pytest.approx((1160 * 5 + 11 * 8) / 1e6)


@settings(deadline=None)
@given(turns=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 300)), max_size=6))
def test_an_episode_of_the_teacher_is_estimated_as_the_meter_would_bill_it(
    turns: list[tuple[int, int]],
) -> None:
    # Whole tokens a message, so that both count alike; the answer of the call itself aside.
    meter, price = PrefixCacheMeter(), Price(4.0, 0.0, 1.0, cache_write=5.0)
    cost = TeacherCost(Ledger({"teacher": price}), "any")
    history: list[tuple[int, int, Served | None]] = []
    parts: list[CountedPart] = []
    for place, (seen, did) in enumerate([*turns, (10, 1)]):
        parts.append(CountedPart(f"o{place}", seen))
        now = step(*history, now=4 * seen)
        assert cost(now) == pytest.approx(price.cost_usd(meter.split(parts)))
        history.append((4 * seen, 4 * did, "teacher"))
        parts.append(CountedPart(f"a{place}", did))


TURNS = st.lists(
    st.tuples(
        st.integers(0, 5000), st.integers(0, 300), st.sampled_from(["student", "teacher", None])
    ),
    max_size=8,
)


@settings(deadline=None)
@given(turns=TURNS, goal=st.integers(0, 500), now=st.integers(0, 5000))
def test_a_cache_only_ever_saves_and_no_token_is_lost(
    turns: list[tuple[int, int, Served | None]], goal: int, now: int
) -> None:
    warm = COST(step(*turns, goal=goal, now=now))
    cold = COST(step(*[(seen, did, None) for seen, did, _ in turns], goal=goal, now=now))
    flat = TeacherCost(Ledger({"teacher": Price(4.0, 8.0, 4.0)}), "any", least_cached_tokens=0)
    assert 0 <= warm <= cold + 1e-12
    assert flat(step(*turns, goal=goal, now=now)) == pytest.approx(cold)
