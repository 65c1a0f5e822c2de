from __future__ import annotations

from pathlib import Path

import pytest
from tests.alfworld_games import unpacked_games


@pytest.fixture(scope="session")
def games_folder() -> Path:
    """The real games, unpacked into the cache once."""
    return unpacked_games()
