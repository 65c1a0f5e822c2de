"""All that is searched for one tenant, in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.retrieval.embedding import Vectors
from tutelage.retrieval.growing import GrowingRows
from tutelage.retrieval.index import Ids, VectorIndex
from tutelage.retrieval.keys import StateKey, category_text
from tutelage.retrieval.mentions import Mentions, trajectory_mentions
from tutelage.retrieval.window import imitable_steps
from tutelage.runtime.types import Trajectory

Keys = NDArray[np.floating[Any]]
"""Vectors of a trajectory, in single or in half precision."""
_NO_ROWS: Ids = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Indexed:
    """All by which one trajectory is found; ``category`` and ``plan`` are zeros if it has none."""

    goal: Keys
    """Shape (dimension,)."""
    category: Keys
    """Shape (dimension,)."""
    plan: Keys
    """Shape (dimension,)."""
    states: Keys
    """Shape (imitable steps, dimension)."""
    steps: NDArray[np.int32]
    """Indexes of the imitable steps, shape (imitable steps,)."""
    mentions: Mentions
    """Shape (imitable steps, 2)."""
    content_sha256: str


class Shard:
    """Trajectories of a tenant with one vector a key and trajectory, and one a step.

    One thread may extend it while others search: what is indexed is all there.

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
        self._goals, self._categories = GrowingRows(empty), GrowingRows(empty)
        self._plans, self._states = GrowingRows(empty), GrowingRows(empty)
        self._steps = GrowingRows(self.steps)
        self._mentions = GrowingRows(self.mentions)
        self._starts = GrowingRows(self.starts[:0])
        self._starts.append(self.starts)
        self._tasks: dict[str, list[int]] = {}
        self._digests: list[str] = []
        self._version: str | None = None

    @property
    def version(self) -> str:
        """Hash of the contents; equal for equal trajectories in whatever order they came."""
        if self._version is None:
            self._version = version_of(self._digests)
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
        self.append(added, [indexed(one, vectors, self._state_key) for one in added])

    def append(self, added: Sequence[Trajectory], rows: Sequence[Indexed]) -> None:
        """Appends trajectories that are not here yet, with what each is found by."""
        if not added:
            return
        first = len(self.trajectories)
        for row, trajectory in enumerate(added, start=first):
            if trajectory.task_id is not None:
                self._tasks.setdefault(trajectory.task_id, []).append(row)
        self.trajectories.extend(added)
        self.rows.update((one.id, row) for row, one in enumerate(added, start=first))
        self.goals = self._goals.append(np.stack([row.goal for row in rows]))
        self.categories = self._categories.append(np.stack([row.category for row in rows]))
        self.plans = self._plans.append(np.stack([row.plan for row in rows]))
        ends = self.starts[-1] + np.cumsum([len(row.steps) for row in rows])
        self.states = self._states.append(np.concatenate([row.states for row in rows]))
        self.steps = self._steps.append(np.concatenate([row.steps for row in rows]))
        self.mentions = self._mentions.append(np.concatenate([row.mentions for row in rows]))
        self.starts = self._starts.append(ends)
        self._digests.extend(row.content_sha256 for row in rows)
        self._version = None
        # Last, so that a search that runs meanwhile finds all there is of a row.
        new = np.arange(self.index.size, len(self.trajectories), dtype=np.int64)
        if len(new):
            self.index.add(new, self.goals[new])


def indexed(trajectory: Trajectory, vectors: Mapping[str, Vectors], state_key: StateKey) -> Indexed:
    """What a trajectory is found by, from the vectors of its ``shard_texts``."""
    goal = vectors[trajectory.goal]
    none = np.zeros_like(goal)
    imitable = imitable_steps(trajectory)
    return Indexed(
        goal=goal,
        category=vectors[category_text(trajectory.category)] if trajectory.category else none,
        plan=vectors[trajectory.plan] if trajectory.plan else none,
        states=np.stack([vectors[state_key.of_turn(trajectory, index)] for index in imitable]),
        steps=np.array(imitable, dtype=np.int32),
        mentions=trajectory_mentions(trajectory)[imitable],
        content_sha256=content_digest(trajectory),
    )


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


def version_of(digests: Iterable[str]) -> str:
    """Hash of content digests in whatever order they come."""
    return order_digest(sorted(digests))


def order_digest(digests: Sequence[str]) -> str:
    """Hash of a sequence of content digests."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()
