"""The pages about clients, and what can be run of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "how-to" / "clients"
INDEX = FOLDER.with_suffix(".md")
GATEWAY = "http://127.0.0.1:8080"
"""The address that the pages name."""

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Page:
    """One page."""

    name: str
    text: str

    def blocks(self, language: str) -> list[str]:
        """What is fenced as a language."""
        return [code for found, code in _FENCE.findall(self.text) if found == language]


def page(name: str) -> Page:
    """A page by the name of its file."""
    return Page(name, (FOLDER / f"{name}.md").read_text("utf-8"))


def pages() -> list[str]:
    """Names of all pages."""
    return sorted(path.stem for path in FOLDER.glob("*.md"))
