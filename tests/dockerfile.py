"""The instructions of the Dockerfile."""

from __future__ import annotations

import json
import re

from tests.deployed import DEPLOY

Instructions = list[tuple[str, str]]
"""Word and rest of each, continued lines joined."""


def instructions() -> Instructions:
    """Those of the image, comments left out."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    lines = (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    return [(word.upper(), rest.strip()) for word, _, rest in lines]


def all_of(image: Instructions, word: str) -> list[str]:
    """What follows every instruction of a kind."""
    return [rest for found, rest in image if found == word]


def copied(image: Instructions) -> set[str]:
    """What the image takes from the repository."""
    found: set[str] = set()
    for rest in all_of(image, "COPY"):
        if not rest.startswith("--from"):
            found |= {name.removeprefix("./") for name in rest.split()[:-1]}
    return found


def start(image: Instructions) -> list[str]:
    """The command of a container."""
    words: list[str] = json.loads(all_of(image, "ENTRYPOINT")[0])
    arguments: list[str] = json.loads(all_of(image, "CMD")[0])
    return words + arguments


def healthcheck(image: Instructions) -> list[str]:
    """The command that asks whether the container lives."""
    words: list[str] = json.loads(all_of(image, "HEALTHCHECK")[0].partition("CMD ")[2])
    return words


def variables(image: Instructions) -> dict[str, str]:
    """What the last stage sets."""
    at = max(index for index, (word, _) in enumerate(image) if word == "FROM")
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(all_of(image[at:], "ENV"))))
