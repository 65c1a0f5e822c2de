from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Protocol

import pytest
from sqlalchemy import Engine
from tests.retrieval.traffic import Traffic

from tutelage.retrieval.bank import Bank
from tutelage.retrieval.embedding import Embedder, HashEmbedder, Vectors
from tutelage.retrieval.keys import StateKey
from tutelage.runtime.store.database import migrate, open_engine
from tutelage.runtime.store.spool import Spool
from tutelage.runtime.store.traces import SqlTraceStore
from tutelage.runtime.types import Served, Step, Trajectory, Turn


class MakeTrajectory(Protocol):
    def __call__(
        self,
        id: str = ...,
        *,
        tenant: str = ...,
        goal: str = ...,
        turns: Sequence[tuple[str, str]] = ...,
        served: Sequence[Served | None] | None = ...,
        success: bool = ...,
        category: str | None = ...,
        plan: str | None = ...,
        task_id: str | None = ...,
    ) -> Trajectory: ...


class MakeStep(Protocol):
    def __call__(
        self,
        observation: str = ...,
        *,
        tenant: str = ...,
        goal: str = ...,
        history: Sequence[tuple[str, str]] = ...,
        index: int | None = ...,
        task_id: str | None = ...,
    ) -> Step: ...


class MakeBank(Protocol):
    def __call__(self, other: Embedder | None = ..., state_key: StateKey | None = ...) -> Bank: ...


TURNS = (
    ("You are in a kitchen.", "go to fridge 1"),
    ("The fridge 1 is closed.", "open fridge 1"),
    ("You open the fridge 1. In it you see a mug 1.", "take mug 1 from fridge 1"),
    ("You pick up the mug 1.", "go to shelf 1"),
    ("You arrive at the shelf 1.", "move mug 1 to shelf 1"),
)


class CountingEmbedder:
    """A hash embedder that remembers what it was asked for."""

    def __init__(self, name: str = "counting", dimension: int = 64) -> None:
        self._inner = HashEmbedder(dimension)
        self.name = name
        self.dimension = dimension
        self.calls: list[list[str]] = []

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.calls.append(list(texts))
        return await self._inner.embed(texts)


@pytest.fixture
def trajectory() -> MakeTrajectory:
    def make(
        id: str = "t1",
        *,
        tenant: str = "acme",
        goal: str = "put a mug on the shelf",
        turns: Sequence[tuple[str, str]] = TURNS,
        served: Sequence[Served | None] | None = None,
        success: bool = True,
        category: str | None = None,
        plan: str | None = None,
        task_id: str | None = None,
    ) -> Trajectory:
        actors = served or [None] * len(turns)
        return Trajectory(
            id=id,
            tenant=tenant,
            goal=goal,
            turns=tuple(Turn(o, a, s) for (o, a), s in zip(turns, actors, strict=True)),
            success=success,
            category=category,
            plan=plan,
            task_id=task_id,
            source="oracle:test",
        )

    return make


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'store.sqlite'}")
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def clock() -> Callable[[], float]:
    ticks = count(1_000)
    return lambda: float(next(ticks))


@pytest.fixture
def embedder() -> CountingEmbedder:
    return CountingEmbedder()


@pytest.fixture
def make_bank(
    database: Engine, embedder: CountingEmbedder, clock: Callable[[], float], tmp_path: Path
) -> MakeBank:
    def make(other: Embedder | None = None, state_key: StateKey | None = None) -> Bank:
        return Bank(database, other or embedder, tmp_path / "cache", clock, state_key=state_key)

    return make


@pytest.fixture
def bank(make_bank: MakeBank) -> Bank:
    return make_bank()


@pytest.fixture
def step() -> MakeStep:
    def make(
        observation: str = "You are in a kitchen.",
        *,
        tenant: str = "acme",
        goal: str = "put a mug on the shelf",
        history: Sequence[tuple[str, str]] = (),
        index: int | None = None,
        task_id: str | None = None,
    ) -> Step:
        return Step(
            tenant=tenant,
            episode_id="e",
            index=len(history) if index is None else index,
            goal=goal,
            observation=observation,
            history=tuple(Turn(o, a) for o, a in history),
            task_id=task_id,
        )

    return make


@pytest.fixture
async def traffic(database: Engine, bank: Bank, tmp_path: Path) -> AsyncIterator[Traffic]:
    async with SqlTraceStore(database, spool=Spool(tmp_path / "spool")) as store:
        yield Traffic(store, database, bank)
