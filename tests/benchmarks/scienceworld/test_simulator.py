from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from tutelage.benchmarks.scienceworld.simulator import JavaSimulator, Reply
from tutelage.runtime.errors import BenchmarkError, MissingExtra, WorldMissing


class Server:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def reset(self) -> None:
        self.asked.append("reset")

    def step(self, action: str) -> str:
        self.asked.append(action)
        return f"You {action}."

    def getScore(self) -> float:
        return 0.5

    def getCompleted(self) -> bool:
        return False


class Env:
    gold: tuple[str, ...] = ("go to garden",)

    def __init__(self, envStepLimit: int) -> None:
        self.server = Server()
        self.limit = envStepLimit
        self.loaded: tuple[Any, ...] = ()

    def load(self, *game: Any, generateGoldPath: bool = False) -> None:
        self.loaded = (*game, generateGoldPath)

    def get_variations_train(self) -> list[int]:
        return [0]

    def get_variations_dev(self) -> list[int]:
        return [1]

    def get_variations_test(self) -> list[int]:
        return [2, 3]

    def get_gold_action_sequence(self) -> list[str]:
        return list(self.gold)

    def get_task_description(self) -> str:
        return "Your task is to rest."

    def look(self) -> str:
        return "This outside location is called the outside. Here you see: ..."

    def get_valid_action_object_combinations(self) -> list[str]:
        return ["wait"]

    def close(self) -> None:
        self.server.asked.append("closed")


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("scienceworld")
    vars(module)["ScienceWorldEnv"] = Env
    monkeypatch.setitem(sys.modules, "scienceworld", module)
    monkeypatch.setattr("shutil.which", lambda name, path: "/usr/bin/java")
    return module


def test_a_game_is_loaded_easy_and_with_its_gold_actions() -> None:
    simulator = JavaSimulator()
    assert simulator.start("boil", 4) == (
        "Your task is to rest.",
        "You look around.",
        ("go to garden",),
    )
    assert simulator._env.loaded == ("boil", 4, "easy", True)
    assert simulator._env.server.asked == ["reset", "look around"]


def test_an_action_is_answered_without_the_list_of_valid_ones() -> None:
    simulator = JavaSimulator()
    assert simulator.act("rest") == Reply("You rest.", 0.5, False)
    assert simulator.room() == "outside"
    assert simulator.valid_actions() == ("wait",)
    assert list(simulator.variations("boil", "test")) == [2, 3]
    simulator.close()
    assert simulator._env.server.asked[-1] == "closed"


@pytest.mark.parametrize("gold", [(), ("ERROR: Gold path was not generated.",)])
def test_a_game_without_gold_actions_is_refused(
    monkeypatch: pytest.MonkeyPatch, gold: tuple[str, ...]
) -> None:
    monkeypatch.setattr(Env, "gold", gold)
    with pytest.raises(BenchmarkError, match="no gold actions for boil/4"):
        JavaSimulator().start("boil", 4)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scienceworld", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[scienceworld\]'"):
        JavaSimulator()


def test_a_missing_java_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    with pytest.raises(WorldMissing, match="needs Java 17 and finds no `java` in PATH"):
        JavaSimulator()
