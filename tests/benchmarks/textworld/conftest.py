from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tests.absence import absent

from tutelage.runtime.cache_dir import cache_dir


@pytest.fixture
def games_folder() -> Path:
    """Where real games are kept; they are made once."""
    if importlib.util.find_spec("textworld") is None:
        absent("textworld is not installed: pip install 'tutelage[textworld]'")
    return cache_dir() / "textworld"
