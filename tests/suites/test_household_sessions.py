"""Agent loops of the real SDKs that play a household through a gateway, in every mode."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from anthropic import Anthropic
from openai import OpenAI
from tests.suites.gateways import RunningGateway, run_command
from tests.suites.house import MODES, STUDENTS, House
from tests.suites.household_agent import AGENTS, Asking, Game

pytestmark = pytest.mark.suites


def play(
    house: House, student: str, wire: str, mode: str, *, stream: bool, session: str | None
) -> Game:
    """Plays a game to its end."""
    gateway = house.gateways[student]
    game = Game(next(house.games))
    headers = {"x-session-id": session} if session else {}
    with (
        OpenAI(base_url=gateway.openai_url, api_key="any", max_retries=0) as openai,
        Anthropic(base_url=gateway.url, api_key="any", max_retries=0) as anthropic,
    ):
        AGENTS[wire](game, Asking(openai, anthropic, mode, stream, headers))
    return game


def decisions(gateway: RunningGateway, game: Game) -> list[dict[str, Any]]:
    """What the gateway tells of each step."""
    with httpx.Client(base_url=gateway.url) as client:
        return [
            client.get(f"/v1/decisions/{id}").raise_for_status().json() for id in game.decisions
        ]


def cells() -> Iterator[Any]:
    for student, mode, wire, stream, named in itertools.product(
        STUDENTS, MODES, AGENTS, (False, True), (False, True)
    ):
        # What a relayed call goes on from is the upstream's affair, and this one keeps nothing.
        if (mode, wire) == ("passthrough", "kept-responses"):
            continue
        # All pairs of the two in one mode, one of each pair in the others.
        if mode == "cascade" or stream == named:
            told = "streamed" if stream else "whole", "named" if named else "unnamed"
            yield pytest.param(
                student, mode, wire, stream, named, id="-".join([student, mode, wire, *told])
            )


@pytest.mark.parametrize(("student", "mode", "wire", "stream", "named"), list(cells()))
def test_an_agent_solves_its_task(
    house: House, student: str, mode: str, wire: str, stream: bool, named: bool
) -> None:
    gateway = house.gateways[student]
    session = f"{mode}-{wire}-{stream}" if named else None
    complaints = len(house.upstream.complaints)
    game = play(house, student, wire, mode, stream=stream, session=session)

    assert game.success
    assert house.upstream.complaints[complaints:] == []
    assert len(game.decisions) == len(game.commands)
    told = decisions(gateway, game)
    assert [one["step_index"] for one in told] == list(range(len(game.commands)))
    episodes = {one["episode_id"] for one in told}
    assert len(episodes) == 1
    assert session is None or episodes == {session}
    assert {one["tutelage"]["mode"] for one in told} == {mode}
    roles = {one["decision"]["served"] for one in told}
    if mode == "cascade":
        assert roles == {"student" if student == "agrees" else "teacher"}
    elif mode != "route":
        assert roles == {"teacher"}

    said = {"decision_id": game.decisions[-1], "success": True, "reward": 1.0}
    answer = httpx.post(f"{gateway.openai_url}/feedback", json=said).raise_for_status().json()
    assert answer["episode_id"] in episodes


@pytest.mark.parametrize("wire", list(AGENTS))
def test_the_same_game_played_twice_is_two_episodes(house: House, wire: str) -> None:
    gateway = house.gateways["agrees"]
    task = next(house.games)
    twice = House(house.upstream, house.gateways, iter((task, task)))
    games = [play(twice, "agrees", wire, "cascade", stream=False, session=None) for _ in range(2)]
    episodes = [{one["episode_id"] for one in decisions(gateway, game)} for game in games]
    assert [len(one) for one in episodes] == [1, 1]
    assert episodes[0] != episodes[1]


def succeed(gateway: RunningGateway, episode_id: str) -> None:
    said = {"episode_id": episode_id, "success": True}
    httpx.post(f"{gateway.openai_url}/feedback", json=said).raise_for_status()


@pytest.mark.parametrize("wire", ["chat", "responses", "messages"])
def test_what_the_teacher_played_becomes_a_demonstration(house: House, wire: str) -> None:
    gateway, session = house.gateways["wavers"], f"to-harvest-{wire}"
    game = play(house, "wavers", wire, "cascade", stream=True, session=session)
    succeed(gateway, session)

    gathered = run_command(gateway.config, "demos", "harvest")
    assert gathered["added"] >= 1
    assert gathered["demonstrations"] >= len(game.commands)
    shown = run_command(gateway.config, "demos", "show", session)
    taken = [json.loads(turn["action"])["tool_calls"][0] for turn in shown["turns"]]
    assert [json.loads(call["arguments"])["command"] for call in taken] == game.commands


def test_what_the_student_played_does_not(house: House) -> None:
    gateway = house.gateways["agrees"]
    play(house, "agrees", "messages", "cascade", stream=False, session="not-to-harvest")
    succeed(gateway, "not-to-harvest")

    gathered = run_command(gateway.config, "demos", "harvest")
    assert gathered["rejected"]["the student took every step"] >= 1
    listed = run_command(gateway.config, "demos", "ls")
    assert "not-to-harvest" not in json.dumps(listed)
