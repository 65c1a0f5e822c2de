"""The world over a scripted game, and over real ones."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tutelage.benchmarks.environment import OracleAction, Outcome, Task
from tutelage.benchmarks.textworld import world as module
from tutelage.benchmarks.textworld.games import SeededGames
from tutelage.benchmarks.textworld.world import TextWorld, textworld_manner
from tutelage.benchmarks.worker import WorldProcess
from tutelage.benchmarks.worlds import manner_of
from tutelage.runtime.errors import BenchmarkError, MissingExtra

TASK = Task("coin/test/0", "test", "coin")
OPENING = (
    "\n\n  $$ TextWorld\n\nTake the coin!\n\n-= Attic =-\nDusty.\n\n\n\nA coin.\n\n"
    ">   -= Attic =-0/1"
)
WON = "You take the coin.\n\n\n   *** The End ***\n\nYou scored 1\n\nWould you like to RESTART?\n> "


class Attic:
    """A coin that can be taken or eaten."""

    def __init__(self) -> None:
        self.closed = False

    def reset(self) -> Any:
        self._policy = ["take coin"]
        return self._state(OPENING)

    def step(self, command: str) -> tuple[Any, int, bool]:
        if command == "take coin":
            return self._state(WON, won=True), 1, True
        if command == "eat coin":
            self._policy = []
            return self._state("You eat the coin.\n"), 0, False
        return self._state("You can't see any such thing.\n"), 0, False

    def close(self) -> None:
        self.closed = True

    def _state(self, feedback: str, *, won: bool = False) -> Any:
        return SimpleNamespace(
            feedback=feedback, objective="Take\nthe coin!", policy_commands=self._policy, won=won
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TextWorld:
    monkeypatch.setattr("tutelage.benchmarks.textworld.games.version", lambda package: "1")
    monkeypatch.setattr(SeededGames, "file", lambda self, task: tmp_path / "coin.z8")
    package = ModuleType("textworld")
    vars(package).update(EnvInfos=dict, start=lambda file, wanted: Attic())
    monkeypatch.setitem(sys.modules, "textworld", package)
    return TextWorld(tmp_path)


def test_an_opening_tells_goal_and_room_apart(world: TextWorld) -> None:
    opening = world.reset(TASK)
    assert opening.goal == "Take the coin!"
    assert opening.observation == "-= Attic =-\nDusty.\nA coin."


def test_the_oracle_wins(world: TextWorld) -> None:
    world.prefetch(TASK)
    world.reset(TASK)
    assert world.oracle() == OracleAction("take coin", "planner")
    assert world.step(" take  coin") == Outcome("You take the coin.", True, True)
    assert world.step("look") == Outcome("Nothing happens: the game is over.", True, True)


def test_a_command_that_is_not_accepted_is_a_refusal(world: TextWorld) -> None:
    world.reset(TASK)
    refused = Outcome("Nothing happens: You can't see any such thing.", False, False)
    assert world.step("take moon") == refused


@pytest.mark.parametrize("command", ["undo", "RESTART", "save game", "q"])
def test_commands_about_the_game_do_not_reach_it(world: TextWorld, command: str) -> None:
    world.reset(TASK)
    assert world.step(command).observation == "Nothing happens: that is no command of the game."


def test_the_oracle_has_an_answer_where_nothing_wins(world: TextWorld) -> None:
    world.reset(TASK)
    world.step("eat coin")
    assert world.oracle() == OracleAction("look", "planner")


def test_a_new_task_closes_the_old_game(world: TextWorld) -> None:
    world.reset(TASK)
    first = world._env
    world.reset(TASK)
    assert first.closed
    world.close()
    with pytest.raises(BenchmarkError, match="call reset first"):
        world.step("look")


def test_text_without_a_room_is_shown_as_it_is() -> None:
    assert module._after_intro("Hello") == "Hello"


def test_a_missing_package_is_named(world: TextWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textworld", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[textworld\]'"):
        world.reset(TASK)


def test_actions_are_lines_of_text() -> None:
    manner = manner_of("textworld")
    assert manner == textworld_manner()
    assert (manner.canonical, manner.stop) == ("text", ("\n",))


@pytest.mark.slow
async def test_real_games_are_won_after_detours_and_not_by_looking(games_folder: Path) -> None:
    process = WorldProcess("textworld", data=games_folder)
    try:
        tasks = await process.tasks("test:3")
        assert {task.category for task in tasks} == {"cooking", "custom", "coin"}
        for task in tasks:
            for detours in ((), ("dance", "go north", "go south", "go east", "undo", "inventory")):
                opening = await process.reset(task)
                assert opening.observation.startswith("-= ")
                for action in detours:
                    assert not (await process.step(action)).done
                for _ in range(40):
                    outcome = await process.step((await process.oracle()).text)
                    if outcome.done:
                        break
                assert outcome.success, task.id
                assert "The End" not in outcome.observation
            await process.reset(task)
            for _ in range(20):
                assert not (await process.step("look")).done
    finally:
        await process.aclose()
