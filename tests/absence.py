"""What a test does where a part that it needs is not installed."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def absent(reason: str) -> NoReturn:
    """Skips; fails where ``TUTELAGE_TEST_ALL`` is set, so that no part goes untested unseen."""
    if os.environ.get("TUTELAGE_TEST_ALL"):
        pytest.fail(reason)
    pytest.skip(reason)
