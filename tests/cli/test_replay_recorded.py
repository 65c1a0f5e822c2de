from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.randomised_traffic import configured, serve_randomised, store_in, truth

HASH = ("--set", "retrieval.embedder=hash", "--set", "cascade.grammar=household")


@pytest.fixture
def store(tutelage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Options that name a store with 100 episodes of known cost."""
    asyncio.run(serve_randomised(configured(store_in(tmp_path)), 100, monkeypatch))
    return (*HASH, "--set", f"store.url={store_in(tmp_path)}")


def test_the_policy_that_served_is_told_exactly(tutelage: Any, store: tuple[str, ...]) -> None:
    ran = tutelage("replay", "--recorded", *store)
    told = tutelage("replay", "--recorded", "--json", *store).json

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"policy paper over {told['episodes']} recorded episodes")
    assert told["method"] == "exact"
    assert told["cached"]["value"] == pytest.approx(told["recorded_usd"])
    assert told["same_steps"] == told["steps"]


def test_the_teacher_alone_is_estimated_and_meets_the_truth(
    tutelage: Any, store: tuple[str, ...]
) -> None:
    alone = ("--set", "cascade.policy=always-teacher")

    told = tutelage("replay", "--recorded", "--json", *alone, *store).json

    assert told["method"] == "off-policy"
    interval = told["uncached"]["interval"]
    assert interval["low"] <= truth(100).teacher_usd <= interval["high"]
    assert told["cached"]["effective"] == pytest.approx(len(told["rows"]))


def test_prices_are_counted_again(tutelage: Any, store: tuple[str, ...]) -> None:
    twice = (
        "--set",
        "teacher.price={input = 20.0, output = 6.0, cache_read = 20.0}",
        "--set",
        "student.price={input = 0.2, output = 2.0}",
    )

    told = tutelage("replay", "--recorded", "--rerun", "prices", "--json", *twice, *store).json

    assert (told["policy"], told["repriced"], told["episodes"]) == ("as recorded", True, 100)
    assert told["cached"]["value"] > 1.5 * told["recorded_usd"]


def test_what_nothing_supports_is_one_line(tutelage: Any, store: tuple[str, ...]) -> None:
    ran = tutelage("replay", "--recorded", *store, "--set", "cascade.agree=1")

    assert (ran.code, ran.out) == (1, "")
    assert "cascade.policy = 'explore'" in ran.line


def test_recorded_traffic_has_no_world_and_a_world_is_no_recording(tutelage: Any) -> None:
    both, neither = tutelage("replay", "household", "--recorded"), tutelage("replay")

    assert (both.code, neither.code) == (2, 2)
    assert "leave out 'household'" in both.line
    assert "name a world" in neither.line


def test_an_empty_store_says_what_to_do(tutelage: Any, tmp_path: Path) -> None:
    ran = tutelage("replay", "--recorded", *HASH, "--set", f"store.url={store_in(tmp_path)}")

    assert ran.code == 1
    assert "serve some first" in ran.line
