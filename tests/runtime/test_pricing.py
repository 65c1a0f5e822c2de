from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.errors import ConfigError, PriceUnknown
from tutelage.runtime.pricing import Price, PriceTable, parse_prices
from tutelage.runtime.types import Usage

USAGE = Usage(
    input_tokens=1_000_000,
    cache_read_tokens=2_000_000,
    cache_write_tokens=3_000_000,
    output_tokens=4_000_000,
)


@pytest.mark.parametrize(
    ("model", "cached", "uncached"),
    [
        ("claude-sonnet-4-5", 3.00 + 2 * 0.30 + 3 * 3.75 + 4 * 15.00, 6 * 3.00 + 4 * 15.00),
        ("gpt-4.1-mini", 0.40 + 2 * 0.10 + 3 * 0.40 + 4 * 1.60, 6 * 0.40 + 4 * 1.60),
        ("gpt-4.1", 2.00 + 2 * 0.50 + 3 * 2.00 + 4 * 8.00, 6 * 2.00 + 4 * 8.00),
        ("Llama-3.3-70B", 10 * 1.04, 10 * 1.04),
    ],
)
def test_the_shipped_prices_bill_every_bucket(model: str, cached: float, uncached: float) -> None:
    table = PriceTable.shipped()
    assert table.cost_usd(USAGE, model) == pytest.approx(cached)
    assert table.uncached_cost_usd(USAGE, model) == pytest.approx(uncached)


def test_shipped_prices_are_dated_and_sourced() -> None:
    price = PriceTable.shipped().price("claude-sonnet-4-5")
    assert price.as_of == date(2025, 10, 1)
    assert "Anthropic" in price.source


def test_dated_names_are_the_same_model() -> None:
    table = PriceTable.shipped()
    assert table.price("gpt-4.1-mini-2025-04-14") == table.price("gpt-4.1-mini")


def test_an_unknown_model_names_similar_ones_and_the_way_out() -> None:
    with pytest.raises(PriceUnknown, match=r"gpt-4\.1-mini.*priced_as.*price = \{ input") as caught:
        PriceTable.shipped().price("GPT-4.1-minni")
    assert "\n" not in str(caught.value)
    with pytest.raises(PriceUnknown, match=r"similar models in the table: gpt-4\.1"):
        PriceTable.shipped().cost_usd(USAGE, "azure/gpt-4.1-eu")
    with pytest.raises(PriceUnknown, match="no similar model is known"):
        PriceTable.shipped().uncached_cost_usd(USAGE, "zzz")
    with pytest.raises(PriceUnknown, match="no price for model ''"):
        PriceTable.shipped().price("")


def test_own_prices_win() -> None:
    own = Price(input=1.0, output=2.0)
    table = PriceTable.shipped({"gpt-4.1": own, "house-model": own})
    assert table.price("gpt-4.1") is own
    assert table.cost_usd(Usage(output_tokens=500_000), "house-model") == pytest.approx(1.0)
    assert table.price("gpt-4.1-mini").input == 0.40


def test_nothing_is_free_unless_it_is_said() -> None:
    with pytest.raises(PriceUnknown):
        PriceTable.shipped().price("SmolLM2-135M-Instruct")
    local = Price.free("in-process student")
    assert (
        PriceTable({"SmolLM2-135M-Instruct": local}).cost_usd(USAGE, "SmolLM2-135M-Instruct") == 0
    )
    assert local.source == "in-process student"


@pytest.mark.parametrize("field", ["input", "output", "cache_read", "cache_write"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_price_is_a_finite_amount(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"price {field} = "):
        Price(**{"input": 1.0, "output": 1.0, field: value})  # type: ignore[arg-type]


ROW = 'as_of = 2025-10-01\nsource = "s"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a", "own.toml is not valid TOML"),
        ("[a]\ninput = -1\noutput = 1\n" + ROW, "own.toml: a.input = -1"),
        ("[a]\ninput = nan\noutput = 1\n" + ROW, "own.toml: a.input = nan"),
        ("[a]\ninput = 1\noutput = 1\ncached = 1\n" + ROW, "own.toml: a.cached"),
        ("[a]\ninput = 1\n" + ROW, "own.toml: a.output"),
        (
            f'[a]\ninput = 1\noutput = 1\n{ROW}[b]\ninput = 2\noutput = 2\naliases = ["a"]\n{ROW}',
            "'a' is priced twice",
        ),
    ],
)
def test_a_broken_price_file_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_prices(text, "own.toml")


TOKENS = st.integers(min_value=0, max_value=10**7)
USAGES = st.builds(
    Usage,
    input_tokens=TOKENS,
    cache_read_tokens=TOKENS,
    cache_write_tokens=TOKENS,
    output_tokens=TOKENS,
)


@given(one=USAGES, other=USAGES)
def test_costs_add_up_like_their_tokens(one: Usage, other: Usage) -> None:
    price = PriceTable.shipped().price("claude-sonnet-4-5")
    assert price.cost_usd(one + other) == pytest.approx(price.cost_usd(one) + price.cost_usd(other))
    assert price.uncached_cost_usd(one) >= 0
