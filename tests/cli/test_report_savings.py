from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.randomised_traffic import configured, serve_randomised, store_in, truth

HASH = ("--set", "retrieval.embedder=hash")


@pytest.fixture
def store(tutelage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Options that name a store with 100 episodes of known savings."""
    asyncio.run(serve_randomised(configured(store_in(tmp_path)), 100, monkeypatch))
    return (*HASH, "--set", f"store.url={store_in(tmp_path)}")


def test_what_traffic_saves_is_told_in_lines_and_in_json(
    tutelage: Any, store: tuple[str, ...]
) -> None:
    ran, told = (
        tutelage("report", "savings", *store),
        tutelage("report", "savings", "--json", *store),
    )

    assert (ran.code, ran.err, told.code) == (0, "", 0)
    lines = ran.out.splitlines()
    assert lines[0].startswith("100 episodes were drawn, ")
    assert any(line.startswith("saved an episode, uncached: $0.0") for line in lines)
    assert any(line.startswith("success: cascade 0.") for line in lines)
    assert any(line.startswith("the teacher would have done otherwise in 0.") for line in lines)
    real = truth(100)
    interval = told.json["cached"]["usd"]["interval"]
    assert interval["low"] <= real.teacher_usd - real.cascade_usd <= interval["high"]
    assert told.json["episodes"] == 100


def test_another_tenant_and_time_have_no_traffic(tutelage: Any, store: tuple[str, ...]) -> None:
    for options in (("--tenant", "acme"), ("--since-s", "1e12")):
        ran = tutelage("report", "savings", *options, *store)
        assert ran.code == 0
        assert ran.out.startswith("0 episodes were drawn")
        assert "set evidence.holdout" in ran.out


def test_a_stale_policy_file_does_not_stand_in_the_way(
    tutelage: Any, store: tuple[str, ...]
) -> None:
    stale = ("--set", "cascade.policy=calibrated", "--set", "cascade.policy_file=gone.json")

    assert tutelage("report", "savings", *store, *stale).code == 0


def test_a_folder_of_that_name_is_a_replays(tutelage: Any, tmp_path: Path) -> None:
    (tmp_path / "savings").mkdir()

    ran = tutelage("report", "savings")

    assert ran.code == 1
    assert "savings holds no finished episode yet" in ran.line


def test_what_traffic_costs_is_told_in_lines_and_in_json(
    tutelage: Any, store: tuple[str, ...]
) -> None:
    options = ("--training-usd", "12", "--episodes", "1000")

    ran = tutelage("report", "costs", *options, *store)
    told = tutelage("report", "costs", "--json", *options, *store).json

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("with prompt caches, 1,000 episodes projected:")
    assert told["cached"]["training"]["value"] == 12.0
    even = told["uncached"]["break-even, demonstrations as real work"]
    saved = told["uncached"]["saved after holdout"]
    assert even["value"] == pytest.approx(12.0 / saved["value"])
    assert len(even["rows"]["episodes"]) == 100


def test_hours_without_a_price_are_one_line(tutelage: Any, store: tuple[str, ...]) -> None:
    ran = tutelage("report", "costs", "--gpu-hours", "3", *store)

    assert ran.code == 2
    assert "--gpu-usd-per-hour" in ran.line
