from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.benchmarks.household.layout import (
    LEAST_PLACES,
    MOST_PLACES,
    between,
    bucket,
    draw,
    draw_places,
    furnish,
)
from tutelage.benchmarks.household.vocabulary import LAMP, LIKELY_PLACES, ROOMS, kind


@given(st.sampled_from(sorted(ROOMS)), st.sampled_from(["train", "test"]), st.integers(0, 10**6))
def test_a_room_has_eight_to_fourteen_places_within_its_limits(
    room: str, split: str, seed: int
) -> None:
    places = draw_places(random.Random(seed), room, split)
    assert LEAST_PLACES <= len(places) <= MOST_PLACES
    assert len(set(places)) == len(places)
    for place, (least, most) in ROOMS[room].items():
        assert least <= [kind(name) for name in places].count(place) <= most


def test_places_of_a_kind_are_told_from_the_highest_number_down() -> None:
    places = draw_places(random.Random(1), "kitchen", "train")
    cabinets = [place for place in places if kind(place) == "cabinet"]
    assert cabinets == [f"cabinet {number}" for number in range(len(cabinets), 0, -1)]


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_no_floor_plan_serves_both_splits(room: str) -> None:
    rng = random.Random(room)
    train = {draw_places(rng, room, "train") for _ in range(200)}
    test = {draw_places(rng, room, "test") for _ in range(200)}
    assert train.isdisjoint(test)
    assert min(len(train), len(test)) > 20


@given(st.integers(0, 10**6))
def test_wanted_things_are_there_and_not_where_they_should_go(seed: int) -> None:
    rng = random.Random(seed)
    places = draw_places(rng, "kitchen", "train")
    room = furnish(rng, "kitchen", places, {"mug": 2}, kept_clear="countertop")
    lying = [(t, p) for p, things in room.contents.items() for t in things if kind(t) == "mug"]
    assert sorted(thing for thing, _ in lying) == ["mug 1", "mug 2"]
    assert all(kind(place) != "countertop" for _, place in lying)
    assert room.floor_plan.startswith("kitchen: cabinet ")


@given(st.integers(0, 10**6))
def test_a_lamp_stands_only_where_lamps_stand(seed: int) -> None:
    rng = random.Random(seed)
    places = draw_places(rng, "bedroom", "test")
    room = furnish(rng, "bedroom", places, {LAMP: 1}, kept_clear=None)
    (home,) = [place for place, things in room.contents.items() if f"{LAMP} 1" in things]
    assert kind(home) in LIKELY_PLACES[LAMP]


def test_draws_follow_the_weights() -> None:
    rng = random.Random(5)
    drawn = [draw(rng, "abc", [6, 3, 0]) for _ in range(3000)]
    assert drawn.count("c") == 0
    assert drawn.count("a") / drawn.count("b") == pytest.approx(2, rel=0.15)


class Highest(random.Random):
    def random(self) -> float:
        return 1.0


def test_rounding_at_the_end_of_the_weights_draws_the_last_item() -> None:
    assert draw(Highest(), "abc", [0.1, 0.2, 0.3]) == "c"


@given(st.integers(0, 50), st.integers(0, 50), st.integers())
def test_between_includes_both_ends_and_nothing_else(least: int, span: int, seed: int) -> None:
    assert least <= between(random.Random(seed), least, least + span) <= least + span


def test_buckets_do_not_depend_on_the_process() -> None:
    assert [bucket(text, 100) for text in ("mug", "desk", "")] == [2, 92, 52]
