from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.retrieval.bank import Bank
from tutelage.retrieval.demonstration_budget import (
    BudgetLimits,
    DemonstrationBudget,
    Offer,
    choose,
    least_value_per_token,
    token_usd,
    value,
)
from tutelage.retrieval.selection import KeyedRetriever, Selection
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.pricing import Price
from tutelage.runtime.types import Demonstration, Step

if TYPE_CHECKING:
    from tests.retrieval.conftest import MakeStep, MakeTrajectory

AXES = np.eye(4, dtype=np.float32)


def offer(id: str, relevance: float = 1.0, tokens: int = 10, **more: object) -> Offer:
    return Offer(id, relevance, tokens, **more)  # type: ignore[arg-type]


def ids(chosen: list[Offer]) -> list[str]:
    return [one.id for one in chosen]


OFFERS = st.lists(
    st.builds(
        Offer,
        id=st.uuids().map(str),
        # Few values, so that equals are common.
        relevance=st.sampled_from([-0.5, 0.0, 0.4, 0.8, 1.2]),
        tokens=st.sampled_from([10, 20, 40, 300]),
        utility=st.sampled_from([0.5, 1.0, 1.5]),
        state=st.sampled_from([*AXES, None]),
    ),
    max_size=12,
    unique_by=lambda one: one.id,
)
LIMITS = st.builds(
    BudgetLimits,
    tokens=st.none() | st.integers(0, 700),
    usd=st.none() | st.floats(0, 1e-3),
    token_usd=st.sampled_from([0.0, 1e-6]),
    least_value_per_token=st.sampled_from([0.0, 0.01, 0.05]),
    diversity=st.sampled_from([0.0, 0.3, 1.5]),
)


@settings(deadline=None)
@given(OFFERS, LIMITS, st.integers(0, 12))
def test_neither_the_budget_nor_k_is_ever_exceeded(
    offers: list[Offer], limits: BudgetLimits, k: int
) -> None:
    chosen = choose(offers, limits, k)
    spent = sum(one.tokens for one in chosen)
    assert len(chosen) <= k
    assert len(set(ids(chosen))) == len(chosen)
    assert limits.tokens is None or spent <= limits.tokens
    assert limits.usd is None or spent * limits.token_usd <= limits.usd + 1e-12
    assert all(one.relevance > 0 for one in chosen)


@settings(deadline=None)
@given(
    OFFERS,
    st.integers(0, 700),
    st.integers(0, 700),
    st.sampled_from([0.0, 0.3, 1.5]),
    st.integers(0, 12),
)
def test_a_larger_budget_never_gives_less_value(
    offers: list[Offer], one: int, other: int, diversity: float, k: int
) -> None:
    small, large = (BudgetLimits(tokens=n, diversity=diversity) for n in sorted((one, other)))
    gained = [value(choose(offers, limits, k), limits) for limits in (small, large)]
    assert gained[0] <= gained[1] + 1e-9


@settings(deadline=None)
@given(OFFERS, st.integers(0, 700), st.integers(1, 3))
def test_no_single_demonstration_that_fits_is_worth_more_than_all_chosen(
    offers: list[Offer], tokens: int, k: int
) -> None:
    limits = BudgetLimits(tokens=tokens)
    alone = [one.utility * one.relevance for one in offers if one.tokens <= tokens]
    assert value(choose(offers, limits, k), limits) >= max([0.0, *alone]) - 1e-9


