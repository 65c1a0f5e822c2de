"""The language of the world: commands in, sentences out, and how to read the sentences back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

REFUSAL = "Nothing happens."
"""The answer to any action that cannot be understood or done."""

_NAME = r"[a-z]+ [0-9]+"
_FORMS = tuple(
    re.compile(form)
    for form in (
        rf"(?P<verb>go) to (?P<place>{_NAME})",
        rf"(?P<verb>open|close) (?P<place>{_NAME})",
        rf"(?P<verb>take) (?P<thing>{_NAME}) from (?P<place>{_NAME})",
        rf"(?P<verb>move) (?P<thing>{_NAME}) to (?P<place>{_NAME})",
        rf"(?P<verb>put) (?P<thing>{_NAME}) (?:in/on|in|on) (?P<place>{_NAME})",
        rf"(?P<verb>clean|heat|cool) (?P<thing>{_NAME}) with (?P<place>[a-z]+(?: [0-9]+)?)",
        r"(?P<verb>use) (?P<thing>[a-z]+(?: [0-9]+)?)",
        rf"(?P<verb>examine) (?P<thing>{_NAME})",
        r"(?P<verb>look|inventory)",
    )
)
_ARTICLES = frozenset({"a", "an", "the"})
_LISTING = re.compile(r"you see ([^.]*)\.")


@dataclass(frozen=True, slots=True)
class Command:
    """An action that was understood; whether it is possible is for the world to say."""

    verb: str
    thing: str = ""
    place: str = ""


def parse(text: str) -> Command | None:
    """Reads a command; case, articles, spacing and a final full stop do not matter."""
    words = text.lower().rstrip(". \n\t").split()
    plain = " ".join(word for word in words if word not in _ARTICLES)
    for form in _FORMS:
        if match := form.fullmatch(plain):
            parts = match.groupdict(default="")
            verb = "move" if parts["verb"] == "put" else parts["verb"]
            return Command(verb, parts.get("thing", ""), parts.get("place", ""))
    return None


def listing(names: Iterable[str]) -> str:
    """A list of things as a sentence says it: ``a pen 2, a mug 1``, or ``nothing``."""
    return ", ".join(f"a {name}" for name in names) or "nothing"


def read_listing(sentences: str) -> tuple[str, ...] | None:
    """The names an observation lists; ``None`` if it lists none because nothing was shown."""
    match = _LISTING.search(sentences)
    if match is None:
        return None
    names = match[1].split(", ")
    return tuple(name.removeprefix("a ") for name in names if name != "nothing")
