"""Oracle episodes of the household world, as material to measure with."""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.benchmarks.household.world import HouseholdWorld
from tutelage.runtime.types import ChatRequest, Message, Trajectory, Turn

LONGEST = 40


def oracle_episodes(split: str, tenant: str) -> Iterator[Trajectory]:
    """Plays the oracle over the tasks of a split, for example ``train:60``."""
    world = HouseholdWorld()
    for task in world.tasks(split):
        opening = world.reset(task)
        observation, success = opening.observation, False
        turns: list[Turn] = []
        while not success and len(turns) < LONGEST:
            action = world.oracle().text
            outcome = world.step(action)
            turns.append(Turn(observation, action))
            observation, success = outcome.observation, outcome.success
        yield Trajectory(
            id=f"episode-{task.id}",
            tenant=tenant,
            goal=opening.goal,
            turns=tuple(turns),
            success=success,
            category=task.category,
            task_id=task.id,
            source="oracle:household",
        )


def requests(episode: Trajectory, system: str) -> Iterator[ChatRequest]:
    """The request of every step of an episode, its transcript append-only."""
    messages = [Message(role="system", content=system)]
    for index, turn in enumerate(episode.turns):
        head = f"Task: {episode.goal}\n" if index == 0 else ""
        messages.append(Message(role="user", content=head + turn.observation))
        yield ChatRequest(
            model="student", messages=list(messages), max_tokens=24, temperature=0.0, stop=["\n"]
        )
        messages.append(Message(role="assistant", content=turn.action))
