from __future__ import annotations

import pytest

from tutelage.benchmarks.household.vocabulary import (
    LAMP,
    LIKELY_PLACES,
    OPENABLE,
    ROOMS,
    STRAY,
    THINGS,
    TREATMENTS,
    kind,
    likelihood,
    treated,
)

PLACES = {place for places in ROOMS.values() for place in places}


def test_every_place_and_appliance_that_is_named_exists_in_some_room() -> None:
    named = {place for homes in LIKELY_PLACES.values() for place in homes}
    assert named <= PLACES
    assert OPENABLE <= PLACES
    assert {treatment.appliance for treatment in TREATMENTS.values()} <= PLACES


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_every_thing_of_a_room_has_a_likely_place_in_it(room: str) -> None:
    homeless = [thing for thing in THINGS[room] if not LIKELY_PLACES[thing].keys() & ROOMS[room]]
    assert homeless == []


def test_every_thing_that_can_be_treated_is_found_beside_its_appliance() -> None:
    for treatment in TREATMENTS.values():
        rooms = [room for room, places in ROOMS.items() if treatment.appliance in places]
        assert treatment.suits <= {thing for room in rooms for thing in THINGS[room]}


def test_names_of_things_and_places_never_clash() -> None:
    assert LIKELY_PLACES.keys().isdisjoint(PLACES)
    assert kind("cabinet 12") == "cabinet"


def test_things_stray_but_lamps_do_not() -> None:
    assert likelihood("mug", "desk") == LIKELY_PLACES["mug"]["desk"]
    assert likelihood("mug", "bathtub") == STRAY
    assert likelihood(LAMP, "bathtub") == 0


def test_heating_ends_cooling_and_the_other_way_round_but_clean_stays_clean() -> None:
    conditions = treated(treated({}, "mug 1", "clean"), "mug 1", "heat")
    assert conditions == {"mug 1": {"clean", "hot"}}
    assert treated(conditions, "mug 1", "cool") == {"mug 1": {"clean", "cool"}}
    assert conditions == {"mug 1": {"clean", "hot"}}
