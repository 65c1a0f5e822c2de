from __future__ import annotations

from typing import Any

import pytest

from tutelage.runtime import remembered_episodes
from tutelage.runtime.episode import Episode
from tutelage.runtime.remembered_episodes import RememberedEpisodes
from tutelage.runtime.types import Answer, ChatRequest


class NoServer:
    """Episodes are only looked at here."""

    async def complete(self, request: ChatRequest, *, episode: Episode | None = None) -> Answer:
        raise AssertionError("no episode serves itself")

    async def record_episode(self, episode: Episode, **outcome: Any) -> None:
        raise AssertionError("no episode is recorded")


def request(opening: str, *turns: str, model: str = "alias") -> ChatRequest:
    messages = [{"role": "user", "content": opening}]
    for place, text in enumerate(turns):
        messages.append({"role": "user" if place % 2 else "assistant", "content": text})
    return ChatRequest.model_validate({"model": model, "messages": messages})


def remembered(tenant: str = "acme") -> RememberedEpisodes:
    return RememberedEpisodes(lambda id: Episode(NoServer(), id=id, tenant=tenant), tenant)


def test_later_steps_of_a_conversation_are_of_its_episode() -> None:
    made = remembered()
    first = made.of(request("Tidy."))
    assert made.of(request("Tidy.", "look", "A room.")) is first
    assert made.of(request("Tidy.", "open", "A desk.", "look", "A bed.")) is first


def test_other_openings_models_and_tenants_are_other_episodes() -> None:
    made = remembered()
    ids = {
        made.of(request("Tidy.")).id,
        made.of(request("Cook.")).id,
        made.of(request("Tidy.", model="other")).id,
        remembered("bank").of(request("Tidy.")).id,
    }
    assert len(ids) == 4


def test_the_same_opening_has_the_same_id_after_a_restart() -> None:
    first, second = remembered().of(request("Tidy.")), remembered().of(request("Tidy."))
    assert first is not second
    assert first.id == second.id


def test_the_least_recent_episode_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered_episodes, "REMEMBERED_EPISODES", 2)
    made = remembered()
    first, second = made.of(request("1")), made.of(request("2"))
    assert made.of(request("1")) is first
    third = made.of(request("3"))
    assert made.of(request("1")) is first
    assert made.of(request("3")) is third
    again = made.of(request("2"))
    assert again is not second
    assert again.id == second.id
