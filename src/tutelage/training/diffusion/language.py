"""Two small languages of agents' answers, to compare ways of decoding on."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

THINGS: Final = ("apple", "book", "bowl", "cup", "key", "knife", "mug", "pen")
PLACES: Final = ("bed", "cabinet", "counter", "desk", "drawer", "fridge", "shelf", "sink")
NOTHING: Final = "nothing"


@dataclass(frozen=True, slots=True)
class Scene:
    """What an agent knows before a step."""

    wanted: str
    """The thing to move."""
    target: str
    """Where to put it; one of the places."""
    places: tuple[str, ...]
    here: str
    seen: tuple[str, ...]
    """What lies here."""
    is_held: bool
    """Whether the agent has the thing."""

    def text(self) -> str:
        """The scene as the user's message; every word says what it is about."""
        return " ".join(
            (
                f"want={self.wanted}",
                f"into={self.target}",
                *(f"place={place}" for place in self.places),
                f"at={self.here}",
                *(f"see={thing}" for thing in self.seen),
                f"hold={self.wanted if self.is_held else NOTHING}",
            )
        )

    def actions(self) -> tuple[str, ...]:
        """All right actions, at least one."""
        if self.is_held:
            if self.here == self.target:
                return (f"put {self.wanted} in {self.target}",)
            return (f"go to {self.target}",)
        if self.wanted in self.seen:
            return (f"take {self.wanted} from {self.here}",)
        return tuple(f"go to {place}" for place in self.places if place != self.here)


def drawn_scene(chance: random.Random) -> Scene:
    """A scene; in a third each the thing is held, in sight, or still to be found."""
    wanted = chance.choice(THINGS)
    places = tuple(chance.sample(PLACES, 4))
    target = chance.choice(places)
    seen = chance.sample([thing for thing in THINGS if thing != wanted], 2)
    state = chance.choice(("held", "seen", "sought"))
    if state == "seen":
        seen[chance.randrange(2)] = wanted
    elsewhere = [place for place in places if place != target]
    here = chance.choice(places if state == "held" else elsewhere)
    return Scene(wanted, target, places, here, tuple(seen), state == "held")


@dataclass(frozen=True, slots=True)
class Language:
    """How answers are worded, and which are right."""

    name: str
    slots: int
    """Length of the canvas that its answers fit."""
    block_length: int
    answer: Callable[[Scene, random.Random], str]
    """One right answer of the many."""
    is_right: Callable[[Scene, str], bool]
    words: Sequence[str]
    """All that answers are made of, beside the scenes' own words."""

    def vocabulary(self) -> Iterator[str]:
        """All words of prompts and answers."""
        yield from (*THINGS, *PLACES, "go", "to", "take", "put", "from", "in")
        yield from (f"{key}={thing}" for key in ("want", "see", "hold") for thing in THINGS)
        yield from (f"{key}={place}" for key in ("into", "place", "at") for place in PLACES)
        yield f"hold={NOTHING}"
        yield from (word for text in self.words for word in text.split())


_OPENERS = (
    "put {wanted} in {target} :",
    "bring {wanted} to {target} ;",
    "goal {wanted} into {target} ,",
    "for {wanted} and {target} I",
    "since {wanted} needs {target} now",
)
_CLOSINGS = ("", ".", "now", ", then look")
_ACTION = (
    rf"(?:go to (?:{'|'.join(PLACES)})"
    rf"|(?:take|put) (?:{'|'.join(THINGS)}) (?:from|in) (?:{'|'.join(PLACES)}))"
)


def _short_answer(scene: Scene, chance: random.Random) -> str:
    action = chance.choice(scene.actions())
    opener = chance.choice(_OPENERS).format(wanted=scene.wanted, target=scene.target)
    return f"{opener} {action} {chance.choice(_CLOSINGS)}".strip()


def _is_right_short(scene: Scene, answer: str) -> bool:
    """Whether the words are one of the openers for this goal, a right action, and a closing."""
    for opener in _OPENERS:
        begin = opener.format(wanted=scene.wanted, target=scene.target) + " "
        for closing in _CLOSINGS:
            end = f" {closing}" if closing else ""
            if answer.startswith(begin) and answer.endswith(end):
                action = answer[len(begin) : len(answer) - len(end)]
                if action in scene.actions():
                    return True
    return False


