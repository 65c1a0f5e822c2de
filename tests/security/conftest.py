"""Gateways on real sockets, with keys, over a database file."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.served_gateway import Served, World

PEPPER = "the-pepper-of-these-tests-opens-nothing"


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> Path:
    """The file of the gateway's database."""
    return Path(shutil.copy(empty_database, tmp_path / "tutelage.sqlite"))


@pytest.fixture
async def world(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """Upstreams, and gateways between them and a client."""
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TUTELAGE_PEPPER", PEPPER)
    settings = {"store.url": f"sqlite:///{database}", "store.spool": str(tmp_path / "spool")}
    async with World(settings) as made:
        yield made


@pytest.fixture
async def guarded(world: World) -> AsyncIterator[Served]:
    """A gateway that asks for keys; its client has none yet."""
    async with world.serve(is_open=False) as made:
        yield made
