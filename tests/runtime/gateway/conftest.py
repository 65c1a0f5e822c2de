"""Databases of both kinds, clocks that a test turns, keys, and gateways on real sockets."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine
from tests.postgres import postgres, postgres_url  # noqa: F401 - fixtures
from tests.served_gateway import Served, World

from tutelage.runtime.gateway.admission import Admission
from tutelage.runtime.gateway.keyring import Keyring
from tutelage.runtime.gateway.keys import Pepper
from tutelage.runtime.secret import Secret
from tutelage.runtime.store.database import migrate, open_engine


@dataclass
class Clock:
    """A clock that stands until it is turned."""

    now_s: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ticks() -> Clock:
    return Clock(500.0)


@pytest.fixture(scope="session")
def pepper() -> Pepper:
    return Pepper(Secret("a pepper of the tests, long enough"))


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/gateway.sqlite"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = open_engine(database_url)
    migrate(made)
    yield made
    made.dispose()


@pytest.fixture
async def keyring(
    engine: Engine, pepper: Pepper, clock: Clock, ticks: Clock
) -> AsyncIterator[Keyring]:
    async with Keyring(engine, pepper, key_cache_s=30.0, clock=clock, ticks=ticks) as made:
        yield made


@pytest.fixture
async def admission(engine: Engine, clock: Clock, ticks: Clock) -> AsyncIterator[Admission]:
    async with Admission(engine, clock=clock, ticks=ticks) as made:
        yield made


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 - the condition is the state of a thread
                await asyncio.sleep(0.005)

    return wait


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
    monkeypatch.setenv("TUTELAGE_PEPPER", "a pepper of the tests, long enough")
    settings = {"store.url": f"sqlite:///{database}", "store.spool": str(tmp_path / "spool")}
    async with World(settings) as made:
        yield made


@pytest.fixture
async def served(world: World) -> AsyncIterator[Served]:
    """A gateway that asks for no key, whose teacher speaks every wire."""
    async with world.serve() as made:
        yield made


@pytest.fixture
async def guarded(world: World) -> AsyncIterator[Served]:
    """A gateway that asks for keys; its client has none yet."""
    async with world.serve(is_open=False) as made:
        yield made
