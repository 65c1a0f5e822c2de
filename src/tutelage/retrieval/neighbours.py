"""Whether a trajectory does what others did in the same states."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tutelage.retrieval.duplicates import action_key, action_kind, without_numbers
from tutelage.retrieval.window import imitable_steps
from tutelage.runtime.protocols import Retriever
from tutelage.runtime.types import Retrieved, Step, Trajectory


@dataclass(frozen=True, slots=True)
class NeighbourRule:
    """When a trajectory contradicts its neighbours."""

    score: float = 0.7
    """Least score of a neighbour, as the retriever ranks: 1 for an equal state, 0.3 for an equal
    goal, less what tells the steps apart."""
    least_writers: int = 6
    """Independent writers without whom nothing is judged."""
    support: float = 0.001
    """Share of them that must do the same, numbers left aside, for a step to be supported."""
    kind_support: float = 0.1
    """Share of them that must do the same kind of thing: the same verb, or the same tools."""
    contradicted: float = 0.5
    """Share of the judged steps that must lack support."""
    strange: float = 0.2
    """Share of the judged steps that must do what hardly anybody does in kind."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A trajectory beside its neighbours."""

    judged: int
    """Steps with enough independent neighbours."""
    unsupported: int
    """Steps that do what hardly any of them does."""
    strange: int
    """Steps that do a kind of thing that hardly any of them does."""
    example: str = ""
    """The first such step, for people."""


class Writers(Protocol):
    """Tells who wrote trajectories."""

    def writers(self, tenant: str, ids: Sequence[str]) -> Mapping[str, set[str]]:
        """The keys that wrote or confirmed each of the trajectories, by its id."""
        ...


class NeighbourCheck:
    """Compares each step of a trajectory with what the bank says of its state, itself left out.

    All trajectories of one writer have one vote a step, that of the best ranked; one that no client
    wrote votes for itself. Actions are compared after the neighbours are retold with the names of
    the step at hand.

    Args:
        retriever: Finds neighbours, many of them, retold with the names of the step.
        writers: Who wrote the trajectories.
        rule: When a step is contradicted.
    """

    def __init__(self, retriever: Retriever, writers: Writers, rule: NeighbourRule) -> None:
        self._retriever = retriever
        self._writers = writers
        self._rule = rule

    async def judge(
        self,
        trajectory: Trajectory,
        own: frozenset[str],
        *,
        suspects: Collection[str] = (),
    ) -> Judgement:
        """How many steps can be judged, and how many lack support.

        Args:
            trajectory: It may be in the bank, or not yet.
            own: Its writers, whose other trajectories do not vote.
            suspects: Trajectories that do not vote, either.
        """
        judged = unsupported = strange = 0
        example = ""
        for index in imitable_steps(trajectory):
            found = await self._retriever.search(step_of(trajectory, index))
            near = [
                one
                for one in found
                if one.score >= self._rule.score
                and one.demonstration.trajectory_id != trajectory.id
                and one.demonstration.trajectory_id not in suspects
            ]
            votes = await self._votes(trajectory.tenant, near, own)
            if len(votes) < self._rule.least_writers:
                continue
            judged += 1
            action = trajectory.turns[index].action
            is_strange = _share(votes, action, action_kind) < self._rule.kind_support
            is_alone = _share(votes, action, _comparable) < self._rule.support
            strange += is_strange
            unsupported += is_alone
            if (is_strange or is_alone) and not example:
                usual = Counter(map(_comparable, votes)).most_common(1)[0][0]
                example = f"step {index}: {action!r}, where most of {len(votes)} do {usual!r}"
        return Judgement(judged, unsupported, strange, example)

    def is_contradiction(self, judgement: Judgement) -> bool:
        """Whether so much lacks support that the trajectory should not be shown."""
        least = max(1.0, self._rule.contradicted * judgement.judged)
        least_strange = max(1.0, self._rule.strange * judgement.judged)
        return judgement.unsupported >= least or judgement.strange >= least_strange

    async def _votes(
        self, tenant: str, near: Sequence[Retrieved], own: frozenset[str]
    ) -> list[str]:
        """The action of each independent writer."""
        if len(near) < self._rule.least_writers:
            return []
        ids = list(dict.fromkeys(one.demonstration.trajectory_id for one in near))
        writers = await asyncio.to_thread(self._writers.writers, tenant, ids)
        votes: dict[tuple[str, str], str] = {}
        for one in near:
            trajectory_id, action = one.demonstration.trajectory_id, one.demonstration.action
            names = writers.get(trajectory_id)
            if names is None:
                votes.setdefault(("trajectory", trajectory_id), action)
                continue
            for name in names - own:
                votes.setdefault(("key", name), action)
        return list(votes.values())


def _share(votes: Sequence[str], action: str, read: Callable[[str], str]) -> float:
    return sum(read(vote) == read(action) for vote in votes) / len(votes)


def _comparable(action: str) -> str:
    return without_numbers(action_key(action))


def step_of(trajectory: Trajectory, index: int) -> Step:
    """A step of a trajectory as it stood before its action was known."""
    return Step(
        tenant=trajectory.tenant,
        episode_id=trajectory.id,
        index=index,
        goal=trajectory.goal,
        observation=trajectory.turns[index].observation,
        history=trajectory.turns[:index],
    )
