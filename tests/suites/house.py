"""Gateways that a household is played through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.suites.clever_upstream import CleverUpstream, served
from tests.suites.gateways import RunningGateway, serving, write_config
from tests.suites.household_agent import Game, oracle_mind

from tutelage.benchmarks.environment import Task
from tutelage.benchmarks.household.tasks import tasks

WIRES = ("chat", "responses", "messages")
MODES = ("passthrough", "route", "cascade", "shadow")
STUDENTS = {"agrees": "household", "wavers": "wavering-household"}
SHORT = range(3, 6)
"""Steps of the games that are played."""


@dataclass(frozen=True)
class House:
    """The gateways that a household is played through, by what their student does."""

    upstream: CleverUpstream
    gateways: dict[str, RunningGateway]
    games: Iterator[Task]
    """Each is played once, so that no two episodes open alike unless a test wants it."""


@contextmanager
def open_house(folder: Path) -> Iterator[House]:
    """Gateways before a scripted teacher and student that play as the household's oracle does."""
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
        yield House(upstream, gateways, games_of(SHORT))


def games_of(steps: range) -> Iterator[Task]:
    """Training tasks that the oracle does in so many steps."""
    for task in tasks("train:2000"):
        game = Game(task)
        while game.goes_on and len(game.commands) < steps.stop - 1:
            game.act({"command": game.world.oracle().text})
        if game.success and len(game.commands) in steps:
            yield task
