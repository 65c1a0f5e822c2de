"""Two small languages of agents' answers, to compare ways of decoding on."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
    places = tuple(chance.sample(PLACES, 3))
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
    """Length of the canvas that its answers fit; it is one block."""
    answer: Callable[[Scene, random.Random], str]
    """One right answer of the many."""
    is_right: Callable[[Scene, str], bool]
    base_share: float
    """Of the steps of a base student, the share that learning it takes."""
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


_STARTS = ("think :", "thought :", "reason :")
_CHOICES = (
    "{first} comes before {second}",
    "{first} rather than {second}",
    "{first} , and later {second}",
)
_SIGHTS = ("{name} is right here", "{name} lies in front of me", "{name} I can see")
_HOLDS = ("{name} is in my hand", "{name} I hold", "{name} is with me")
_TAILS = (
    "",
    ", good",
    ", this seems clear",
    ", so let me not waste a step",
    ", as I was asked to do",
)
_ACT = ". act :"
_REASONED = re.compile(
    rf"(?:{'|'.join(_STARTS)}) (?P<reason>.+?)"
    rf"(?: (?:{'|'.join(re.escape(tail) for tail in _TAILS if tail)}))?"
    rf" {re.escape(_ACT)} (?P<action>.+)"
)


def _reasons(scene: Scene, action: str) -> list[str]:
    """All reasons that speak of an action."""
    if scene.is_held:
        return [form.format(name=scene.wanted) for form in _HOLDS]
    if action.startswith("take"):
        return [form.format(name=scene.wanted) for form in _SIGHTS]
    first = action.removeprefix("go to ")
    others = [place for place in scene.places if place not in (first, scene.here)]
    return [form.format(first=first, second=second) for second in others for form in _CHOICES]


def _reasoned_answer(scene: Scene, chance: random.Random) -> str:
    action = chance.choice(scene.actions())
    reason, tail = chance.choice(_reasons(scene, action)), chance.choice(_TAILS)
    return " ".join(word for word in (chance.choice(_STARTS), reason, tail, _ACT, action) if word)


def _is_right_reasoned(scene: Scene, answer: str) -> bool:
    """Whether the action is right, and is the one that the reason speaks of."""
    match = _REASONED.fullmatch(answer)
    if match is None or match["action"] not in scene.actions():
        return False
    return match["reason"] in _reasons(scene, match["action"])


def bare_action(scene: Scene, chance: random.Random) -> str:
    """A right action without any words around it: what a student learns first."""
    return chance.choice(scene.actions())


BARE_SLOTS: Final = 6
"""Length of the canvas that bare actions fit."""
ACTIONS: Final = Language(
    "actions",
    16,
    _short_answer,
    _is_right_short,
    0.4,
    tuple(re.sub(r"\{[a-z]+\}", "", text) for text in (*_OPENERS, *_CLOSINGS)),
)
"""Household actions, worded in several ways."""
REASONED: Final = Language(
    "reasoned",
    24,
    _reasoned_answer,
    _is_right_reasoned,
    1.0,
    tuple(
        re.sub(r"\{[a-z]+\}", "", text)
        for text in (*_STARTS, *_CHOICES, *_SIGHTS, *_HOLDS, *_TAILS, _ACT)
    ),
)
"""A reason, then the action that it speaks of; lengths vary, and neither the words nor which of
two places the agent looks in first can be foretold."""
LANGUAGES: Final = (ACTIONS, REASONED)
