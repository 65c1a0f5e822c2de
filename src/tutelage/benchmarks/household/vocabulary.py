"""Kinds of rooms, places and things, and where people keep what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LAMP = "desklamp"
"""The only fixture: it stands on a place, lights it, and cannot be taken."""

OPENABLE = frozenset({"cabinet", "drawer", "fridge", "laundryhamper", "microwave", "safe"})
"""Places that start closed and hide what is in them."""

STRAY = 0.02
"""Likelihood weight of a thing in a place where nobody would look first."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """What an appliance does to a thing in the hand."""

    appliance: str
    condition: str
    undoes: str
    """The condition that the treatment ends; the empty string for none."""
    suits: frozenset[str]
    """Kinds of things that can be treated."""


_FOOD = frozenset({"apple", "bread", "egg", "potato", "tomato"})
_DISHES = frozenset({"bowl", "cup", "mug", "plate"})

TREATMENTS: Mapping[str, Treatment] = {
    "clean": Treatment(
        appliance="sinkbasin",
        condition="clean",
        undoes="",
        suits=_DISHES
        | {"apple", "butterknife", "cloth", "fork", "knife", "ladle", "lettuce", "pan", "pot"}
        | {"potato", "soapbar", "spatula", "spoon", "tomato"},
    ),
    "heat": Treatment("microwave", "hot", "cool", _FOOD | _DISHES),
    "cool": Treatment("fridge", "cool", "hot", _FOOD | _DISHES | {"lettuce", "pan", "pot"}),
}
"""Treatments by verb."""

ROOMS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "kitchen": {
        "cabinet": (1, 4),
        "coffeemachine": (0, 1),
        "countertop": (1, 2),
        "diningtable": (0, 1),
        "drawer": (1, 3),
        "fridge": (1, 1),
        "garbagecan": (1, 1),
        "microwave": (1, 1),
        "shelf": (0, 2),
        "sinkbasin": (1, 1),
        "stoveburner": (0, 2),
        "toaster": (0, 1),
    },
    "bathroom": {
        "bathtub": (0, 1),
        "cabinet": (1, 3),
        "countertop": (1, 1),
        "drawer": (0, 2),
        "garbagecan": (1, 1),
        "handtowelholder": (0, 2),
        "laundryhamper": (0, 1),
        "shelf": (0, 2),
        "sinkbasin": (1, 2),
        "toilet": (1, 1),
        "toiletpaperhanger": (0, 1),
        "towelholder": (0, 2),
    },
    "bedroom": {
        "armchair": (0, 1),
        "bed": (1, 1),
        "desk": (1, 2),
        "drawer": (1, 4),
        "dresser": (0, 1),
        "garbagecan": (1, 1),
        "laundryhamper": (0, 1),
        "safe": (0, 1),
        "shelf": (1, 3),
        "sidetable": (0, 2),
    },
    "livingroom": {
        "armchair": (0, 2),
        "cabinet": (0, 2),
        "coffeetable": (1, 1),
        "diningtable": (0, 1),
        "drawer": (0, 2),
        "dresser": (0, 1),
        "garbagecan": (1, 1),
        "safe": (0, 1),
        "shelf": (0, 2),
        "sidetable": (1, 2),
        "sofa": (1, 2),
        "tvstand": (0, 1),
    },
}
"""Least and most places of each kind, by room."""

LIKELY_PLACES: Mapping[str, Mapping[str, float]] = {
    "alarmclock": {"desk": 2, "dresser": 2, "shelf": 1, "sidetable": 4},
    "apple": {"countertop": 3, "diningtable": 3, "fridge": 3, "garbagecan": 0.2, "sinkbasin": 0.5},
    "book": {"bed": 2, "coffeetable": 2, "desk": 4, "drawer": 0.3, "shelf": 2, "sofa": 1},
    "bowl": {
        "cabinet": 1,
        "coffeetable": 1,
        "countertop": 2,
        "desk": 1.5,
        "diningtable": 4,
        "shelf": 1.5,
        "sidetable": 1,
    },
    "bread": {"cabinet": 0.3, "countertop": 5, "diningtable": 3, "fridge": 0.6},
    "butterknife": {"countertop": 2, "diningtable": 2, "drawer": 2, "sinkbasin": 1},
    "candle": {"bathtub": 1.5, "cabinet": 0.6, "countertop": 3, "drawer": 0.4, "toilet": 3},
    "cd": {"desk": 3, "drawer": 1, "dresser": 1, "garbagecan": 0.3, "safe": 0.6, "shelf": 2},
    "cellphone": {
        "armchair": 0.5,
        "bed": 3,
        "coffeetable": 2,
        "desk": 3,
        "drawer": 0.4,
        "dresser": 1,
        "sidetable": 2,
        "sofa": 2,
    },
    "cloth": {"bathtub": 3, "cabinet": 0.8, "countertop": 1, "laundryhamper": 1, "sinkbasin": 1.5},
    "creditcard": {
        "armchair": 0.5,
        "coffeetable": 2,
        "desk": 3,
        "drawer": 0.5,
        "dresser": 2,
        "shelf": 1,
        "sidetable": 2,
    },
    "cup": {
        "cabinet": 1,
        "countertop": 3,
        "diningtable": 3,
        "fridge": 0.4,
        "microwave": 0.3,
        "shelf": 1,
        "sinkbasin": 2,
    },
    "dishsponge": {"cabinet": 0.3, "countertop": 2, "drawer": 0.4, "sinkbasin": 5},
    "egg": {"countertop": 1, "fridge": 5, "garbagecan": 0.2, "microwave": 0.2, "sinkbasin": 0.8},
    "fork": {"countertop": 2, "diningtable": 3, "drawer": 2, "sinkbasin": 1},
    "handtowel": {"cabinet": 0.3, "countertop": 0.6, "handtowelholder": 4, "sinkbasin": 0.4},
    "keychain": {
        "armchair": 0.5,
        "coffeetable": 2,
        "desk": 2,
        "drawer": 0.4,
        "dresser": 2,
        "safe": 0.8,
        "sidetable": 3,
        "tvstand": 1,
    },
    "knife": {"countertop": 3, "diningtable": 2, "drawer": 1.5, "sinkbasin": 1},
    "ladle": {"cabinet": 0.3, "countertop": 3, "diningtable": 1, "drawer": 1.5, "sinkbasin": 1},
    "laptop": {"bed": 3, "coffeetable": 2, "desk": 4, "diningtable": 2, "sofa": 1.5},
    "lettuce": {"countertop": 2, "diningtable": 2, "fridge": 4, "garbagecan": 0.2, "sinkbasin": 1},
    "mug": {
        "cabinet": 1,
        "coffeemachine": 4,
        "countertop": 2,
        "desk": 2,
        "drawer": 0.1,
        "shelf": 1,
        "sidetable": 0.5,
        "sinkbasin": 1,
    },
    "newspaper": {"armchair": 1, "coffeetable": 4, "diningtable": 2, "garbagecan": 0.5, "sofa": 3},
    "pan": {
        "cabinet": 0.5,
        "countertop": 2,
        "diningtable": 0.5,
        "sinkbasin": 0.5,
        "stoveburner": 4,
    },
    "pen": {"desk": 5, "drawer": 1, "dresser": 1, "garbagecan": 0.2, "shelf": 1, "sidetable": 2},
    "pencil": {"desk": 5, "drawer": 1, "garbagecan": 0.2, "shelf": 1.5, "sidetable": 1},
    "peppershaker": {
        "cabinet": 1,
        "countertop": 3,
        "diningtable": 3,
        "drawer": 0.5,
        "shelf": 1,
    },
    "pillow": {"armchair": 1, "bed": 5, "sofa": 3},
    "plate": {"cabinet": 1, "countertop": 2, "diningtable": 3, "shelf": 1.5, "sinkbasin": 1.5},
    "pot": {"cabinet": 0.6, "countertop": 1, "shelf": 0.3, "sinkbasin": 0.7, "stoveburner": 4},
    "potato": {"countertop": 3, "diningtable": 1, "fridge": 3, "garbagecan": 0.2, "sinkbasin": 1},
    "remotecontrol": {"armchair": 1, "coffeetable": 3, "drawer": 0.3, "sofa": 3, "tvstand": 4},
    "saltshaker": {
        "cabinet": 1,
        "countertop": 3,
        "diningtable": 3,
        "drawer": 0.5,
        "shelf": 1,
    },
    "soapbar": {
        "bathtub": 2,
        "cabinet": 0.3,
        "countertop": 1,
        "garbagecan": 0.2,
        "sinkbasin": 3,
        "toilet": 0.5,
    },
    "soapbottle": {
        "cabinet": 0.5,
        "countertop": 3,
        "drawer": 0.2,
        "garbagecan": 0.2,
        "sinkbasin": 1,
        "toilet": 1,
    },
    "spatula": {"countertop": 3, "diningtable": 0.5, "drawer": 1.5, "sinkbasin": 1},
    "spoon": {"countertop": 2, "diningtable": 3, "drawer": 2, "sinkbasin": 1.5},
    "spraybottle": {
        "cabinet": 1,
        "countertop": 3,
        "drawer": 0.3,
        "garbagecan": 0.3,
        "shelf": 1,
        "toilet": 3,
    },
    "statue": {
        "coffeetable": 2,
        "dresser": 2,
        "safe": 0.3,
        "shelf": 3,
        "sidetable": 1,
        "tvstand": 2,
    },
    "tissuebox": {
        "cabinet": 0.4,
        "coffeetable": 2,
        "countertop": 2,
        "drawer": 0.3,
        "garbagecan": 0.2,
        "sidetable": 2,
        "toilet": 2,
    },
    "toiletpaper": {
        "cabinet": 0.8,
        "countertop": 0.5,
        "drawer": 0.4,
        "garbagecan": 0.2,
        "shelf": 1,
        "toilet": 2,
        "toiletpaperhanger": 4,
    },
    "tomato": {"countertop": 3, "diningtable": 2, "fridge": 2, "microwave": 0.1, "sinkbasin": 1},
    "towel": {"bathtub": 1, "laundryhamper": 0.8, "shelf": 0.5, "towelholder": 4},
    "vase": {
        "cabinet": 0.2,
        "coffeetable": 2,
        "diningtable": 3,
        "safe": 0.2,
        "shelf": 2,
        "sidetable": 1,
    },
    "watch": {
        "coffeetable": 1,
        "desk": 1,
        "drawer": 0.8,
        "dresser": 2,
        "safe": 0.8,
        "sidetable": 3,
    },
    LAMP: {"desk": 4, "dresser": 1, "sidetable": 2},
}
"""Weights of the places where a kind of thing is kept; the builder and any searcher share them."""

THINGS: Mapping[str, tuple[str, ...]] = {
    "kitchen": (
        "apple",
        "bowl",
        "bread",
        "butterknife",
        "cup",
        "dishsponge",
        "egg",
        "fork",
        "knife",
        "ladle",
        "lettuce",
        "mug",
        "pan",
        "peppershaker",
        "plate",
        "pot",
        "potato",
        "saltshaker",
        "soapbottle",
        "spatula",
        "spoon",
        "tomato",
    ),
    "bathroom": (
        "candle",
        "cloth",
        "handtowel",
        "soapbar",
        "soapbottle",
        "spraybottle",
        "tissuebox",
        "toiletpaper",
        "towel",
    ),
    "bedroom": (
        "alarmclock",
        "book",
        "bowl",
        "cd",
        "cellphone",
        "creditcard",
        "keychain",
        "laptop",
        "mug",
        "pen",
        "pencil",
        "pillow",
        "watch",
    ),
    "livingroom": (
        "book",
        "bowl",
        "creditcard",
        "keychain",
        "laptop",
        "newspaper",
        "pillow",
        "remotecontrol",
        "statue",
        "tissuebox",
        "vase",
        "watch",
    ),
}
"""Kinds of things found in each room."""


def kind(name: str) -> str:
    """The kind in a numbered name: ``cabinet 2`` is a ``cabinet``."""
    return name.rsplit(" ", 1)[0]


def likelihood(thing: str, place: str) -> float:
    """Weight of finding a kind of thing at a kind of place; only fixtures never stray."""
    return LIKELY_PLACES[thing].get(place, 0.0 if thing == LAMP else STRAY)


def treated(
    conditions: Mapping[str, frozenset[str]], thing: str, verb: str
) -> dict[str, frozenset[str]]:
    """The conditions of all things after ``verb`` was done to ``thing``."""
    treatment = TREATMENTS[verb]
    kept = conditions.get(thing, frozenset()) - {treatment.undoes}
    return {**conditions, thing: kept | {treatment.condition}}
