from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.postgres import postgres, postgres_url  # noqa: F401 - fixtures

from tutelage.runtime.store.spool import Spool
from tutelage.runtime.types import Decision, EpisodeRecord, Reason, Served, Trace, Usage


@pytest.fixture
def make_trace() -> Callable[..., Trace]:
    def build(
        id: str = "t1",
        *,
        tenant: str = "acme",
        episode_id: str = "e1",
        step_index: int = 0,
        created_at_s: float = 1000.0,
        served: Served = "student",
        answer: str = "go to shelf 1",
    ) -> Trace:
        return Trace(
            id=id,
            tenant=tenant,
            episode_id=episode_id,
            step_index=step_index,
            created_at_s=created_at_s,
            model="agent",
            goal="put a mug on the shelf",
            observation="You see a mug 1.",
            answer=answer,
            decision=Decision(served=served, reason=Reason.AGREED, score=1.0),
            prompt=({"role": "user", "content": "Ünïcode and \0 and 😀"},),
            usage={"student": Usage(input_tokens=7, output_tokens=3)},
            cost_usd={"student": 0.25, "teacher": 0.5},
            latency_s={"total": 0.1},
        )

    return build


@pytest.fixture
def make_episode() -> Callable[..., EpisodeRecord]:
    def build(id: str = "e1", *, tenant: str = "acme", **fields: object) -> EpisodeRecord:
        return EpisodeRecord.model_validate(
            {"id": id, "tenant": tenant, "created_at_s": 1000.0, **fields}
        )

    return build


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "store" / "traces.sqlite"


@pytest.fixture
def url(database: Path) -> str:
    return f"sqlite:///{database}"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool" / "traces.spool")


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 - the condition is the state of a file
                await asyncio.sleep(0.005)

    return wait
