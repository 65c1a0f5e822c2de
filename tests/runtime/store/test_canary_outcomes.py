from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from tutelage.runtime.store.canary_outcomes import SqlCanaryOutcomes
from tutelage.runtime.store.database import open_engine
from tutelage.runtime.store.spool import Spool
from tutelage.runtime.store.traces import SqlTraceStore
from tutelage.runtime.types import Decision, EpisodeRecord, Reason, Trace


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    name = "url" if request.param == "sqlite" else "postgres_url"
    made = open_engine(request.getfixturevalue(name))
    yield made
    made.dispose()


def trace(episode: str, index: int, at_s: float, student: str | None, **changes: Any) -> Trace:
    known: dict[str, Any] = {
        "id": f"{episode}-{index}",
        "tenant": "acme",
        "episode_id": episode,
        "step_index": index,
        "created_at_s": at_s,
        "model": "agent",
        "student": student,
        "goal": "g",
        "observation": "o",
        "answer": "a",
        "decision": Decision(served="student", reason=Reason.AGREED),
    }
    return Trace.model_validate({**known, **changes})


def failed(reason: Reason) -> dict[str, Any]:
    return {"decision": Decision(served="teacher", reason=reason)}


async def test_only_whole_finished_episodes_of_one_release_count(
    engine: Engine, spool: Spool
) -> None:
    new, old = "student@2", "student@1"
    steps = [
        trace("good", 0, 10.0, new),
        trace("bad", 0, 11.0, new),
        trace("late", 0, 12.0, new, **failed(Reason.STUDENT_LATE)),
        trace("other", 0, 13.0, old),
        trace("deferred", 0, 13.5, new, **failed(Reason.DISAGREED)),
        trace("mixed", 0, 14.0, old),
        trace("mixed", 1, 15.0, new),
        trace("earlier", 0, 1.0, old),
        trace("earlier", 1, 16.0, old),
        trace("open", 0, 17.0, new),
        trace("forced", 0, 18.0, new, **failed(Reason.FORCED)),
        trace("passed", 0, 19.0, None, mode="passthrough"),
        trace("unreleased", 0, 20.0, None),
        trace("third", 0, 20.5, "student@3"),
        trace("good", 1, 21.0, new),
    ]
    async with SqlTraceStore(engine, spool=spool) as store:
        for one in steps:
            await store.append(one)
        for id in {one.episode_id for one in steps} - {"open"}:
            await store.record_episode(
                EpisodeRecord(id=id, tenant="acme", success=id != "bad", created_at_s=1.0)
            )
        await store.append(trace("foreign", 0, 12.0, new, tenant="other"))
        await store.record_episode(
            EpisodeRecord(id="foreign", tenant="other", success=True, created_at_s=1.0)
        )
    read = SqlCanaryOutcomes(engine)
    assert read.since("acme", new, old, 5.0, 100.0, counts_lost=False) == [
        ("good", True, True),
        ("bad", True, False),
        ("late", True, False),
        ("other", False, True),
        ("deferred", True, True),
    ]
    against_none = read.since("acme", new, None, 5.0, 100.0, counts_lost=False)
    assert [one for one in against_none if not one[1]] == [("unreleased", False, True)]


async def test_an_episode_is_not_seen_before_an_earlier_one_has_ended(
    engine: Engine, spool: Spool
) -> None:
    new = "student@2"
    read = SqlCanaryOutcomes(engine)
    async with SqlTraceStore(engine, spool=spool) as store:
        for number in range(3):
            await store.append(trace(f"e{number}", 0, 10.0 + number, new))
        for id in ("e0", "e2"):
            await store.record_episode(
                EpisodeRecord(id=id, tenant="acme", success=True, created_at_s=1.0)
            )
        assert [id for id, *_ in read.since("acme", new, None, 5.0, 11.0)] == ["e0"]
        # It is not waited for any longer.
        left_out = read.since("acme", new, None, 5.0, 11.5, counts_lost=False)
        assert [id for id, *_ in left_out] == ["e0", "e2"]
        lost = read.since("acme", new, None, 5.0, 11.5)
        assert [won for *_, won in lost] == [True, False, True]
        await store.record_episode(
            EpisodeRecord(id="e1", tenant="acme", success=False, created_at_s=1.0)
        )
    assert [id for id, *_ in read.since("acme", new, None, 5.0, 11.0)] == ["e0", "e1", "e2"]
