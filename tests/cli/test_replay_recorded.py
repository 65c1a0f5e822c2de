from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.randomised_traffic import configured, serve_randomised, store_in, truth
from tests.scripted_endpoint import ScriptedEndpoint

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


def test_another_student_is_asked_at_the_recorded_prompts(
    tutelage: Any, store: tuple[str, ...], endpoint: ScriptedEndpoint
) -> None:
    endpoint.say = "go to desk 1"
    student = (*endpoint.settings("student"), "--set", "retrieval.enabled=false")
    prices = ("--set", "teacher.priced_as=claude-sonnet-4-5")

    asked = ("replay", "--recorded", "--rerun", "student", *student, *prices, *store)
    ran, told = tutelage(*asked), tutelage(*asked, "--json").json

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("student scripted, policy paper: asked in ")
    assert told["asked"] == told["steps"] == len(endpoint.bodies) / 2
    # It knows what the recorded student got wrong, as audits and the teacher say.
    assert told["right"]["value"] == 1.0
    assert told["better"]["interval"]["low"] > 0
    assert 0 < told["determined"] < told["episodes"]
    assert told["method"] is None
    low, high = told["success_bounds"]
    assert low < told["recorded_success"] < high


def test_another_bank_is_searched_at_the_recorded_steps(
    tutelage: Any, store: tuple[str, ...], tmp_path: Path
) -> None:
    other = f"sqlite:///{tmp_path}/bank.sqlite"
    bank = ("--split", "train:2", "--out", tmp_path / "bank")
    assert tutelage("collect", "household", *bank, *HASH, "--set", f"store.url={other}").code == 0

    asked = ("replay", "--recorded", "--rerun", "bank", "--bank", other, *store)
    ran, told = tutelage(*asked), tutelage(*asked, "--json").json

    assert (ran.code, ran.err) == (0, "")
    assert "no estimate of cost and success: episode " in ran.out
    assert (told["mean_recorded"], told["same_steps"], told["method"]) == (0.0, 0, None)
    assert told["mean_found"] == 2.0
    assert len(told["shown"]) == told["steps"]


def test_a_bank_is_for_the_replay_of_banks(tutelage: Any, store: tuple[str, ...]) -> None:
    ran = tutelage("replay", "--recorded", "--bank", "sqlite:///other.sqlite", *store)

    assert ran.code == 2
    assert "give --rerun bank with it" in ran.line


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
