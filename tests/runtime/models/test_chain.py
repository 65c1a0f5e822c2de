from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tutelage.cascade.agreement import Unanimous
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.runtime.errors import BadResponse
from tutelage.runtime.models.chain import ChainModel, Tier, TieredPrice, TieredUsage
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.pricing import Price
from tutelage.runtime.types import ChatRequest, Choice, Usage

REQUEST = ChatRequest.model_validate(
    {"model": "any", "messages": [{"role": "user", "content": "What next?"}]}
)
CHEAP, DEAR = Price(1.0, 2.0), Price(10.0, 20.0, cache_read=1.0)


def billed(count: int) -> Callable[[ChatRequest, Any], Usage]:
    def usage(request: ChatRequest, choices: list[Choice]) -> Usage:
        return Usage(input_tokens=count, output_tokens=len(choices))

    return usage


def a_chain(*lines: list[str] | str, **more: Any) -> tuple[ChainModel, list[ScriptedModel]]:
    """A chain of models that say these lines, each the samples of one call."""
    models = [
        ScriptedModel([line] if isinstance(line, list) else line, usage=billed(10 * (place + 1)))
        for place, line in enumerate(lines)
    ]
    tiers = [Tier(f"tier{place}", model) for place, model in enumerate(models)]
    return ChainModel(tiers, Unanimous(TextCanonicalizer()), 3, **more), models


def asked(models: list[ScriptedModel]) -> list[int]:
    return [len(model.calls) for model in models]


async def test_the_cheapest_that_agrees_with_itself_answers() -> None:
    chain, models = a_chain("look", "go", "take")

    answer = await chain.complete(REQUEST, 3)

    assert [choice.message.text for choice in answer.choices] == ["look"] * 3
    assert asked(models) == [1, 0, 0]
    assert answer.usage == TieredUsage(
        input_tokens=10, output_tokens=3, tiers={"tier0": Usage(input_tokens=10, output_tokens=3)}
    )


async def test_who_does_not_agree_passes_on_and_is_paid_all_the_same() -> None:
    chain, models = a_chain(["a", "b", "a"], ["c", "d", "c"], "take")

    answer = await chain.complete(REQUEST, 3)

    assert [choice.message.text for choice in answer.choices] == ["take"] * 3
    assert asked(models) == [1, 1, 1]
    assert isinstance(answer.usage, TieredUsage)
    assert {name: used.input_tokens for name, used in answer.usage.tiers.items()} == {
        "tier0": 10,
        "tier1": 20,
        "tier2": 30,
    }
    assert answer.usage.input_tokens == 60


async def test_the_last_one_answers_even_if_it_does_not_agree() -> None:
    chain, _ = a_chain(["a", "b", "c"], ["x", "y", "y"])

    answer = await chain.complete(REQUEST, 3)

    assert [choice.message.text for choice in answer.choices] == ["y", "y", "x"]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


async def test_whoever_wants_one_sample_gets_what_most_say() -> None:
    chain, models = a_chain(["a", "b", "b"])

    answer = await chain.complete(REQUEST)

    assert [choice.message.text for choice in answer.choices] == ["b"]
    assert models[0].calls[0].n == 3


async def test_a_tier_that_fails_is_passed_over() -> None:
    chain, _ = a_chain("look", "go")
    broken = ScriptedModel("", failures={0: BadResponse("down")})
    chain = ChainModel([Tier("broken", broken), *chain._tiers], Unanimous(TextCanonicalizer()), 2)

    answer = await chain.complete(REQUEST, 2)

    assert answer.text == "look"
    assert isinstance(answer.usage, TieredUsage)
    assert answer.usage.tiers.keys() == {"tier0"}


async def test_a_chain_of_failures_is_a_failure() -> None:
    broken = ScriptedModel("", failures={0: BadResponse("down")})
    chain = ChainModel([Tier("broken", broken)], Unanimous(TextCanonicalizer()), 2)

    with pytest.raises(BadResponse, match="down"):
        await chain.complete(REQUEST, 2)


@pytest.mark.parametrize(("first", "calls"), [(0, [1, 0, 0]), (1, [0, 1, 0]), (3, [0, 0, 0])])
async def test_a_gate_says_who_is_asked_first(first: int, calls: list[int]) -> None:
    async def gate(request: ChatRequest) -> int:
        return first

    chain, models = a_chain("look", "go", "take", first=gate)

    answer = await chain.complete(REQUEST, 3)

    assert asked(models) == calls
    assert answer.text == ("look", "go", "", "")[first]
    assert bool(answer.usage.prompt_tokens) == bool(sum(calls))


async def test_a_stream_is_that_of_the_tier_that_answers() -> None:
    chain, _ = a_chain(["a", "b", "c"], "go north")

    pieces = [chunk async for chunk in chain.stream(REQUEST)]

    said = [choice["delta"].get("content", "") for chunk in pieces for choice in chunk["choices"]]
    assert "".join(said) == "go north"
    assert pieces[-1]["usage"]["prompt_tokens"] == 30


def test_tokens_of_tiers_add_up_from_both_sides() -> None:
    one = TieredUsage(input_tokens=3, tiers={"a": Usage(input_tokens=3)})
    two = TieredUsage(
        input_tokens=5, tiers={"a": Usage(input_tokens=1), "b": Usage(input_tokens=4)}
    )

    total = sum([one, Usage(input_tokens=2), two], Usage())

    assert isinstance(total, TieredUsage)
    assert total.input_tokens == 10
    assert total.tiers == {"a": Usage(input_tokens=4), "b": Usage(input_tokens=4)}


def test_each_tier_has_its_price_and_the_rest_that_of_the_role() -> None:
    price = TieredPrice(100.0, 100.0, tiers={"cheap": CHEAP, "dear": DEAR})
    cheap = Usage(input_tokens=1_000_000, output_tokens=500_000)
    dear = Usage(cache_read_tokens=1_000_000)
    usage = TieredUsage(
        input_tokens=1_010_000,
        cache_read_tokens=1_000_000,
        output_tokens=500_000,
        tiers={"cheap": cheap, "dear": dear},
    )

    assert price.cost_usd(usage) == pytest.approx(1.0 + 1.0 + 1.0 + 1.0)
    assert price.uncached_cost_usd(usage) == pytest.approx(1.0 + 1.0 + 10.0 + 1.0)
    assert price.cost_usd(cheap) == pytest.approx(150.0)
