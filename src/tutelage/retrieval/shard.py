"""All that is searched for one tenant, in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tutelage.retrieval.embedding import Vectors
from tutelage.retrieval.index import Ids, VectorIndex
from tutelage.retrieval.keys import StateKey, category_text
from tutelage.retrieval.mentions import Mentions, trajectory_mentions
from tutelage.retrieval.window import imitable_steps
from tutelage.runtime.types import Trajectory

_NO_ROWS: Ids = np.empty(0, dtype=np.int64)


class Shard:
    """Trajectories of a tenant with one vector a key and trajectory, and one a step.

    Row ``i`` of ``goals``, ``categories`` and ``plans``, shape (trajectories, dimension), belongs
    to ``trajectories[i]``; a missing key is a row of zeros. Rows ``starts[i]`` to ``starts[i + 1]``
    of ``states``, shape (steps, dimension), are its imitable steps, ``steps`` their indexes and
    ``mentions``, shape (steps, 2), their shares of the goal's words.

    Args:
        tenant: Whose trajectories these are.
        dimension: Length of a vector.
        state_key: How a state is put into words.
        index: An index of goals; it may already hold the first rows that ``extend`` will bring.
    """

    def __init__(
        self, tenant: str, dimension: int, state_key: StateKey, index: VectorIndex
    ) -> None:
        empty = np.empty((0, dimension), dtype=np.float32)
        self.tenant = tenant
        self.index = index
        self.trajectories: list[Trajectory] = []
        self.rows: dict[str, int] = {}
        self.goals: Vectors = empty
        self.categories: Vectors = empty
        self.plans: Vectors = empty
        self.states: Vectors = empty
        self.steps: NDArray[np.int32] = np.empty(0, dtype=np.int32)
        self.mentions: Mentions = np.empty((0, 2), dtype=np.float32)
        self.starts: Ids = np.zeros(1, dtype=np.int64)
        self._state_key = state_key
        self._dimension = dimension
        self._tasks: dict[str, list[int]] = {}
        self._digests: list[str] = []
        self._version: str | None = None

    @property
    def version(self) -> str:
        """Hash of the contents; equal for equal trajectories in whatever order they came."""
        if self._version is None:
            self._version = hashlib.sha256("".join(sorted(self._digests)).encode()).hexdigest()
        return self._version

    @property
    def row_order(self) -> str:
        """Hash of the trajectories in the order of their rows."""
        return order_digest(self._digests)

    def rows_of_task(self, task_id: str | None) -> Ids:
        """Rows of the trajectories that were recorded on a task."""
        rows = self._tasks.get(task_id) if task_id is not None else None
        return np.array(rows, dtype=np.int64) if rows else _NO_ROWS

    def extend(self, added: Sequence[Trajectory], vectors: Mapping[str, Vectors]) -> None:
        """Appends trajectories.

        Args:
            added: Trajectories that are not here yet.
            vectors: The vector of every text of ``shard_texts``.
        """
        if not added:
            return
        first = len(self.trajectories)
        zeros = np.zeros(self._dimension, dtype=np.float32)
        states: list[Vectors] = []
        steps: list[int] = []
        mentions: list[Mentions] = []
        starts = [int(self.starts[-1])]
        for row, trajectory in enumerate(added, start=first):
            self.rows[trajectory.id] = row
            if trajectory.task_id is not None:
                self._tasks.setdefault(trajectory.task_id, []).append(row)
            imitable = imitable_steps(trajectory)
            states.extend(vectors[self._state_key.of_turn(trajectory, i)] for i in imitable)
            steps.extend(imitable)
            mentions.append(trajectory_mentions(trajectory)[imitable])
            starts.append(starts[-1] + len(imitable))
            self._digests.append(content_digest(trajectory))
        goals = np.stack([vectors[t.goal] for t in added])
        categories = [vectors[category_text(t.category)] if t.category else zeros for t in added]
        plans = [vectors[t.plan] if t.plan else zeros for t in added]
        self.trajectories.extend(added)
        self.goals = np.concatenate([self.goals, goals])
        self.categories = np.concatenate([self.categories, np.stack(categories)])
        self.plans = np.concatenate([self.plans, np.stack(plans)])
        self.states = np.concatenate([self.states, np.stack(states)])
        self.steps = np.concatenate([self.steps, np.array(steps, dtype=np.int32)])
        self.mentions = np.concatenate([self.mentions, *mentions])
        self.starts = np.concatenate([self.starts, np.array(starts[1:], dtype=np.int64)])
        self._version = None
        new = np.arange(self.index.size, len(self.trajectories), dtype=np.int64)
        if len(new):
            self.index.add(new, self.goals[new])


def shard_texts(trajectories: Sequence[Trajectory], state_key: StateKey) -> list[str]:
    """Every text whose vector a shard of these trajectories needs, each once."""
    texts: dict[str, None] = {}
    for trajectory in trajectories:
        texts[trajectory.goal] = None
        if trajectory.category:
            texts[category_text(trajectory.category)] = None
        if trajectory.plan:
            texts[trajectory.plan] = None
        for index in imitable_steps(trajectory):
            texts[state_key.of_turn(trajectory, index)] = None
    return list(texts)


def content_digest(trajectory: Trajectory) -> str:
    """Hash of all that a trajectory says, its id included."""
    return hashlib.sha256(trajectory.model_dump_json().encode()).hexdigest()


def order_digest(digests: Sequence[str]) -> str:
    """Hash of a sequence of content digests."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()
