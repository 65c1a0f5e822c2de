from __future__ import annotations

from collections.abc import Callable

from tutelage.runtime.store.memory import MemoryTraceStore
from tutelage.runtime.types import EpisodeRecord, Trace


async def test_a_trace_is_kept_once_and_for_its_tenant(make_trace: Callable[..., Trace]) -> None:
    store = MemoryTraceStore()
    await store.append(make_trace("t1", answer="first"))
    await store.append(make_trace("t1", answer="second"))
    kept = await store.trace("acme", "t1")
    assert kept is not None
    assert kept.answer == "first"
    assert await store.trace("other", "t1") is None
    assert await store.traces("other") == []
    assert store.counters.stored == 2


async def test_traces_are_filtered_and_ordered(make_trace: Callable[..., Trace]) -> None:
    store = MemoryTraceStore()
    for number in range(6):
        await store.append(
            make_trace(
                f"t{number}",
                step_index=number,
                episode_id=f"e{number % 2}",
                served="teacher" if number == 3 else "student",
            )
        )
    newest = await store.traces("acme", limit=2)
    assert [trace.id for trace in newest] == ["t5", "t4"]
    oldest = await store.traces("acme", episode_id="e1", newest_first=False)
    assert [trace.id for trace in oldest] == ["t1", "t3", "t5"]
    assert [trace.id for trace in await store.traces("acme", served="teacher")] == ["t3"]


async def test_an_episode_keeps_what_an_update_leaves_out(
    make_episode: Callable[..., EpisodeRecord],
) -> None:
    store = MemoryTraceStore()
    await store.record_episode(make_episode(goal="tidy up", task_id="g1"))
    await store.record_episode(make_episode(success=False, created_at_s=2000.0))
    await store.record_episode(make_episode("e2", success=True))
    assert await store.episode("acme", "e1") == make_episode(
        goal="tidy up", task_id="g1", success=False
    )
    assert [episode.id for episode in await store.episodes("acme")] == ["e2", "e1"]
    assert [episode.id for episode in await store.episodes("acme", success=True)] == ["e2"]
    assert await store.episode("other", "e1") is None


async def test_the_oldest_are_forgotten_beyond_the_capacity(
    make_trace: Callable[..., Trace], make_episode: Callable[..., EpisodeRecord]
) -> None:
    store = MemoryTraceStore(capacity=2)
    for number in range(4):
        await store.append(make_trace(f"t{number}"))
        await store.record_episode(make_episode(f"e{number}"))
    assert [trace.id for trace in await store.traces("acme")] == ["t3", "t2"]
    assert [episode.id for episode in await store.episodes("acme")] == ["e3", "e2"]