@settings(deadline=None)
@given(OFFERS, LIMITS, st.randoms(use_true_random=False))
def test_the_order_of_the_offers_never_decides(
    offers: list[Offer], limits: BudgetLimits, random: object
) -> None:
    shuffled = list(offers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert ids(choose(shuffled, limits, 5)) == ids(choose(offers, limits, 5))


@settings(deadline=None)
@given(OFFERS, LIMITS)
def test_nothing_is_chosen_of_nothing_or_for_nobody(
    offers: list[Offer], limits: BudgetLimits
) -> None:
    assert choose(offers, limits, 0) == []
    assert choose([], limits, 3) == []


def test_value_per_token_ranks_where_the_budget_is_tight() -> None:
    offers = [offer("long", 1.0, 40), offer("short", 0.8, 10), offer("other", 0.7, 20)]
    assert set(ids(choose(offers, BudgetLimits(), 3))) == {"short", "other", "long"}
    assert ids(choose(offers, BudgetLimits(tokens=40), 3)) == ["short", "other"]


def test_value_alone_ranks_where_only_one_may_be_shown() -> None:
    offers = [offer("fits", 1.0, 40), offer("short", 0.8, 10)]
    assert ids(choose(offers, BudgetLimits(tokens=50), 1)) == ["fits"]
    assert ids(choose(offers, BudgetLimits(tokens=30), 1)) == ["short"]


def test_one_that_does_not_fit_does_not_keep_the_others_out() -> None:
    offers = [offer("long", 5.0, 40), offer("short", 0.8, 20), offer("other", 0.7, 10)]
    assert ids(choose(offers, BudgetLimits(tokens=39), 3)) == ["other", "short"]


def test_utility_scales_the_value() -> None:
    offers = [offer("usual", 1.0), offer("helps", 0.9, utility=1.3)]
    assert ids(choose(offers, BudgetLimits(), 1)) == ["helps"]


def test_a_copy_of_what_is_chosen_is_worth_less() -> None:
    offers = [
        offer("a", 1.0, state=AXES[0]),
        offer("copy", 0.9, state=AXES[0]),
        offer("other", 0.7, state=AXES[1]),
    ]
    assert ids(choose(offers, BudgetLimits(), 2)) == ["a", "copy"]
    assert ids(choose(offers, BudgetLimits(diversity=0.5), 2)) == ["a", "other"]
    assert ids(choose(offers, BudgetLimits(diversity=1.0), 3)) == ["a", "other"]


def test_it_ends_where_a_demonstration_costs_more_than_it_saves() -> None:
    offers = [offer("near", 1.0, 100), offer("far", 0.3, 100)]
    least = least_value_per_token(token_usd=4e-7, teacher_usd=1e-3, saved_per_value=0.1)
    assert least == pytest.approx(0.004)
    assert ids(choose(offers, BudgetLimits(least_value_per_token=least), 2)) == ["near"]
    # The break-even itself: 100 tokens at 4e-7 USD against 0.4 * 0.1 calls of 1e-3 USD.
    even = [offer("even", 0.4, 100)]
    assert ids(choose(even, BudgetLimits(least_value_per_token=0.004), 1)) == ["even"]


def test_free_tokens_are_always_worth_it_and_nothing_saved_never_is() -> None:
    assert least_value_per_token(0.0, 0.0, 0.0) == 0.0
    assert least_value_per_token(1e-6, 0.0, 0.5) == math.inf
    assert least_value_per_token(1e-6, 1e-3, 0.0) == math.inf


def test_a_budget_in_dollars_is_one_in_tokens_at_their_price() -> None:
    offers = [offer("a", 1.0, 100), offer("b", 0.9, 100)]
    assert BudgetLimits(usd=1.5e-4, token_usd=1e-6).most_tokens == pytest.approx(150)
    assert BudgetLimits(tokens=120, usd=1.5e-4, token_usd=1e-6).most_tokens == 120
    assert ids(choose(offers, BudgetLimits(usd=1.5e-4, token_usd=1e-6), 2)) == ["a"]
    assert ids(choose(offers, BudgetLimits(usd=0.0), 2)) == ["a", "b"]


@pytest.mark.parametrize(
    "wrong",
    [{"tokens": -1}, {"usd": -0.1}, {"least_value_per_token": math.nan}, {"diversity": -1.0}],
)
def test_a_negative_limit_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=rf"{next(iter(wrong))} = .*: give 0 or more"):
        BudgetLimits(**wrong)  # type: ignore[arg-type]


def test_a_demonstration_without_tokens_is_none() -> None:
    with pytest.raises(ConfigError, match="tokens = 0"):
        offer("a", tokens=0)


def test_a_prompt_is_written_once_and_read_for_the_samples_after_it() -> None:
    cached = Price(4.0, 8.0, cache_read=1.0, cache_write=5.0)
    assert token_usd(cached, 1) == pytest.approx(5e-6)
    assert token_usd(cached, 3) == pytest.approx(7e-6)
    assert token_usd(Price(4.0, 8.0), 3) == pytest.approx(12e-6)


# In a search.


class Known:
    """Utilities that were measured elsewhere."""

    def __init__(self, **utilities: float) -> None:
        self.values = utilities

    async def utilities(self, tenant: str) -> Mapping[str, float]:
        assert tenant == "acme"
        return self.values


def words(demonstration: Demonstration) -> int:
    return sum(len(f"{turn.observation} {turn.action}".split()) for turn in demonstration.window)


def budget(worth: Known | None = None, **limits: float) -> DemonstrationBudget:
    def of(step: Step) -> BudgetLimits:
        return BudgetLimits(**limits)  # type: ignore[arg-type]

    return DemonstrationBudget(words, of, worth)


async def test_a_search_shows_what_fits_the_budget_best_ranked_first(
    bank: Bank, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    await bank.add(
        [
            trajectory("long", turns=[("You are in a kitchen. " + "tea " * 30, "wait")]),
            trajectory("same", turns=[("You are in a kitchen.", "go to fridge 1")]),
            trajectory("near", turns=[("You are in a hall.", "go")]),
        ]
    )
    everything = await KeyedRetriever(bank).search(step())
    assert everything[0].demonstration.trajectory_id == "same"

    def shown(tokens: int | None, k: int = 6) -> KeyedRetriever:
        return KeyedRetriever(bank, Selection(k=k), budget=budget(tokens=tokens))  # type: ignore[arg-type]

    found = [await shown(tokens).search(step()) for tokens in (None, 20, 10, 3)]
    assert found[0] == everything
    assert [[one.demonstration.trajectory_id for one in some] for some in found[1:]] == [
        ["same", "near"],
        ["same"],
        [],
    ]
    assert len(await shown(None, k=1).search(step())) == 1


async def test_a_search_prefers_what_has_helped(
    bank: Bank, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    await bank.add([trajectory(name) for name in ("a", "b")])
    for helpful in ("a", "b"):
        worth = Known(**{helpful: 1.5})
        retriever = KeyedRetriever(bank, Selection(k=1), budget=budget(worth))
        (found,) = await retriever.search(step())
        assert found.demonstration.trajectory_id == helpful
