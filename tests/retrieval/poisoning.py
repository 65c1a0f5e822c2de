"""A bank of household episodes of many writers, and demonstrations that are meant to mislead."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tutelage.benchmarks.household.world import HouseholdWorld
from tutelage.retrieval.admission import Gate, Offer
from tutelage.retrieval.bank import Bank
from tutelage.retrieval.duplicates import action_key
from tutelage.retrieval.neighbours import NeighbourCheck
from tutelage.retrieval.origins import Origins
from tutelage.retrieval.recall import majority_action
from tutelage.retrieval.rules import CurationRules
from tutelage.retrieval.selection import KeyedRetriever, Selection
from tutelage.runtime.types import Step, Trajectory, Turn

TENANT = "acme"
STRANGE = ("inventory", "look", "help", "examine shelf 1", "close cabinet 1")
PLAUSIBLE = ("go to bed 1", "go to safe 1", "go to toilet 1", "go to sofa 1", "go to fridge 1")


@dataclass(frozen=True)
class Attack:
    """Demonstrations of one step each: a state of the traffic to come, and a wrong action."""

    demonstrations: int
    writers: int
    copies: int
    """Demonstrations a state: two of them win a vote of three."""
    actions: tuple[str, ...] = STRANGE
    """Wrong actions; one a state."""


def played(split: str) -> list[Trajectory]:
    """The oracle's episodes of a split."""
    world = HouseholdWorld()
    episodes = []
    for task in world.tasks(split):
        opening = world.reset(task)
        turns, observation, done = [], opening.observation, False
        while not done:
            action = world.oracle().text
            outcome = world.step(action)
            turns.append(Turn(observation, action, "teacher"))
            observation, done = outcome.observation, outcome.done
        episodes.append(
            Trajectory(
                id=task.id,
                tenant=TENANT,
                goal=opening.goal,
                turns=tuple(turns),
                success=True,
                task_id=task.id,
                source="gpt",
            )
        )
    return episodes


def steps_of(episodes: Sequence[Trajectory]) -> list[Step]:
    """Every decision of the episodes, as it stood before it was taken."""
    return [
        Step(
            tenant=TENANT,
            episode_id=episode.id,
            index=index,
            goal=episode.goal,
            observation=turn.observation,
            history=episode.turns[:index],
        )
        for episode in episodes
        for index, turn in enumerate(episode.turns)
    ]


def honest_offers(episodes: Sequence[Trajectory], writers: int, seed: int) -> list[Offer]:
    """The episodes, each by one of the writers."""
    rng = random.Random(seed)
    return [Offer(one, frozenset({f"key-{rng.randrange(writers)}"})) for one in episodes]


def poisoned_offers(attack: Attack, targets: Sequence[Step], seed: int) -> list[Offer]:
    """The attack on some of the steps, drawn at random: the attacker knows what will be asked."""
    rng = random.Random(seed)
    aimed = rng.sample(range(len(targets)), -(-attack.demonstrations // attack.copies))
    offers = []
    for number in range(attack.demonstrations):
        step = targets[aimed[number // attack.copies]]
        wrong = attack.actions[aimed[number // attack.copies] % len(attack.actions)]
        # The step before is kept, as it is part of the state; it is nobody's to imitate.
        before = tuple(replace(turn, served="student") for turn in step.history)
        trajectory = Trajectory(
            id=f"poison-{number}",
            tenant=TENANT,
            goal=step.goal,
            turns=(*before, Turn(step.observation, wrong, "teacher")),
            success=True,
            source=f"gpt-{number % attack.copies}",
        )
        offers.append(Offer(trajectory, frozenset({f"evil-{number % attack.writers}"})))
    return offers


def gate(bank: Bank, origins: Origins, rules: CurationRules) -> Gate:
    near = KeyedRetriever(bank, Selection(k=24, before=1))
    return Gate(bank, origins, NeighbourCheck(near, origins, rules.neighbours), rules)


async def decisions(bank: Bank, steps: Sequence[Step]) -> list[str]:
    """The vote of three retrieved actions at each step."""
    retriever = KeyedRetriever(bank, Selection(k=3))
    return [action_key(majority_action(await retriever.search(step))) for step in steps]


def changed(before: Sequence[str], after: Sequence[str]) -> float:
    """Share of decisions that differ."""
    return sum(a != b for a, b in zip(before, after, strict=True)) / len(before)
