"""Agent loops of the real SDKs that play a household through a gateway, in every mode."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from anthropic import Anthropic
from openai import OpenAI
from tests.suites.clever_upstream import CleverUpstream, served
from tests.suites.conftest import WIRES
from tests.suites.gateways import (
    RunningGateway,
    environment_of,
    run_command,
    serving,
    write_config,
)
from tests.suites.household_agent import AGENTS, Asking, Game, oracle_mind

from tutelage.benchmarks.environment import Task
from tutelage.benchmarks.household.tasks import tasks

pytestmark = pytest.mark.suites

MODES = ("passthrough", "route", "cascade", "shadow")
STUDENTS = {"agrees": "household", "wavers": "wavering-household"}
SHORT = 5
"""Steps of the longest game that is played."""


@dataclass(frozen=True)
class House:
    """The gateways that a household is played through, by what their student does."""

    upstream: CleverUpstream
    gateways: dict[str, RunningGateway]
    games: Iterator[Task]
    """Each is played once, so that no two episodes open alike unless a test wants it."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("household")
    upstream = CleverUpstream({"household": oracle_mind, "teacher-household": oracle_mind})
    with ExitStack() as stack:
        url = stack.enter_context(served(upstream))
        endpoint = {"base_url": url, "priced_as": "gpt-4.1", "attempts": 1}
        configs = {
            name: write_config(
                folder / name,
                {
                    "teacher": {**endpoint, "model": "teacher-household", "wires": WIRES},
                    "student": {
                        "base_url": url,
                        "model": student,
                        "price": {"input": 0.1, "output": 0.2},
                    },
                    "retrieval": {"embedder": "hash", "enabled": False},
                    # The student is a copy of the teacher only where it sees what that one sees.
                    "prompt": {"history_turns": 100, "max_prompt_tokens": 100_000},
                    "cascade": {"p_teacher": 0.5, "seed": 3},
                    "aliases.passthrough": {"mode": "passthrough"},
                    "aliases.route": {"mode": "route", "policy": "random"},
                    "aliases.cascade": {"mode": "cascade"},
                    "aliases.shadow": {"mode": "shadow"},
                },
            )
            for name, student in STUDENTS.items()
        }
        gateways = stack.enter_context(serving(configs))
        yield House(upstream, gateways, iter(short_games()))


def short_games() -> Iterator[Task]:
    """Training tasks that the oracle does in a few steps."""
    for task in tasks("train:2000"):
        game = Game(task)
        while game.goes_on and len(game.commands) < SHORT:
            game.act({"command": game.world.oracle().text})
        if game.success:
            yield task


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
        return [client.get(f"/v1/decisions/{id}").raise_for_status().json() for id in game.decisions]


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
    games = [
        play(twice, "agrees", wire, "cascade", stream=False, session=None) for _ in range(2)
    ]
    episodes = [{one["episode_id"] for one in decisions(gateway, game)} for game in games]
    assert [len(one) for one in episodes] == [1, 1]
    assert episodes[0] != episodes[1]


def test_demonstrations_are_harvested_from_what_the_teacher_played(house: House) -> None:
    gateway = house.gateways["wavers"]
    play_one = play(house, "wavers", "messages", "cascade", stream=True, session="to-harvest")
    said = {"episode_id": "to-harvest", "success": play_one.success}
    httpx.post(f"{gateway.openai_url}/feedback", json=said).raise_for_status()
    gathered = run_command(gateway.config, "demos", "harvest")
    print(gathered)
    assert environment_of(gateway.config)