_DOUBTS = (
    "{second} may hold it , but rather {first}",
    "before I try {second} I look in {first}",
    "not {second} yet but {first}",
    "less likely than the others is {second} , so first comes {first}",
)
_SIGHTS = ("right here is {name}", "I can see {name}", "in front of me now lies {name}")
_HOLDS = ("in my hand is {name}", "I hold {name}", "with me , as it should be , is {name}")
_FILLERS = ("", "good .", "this seems clear .", "let me not waste a step .", "as I was asked .")
_STARTS = ("think :", "thought :", "reason :")
_REASONED = re.compile(
    rf"(?:{'|'.join(_STARTS)})(?: (?:{'|'.join(re.escape(f) for f in _FILLERS if f)}))?"
    rf" (?P<reason>.+?) \. act : (?P<action>{_ACTION})"
)


def _pattern(form: str) -> re.Pattern[str]:
    places = rf"(?:{'|'.join(PLACES)})"
    things = rf"(?:{'|'.join(THINGS)})"
    text = re.escape(form).replace(r"\{first\}", f"(?P<first>{places})")
    text = text.replace(r"\{second\}", f"(?P<second>{places})")
    return re.compile(text.replace(r"\{name\}", f"(?P<name>{things})"))


_REASONS: Mapping[str, tuple[re.Pattern[str], ...]] = MappingProxyType(
    {
        "sought": tuple(map(_pattern, _DOUBTS)),
        "seen": tuple(map(_pattern, _SIGHTS)),
        "held": tuple(map(_pattern, _HOLDS)),
    }
)


def _reasoned_answer(scene: Scene, chance: random.Random) -> str:
    action = chance.choice(scene.actions())
    if scene.is_held:
        reason = chance.choice(_HOLDS).format(name=scene.wanted)
    elif action.startswith("take"):
        name = action.split()[1]
        reason = chance.choice(_SIGHTS).format(name=name)
    else:
        first = action.removeprefix("go to ")
        others = [place for place in scene.places if place not in (first, scene.here)]
        reason = chance.choice(_DOUBTS).format(first=first, second=chance.choice(others))
    filler = chance.choice(_FILLERS)
    words = (chance.choice(_STARTS), filler, reason, ". act :", action)
    return " ".join(word for word in words if word)


def _is_right_reasoned(scene: Scene, answer: str) -> bool:
    """Whether the action is right, and is the one that the reason speaks of."""
    match = _REASONED.fullmatch(answer)
    if match is None or match["action"] not in scene.actions():
        return False
    action, reason = match["action"], match["reason"]
    if scene.is_held:
        return _names(_REASONS["held"], reason, name=scene.wanted)
    if action.startswith("take"):
        return _names(_REASONS["seen"], reason, name=action.split()[1])
    for pattern in _REASONS["sought"]:
        if found := pattern.fullmatch(reason):
            second = found["second"]
            known = second in scene.places and second not in (found["first"], scene.here)
            return known and action == f"go to {found['first']}"
    return False


def _names(patterns: Sequence[re.Pattern[str]], reason: str, name: str) -> bool:
    return any((found := p.fullmatch(reason)) and found["name"] == name for p in patterns)


ACTIONS: Final = Language(
    "actions",
    20,
    20,
    _short_answer,
    _is_right_short,
    tuple(re.sub(r"\{[a-z]+\}", "", text) for text in (*_OPENERS, *_CLOSINGS)),
)
"""Household actions, worded in several ways."""
REASONED: Final = Language(
    "reasoned",
    32,
    16,
    _reasoned_answer,
    _is_right_reasoned,
    tuple(
        re.sub(r"\{[a-z]+\}", "", text)
        for text in (*_DOUBTS, *_SIGHTS, *_HOLDS, *_FILLERS, *_STARTS, "act :")
    ),
)
"""A reason, then the action that it speaks of; lengths vary, and which of several places the agent
chooses to look in cannot be foretold."""
LANGUAGES: Final = (ACTIONS, REASONED)
