from __future__ import annotations

from typing import Any

from tutelage.runtime.gateway.episodes import Episodes


def episodes(capacity: int = 2) -> Episodes:
    server: Any = object()
    return Episodes(server, capacity)


def test_an_episode_is_remembered_by_tenant_and_id() -> None:
    known = episodes()
    first = known.episode("acme", "e1")
    assert known.episode("acme", "e1") is first
    assert known.episode("other", "e1") is not first


def test_the_least_recent_episode_is_forgotten() -> None:
    known = episodes(capacity=2)
    first, second = known.episode("acme", "e1"), known.episode("acme", "e2")
    assert known.episode("acme", "e1") is first
    known.episode("acme", "e3")
    assert known.episode("acme", "e1") is first
    assert known.episode("acme", "e2") is not second


def test_an_episode_that_only_passes_takes_no_place() -> None:
    known = episodes(capacity=1)
    first = known.episode("acme", "e1")
    passing = [known.passing("acme") for _ in range(3)]
    assert {one.tenant for one in passing} == {"acme"}
    assert len({one.id for one in passing}) == 3
    assert known.episode("acme", "e1") is first
