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
    assert simulator.plan() == ()
    simulator.restart()
    assert not simulator.won
    assert set(simulator.facts) == start
    assert simulator.plan() == plan
