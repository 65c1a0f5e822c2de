from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.errors import ConfigError
from tutelage.runtime.prefix_cache import (
    CountedPart,
    PrefixCacheMeter,
    counted_parts,
    estimate_tokens,
)
from tutelage.runtime.pricing import PriceTable
from tutelage.runtime.types import ChatRequest, Message, Usage


def prompt(*parts: tuple[str, int]) -> list[CountedPart]:
    return [CountedPart(digest, tokens) for digest, tokens in parts]


def request(*texts: str, **fields: object) -> ChatRequest:
    messages = [{"role": "user", "content": text} for text in texts]
    return ChatRequest.model_validate({"model": "m", "messages": messages, **fields})


def test_a_short_prompt_is_neither_read_nor_written() -> None:
    meter = PrefixCacheMeter()
    for _ in range(2):
        assert meter.split(prompt(("a", 1000), ("b", 23))) == Usage(input_tokens=1023)


def test_an_append_only_transcript_is_read_back() -> None:
    meter = PrefixCacheMeter()
    first = [("system", 1000), ("one", 100)]
    assert meter.split(prompt(*first)) == Usage(cache_write_tokens=1100)
    second = [*first, ("two", 50), ("three", 7)]
    assert meter.split(prompt(*second)) == Usage(cache_read_tokens=1100, cache_write_tokens=57)
    assert meter.split(prompt(*second)) == Usage(cache_read_tokens=1157)


def test_a_change_at_the_front_loses_all_that_follows() -> None:
    meter = PrefixCacheMeter(min_tokens=10)
    meter.split(prompt(("system", 20), ("demo 1", 30), ("task", 40)))
    changed = prompt(("system", 20), ("demo 2", 30), ("task", 40))
    assert meter.split(changed) == Usage(cache_read_tokens=20, cache_write_tokens=70)
    assert meter.split(prompt(("other", 20), ("demo 1", 30))) == Usage(cache_write_tokens=50)


def test_equal_lengths_are_not_equal_messages() -> None:
    meter = PrefixCacheMeter(min_tokens=0)
    meter.split(prompt(("ab", 5), ("c", 5)))
    assert meter.split(prompt(("a", 5), ("bc", 5))).cache_read_tokens == 0


def test_a_prefix_below_the_minimum_is_not_read_from_a_long_prompt() -> None:
    meter = PrefixCacheMeter(min_tokens=100)
    meter.split(prompt(("system", 99), ("a", 50)))
    assert meter.split(prompt(("system", 99), ("b", 50))) == Usage(cache_write_tokens=149)


def test_an_empty_prompt_has_no_tokens() -> None:
    assert PrefixCacheMeter().split([]) == Usage()
    assert PrefixCacheMeter(min_tokens=0).split([]) == Usage()


def test_a_negative_minimum_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="min_tokens = -1"):
        PrefixCacheMeter(min_tokens=-1)


def test_a_cached_transcript_is_cheaper_than_an_uncached_one() -> None:
    meter, table = PrefixCacheMeter(), PriceTable.shipped()
    usage = Usage()
    for turns in range(1, 11):
        usage += meter.split(prompt(("system", 2000), *((f"turn {n}", 100) for n in range(turns))))
    assert usage.prompt_tokens == sum(2000 + 100 * turns for turns in range(1, 11))
    cached = table.cost_usd(usage, "claude-sonnet-4-5")
    assert cached < 0.5 * table.uncached_cost_usd(usage, "claude-sonnet-4-5")


PARTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 400)), max_size=8)


@given(prompts=st.lists(PARTS, max_size=6), least=st.integers(0, 1200))
def test_the_buckets_hold_every_token_once(
    prompts: list[list[tuple[str, int]]], least: int
) -> None:
    meter = PrefixCacheMeter(least)
    for parts in prompts:
        usage = meter.split(prompt(*parts))
        total = sum(tokens for _, tokens in parts)
        assert usage.prompt_tokens == total
        assert usage.output_tokens == 0
        if total < least:
            assert usage.input_tokens == total
        assert usage.cache_read_tokens == 0 or usage.cache_read_tokens >= least
        if total >= max(least, 1):
            assert meter.split(prompt(*parts)) == Usage(cache_read_tokens=total)


def test_tokens_are_a_quarter_of_the_characters_rounded_up() -> None:
    assert estimate_tokens(request("a" * 8)) == 2
    assert estimate_tokens(request("a" * 4, "b" * 5)) == 3
    assert estimate_tokens(request()) == 0
    assert estimate_tokens(request("")) == 0


def test_tools_and_tool_calls_count() -> None:
    tool = {"type": "function", "function": {"name": "send"}}
    assert estimate_tokens(request("a", tools=[tool])) > 10
    calls = [{"id": "1", "type": "function", "function": {"name": "send", "arguments": "{}"}}]
    message = Message(role="assistant", content=None, tool_calls=calls)
    assert estimate_tokens(ChatRequest(model="m", messages=[message])) > 10


def test_parts_are_told_apart_by_role_and_content() -> None:
    one, other = counted_parts(request("a")), counted_parts(request("b"))
    assert one[0].digest != other[0].digest
    system = ChatRequest(model="m", messages=[Message(role="system", content="a")])
    assert counted_parts(system)[0].digest != one[0].digest
    assert counted_parts(request("a", "b"))[0] == one[0]


def test_tools_come_before_the_messages() -> None:
    tool = {"type": "function", "function": {"name": "send"}}
    parts = counted_parts(request("hello", tools=[tool]))
    assert [part.digest for part in parts[1:]] == [counted_parts(request("hello"))[0].digest]


@given(texts=st.lists(st.text(max_size=30), max_size=6), tokens=st.integers(0, 5000))
def test_parts_add_up_to_the_endpoints_count(texts: list[str], tokens: int) -> None:
    parts = counted_parts(request(*texts), prompt_tokens=tokens)
    assert all(part.tokens >= 0 for part in parts)
    assert sum(part.tokens for part in parts) == (tokens if any(texts) else 0)
