from __future__ import annotations

import importlib.util

import pytest
from tests.absence import absent

from tutelage.benchmarks.bfcl.items import INSTALL
from tutelage.benchmarks.bfcl.world import BfclWorld


@pytest.fixture(scope="session")
def world() -> BfclWorld:
    """The real items and the real checker."""
    if importlib.util.find_spec("bfcl_eval") is None or importlib.util.find_spec("mpmath") is None:
        absent(f"bfcl_eval or mpmath is not installed: {INSTALL}")
    return BfclWorld()
