"""Keeps a test away from the configuration, cache and games of whoever runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def isolate(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Works in ``folder``, with an empty cache and no settings in the environment."""
    for name in os.environ:
        if name.startswith("TUTELAGE_") or name == "ALFWORLD_DATA":
            patch.delenv(name)
    patch.setenv("TUTELAGE_CACHE", str(folder / "cache"))
    patch.chdir(folder)
