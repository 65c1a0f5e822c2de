"""The real ALFWorld games, for tests that play them."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from tests.absence import absent

from tutelage.benchmarks.alfworld.unpack import unpack_games
from tutelage.runtime.cache_dir import cache_dir

ROOT = Path(__file__).parents[1]


def unpacked_games() -> Path:
    """Their folder in the cache, where they are unpacked once."""
    if importlib.util.find_spec("alfworld") is None:
        absent("alfworld is not installed: pip install 'tutelage[alfworld]'")
    named = os.environ.get("ALFWORLD_ARCHIVES")
    archives = Path(named) if named else ROOT.parent / "shared" / "data" / "alfworld"
    if not any(archives.glob("*.tar.xz")):
        absent(f"no archives of ALFWorld games in {archives}: set ALFWORLD_ARCHIVES")
    return unpack_games(archives, cache_dir())
