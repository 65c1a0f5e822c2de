"""The simulator against TextWorld's own environment with ALFWorld's names."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tutelage.benchmarks.alfworld.games import REFUSAL, Games

pytestmark = pytest.mark.alfworld


@pytest.mark.parametrize("number", [0, 2, 5])
def test_a_walk_reads_as_in_the_original(games_folder: Path, number: int) -> None:
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld.core import EnvInfos
    from textworld.envs.pddl import PddlEnv

    from tutelage.benchmarks.alfworld.planner import Planner, load_library
    from tutelage.benchmarks.alfworld.simulator import Simulator

    games = Games(games_folder)
    file = games.file(games.tasks("valid_unseen:6")[number])
    original = AlfredDemangler(PddlEnv(EnvInfos(won=True, admissible_commands=True)))
    original.load(json.loads(file.read_text()))
    state = original.reset()
    simulator = Simulator(file, load_library(), Planner())
    assert simulator.intro == state.feedback
    chance = random.Random(number)
    for _ in range(12):
        assert simulator.commands == state.admissible_commands
        command = chance.choice([*simulator.commands, "dance"])
        observation = simulator.step(command)
        state, _, done = original.step(command)
        assert observation == state.feedback
        assert (observation == REFUSAL) == (command == "dance")
        assert simulator.won == done


def test_a_plan_leads_to_the_goal_and_a_restart_leads_back(games_folder: Path) -> None:
    from tutelage.benchmarks.alfworld.planner import Planner, load_library
    from tutelage.benchmarks.alfworld.simulator import Simulator

    games = Games(games_folder)
    simulator = Simulator(games.file(games.tasks("valid_unseen:1")[0]), load_library(), Planner())
    start = set(simulator.facts)
    plan = simulator.plan()
    for command in plan:
        assert not simulator.won
        assert simulator.step(command) != REFUSAL
    assert simulator.won
    simulator.restart()
    assert not simulator.won
    assert set(simulator.facts) == start
    assert simulator.plan() == plan


def test_plans_lead_to_the_goal_from_wherever_a_walk_ends(games_folder: Path) -> None:
    from tutelage.benchmarks.alfworld.planner import Planner, load_library
    from tutelage.benchmarks.alfworld.simulator import Simulator

    games, library, planner = Games(games_folder), load_library(), Planner()
    chance = random.Random(1)
    for task in games.tasks("valid_unseen:6"):
        simulator = Simulator(games.file(task), library, planner)
        for steps in (5, 15):
            for _ in range(steps):
                simulator.step(chance.choice(simulator.commands))
            for command in simulator.plan():
                assert simulator.step(command) != REFUSAL
            assert simulator.won
            simulator.restart()


def test_hands_full_with_a_thing_that_fits_nowhere_leave_no_plan(games_folder: Path) -> None:
    from tutelage.benchmarks.alfworld.planner import Planner, load_library
    from tutelage.benchmarks.alfworld.simulator import Simulator

    games = Games(games_folder)
    towel = next(
        task
        for task in games.tasks("train")
        if task.id.startswith("train/pick_and_place_simple-HandTowel-None-Cabinet-414/")
        and task.id.endswith("121415_819763")
    )
    simulator = Simulator(games.file(towel), load_library(), Planner())
    assert simulator.plan()
    simulator.step("go to countertop 2")
    assert simulator.step("take papertowelroll 1 from countertop 2").startswith("You pick up")
    assert simulator.plan() == ()
