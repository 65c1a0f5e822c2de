"""What a trajectory is found by, as one row of a table and back."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.retrieval.shard import Indexed
from tutelage.runtime.errors import RetrievalError
from tutelage.runtime.types import Trajectory

_KEYS = 3


@dataclass(frozen=True, slots=True)
class Found:
    """A trajectory with what it is found by, as it came from the database."""

    trajectory: Trajectory
    row: Indexed


def packed(row: Indexed) -> dict[str, Any]:
    """The columns of a row; vectors in half precision: goal, category, plan, then the states."""
    vectors = np.concatenate([np.stack([row.goal, row.category, row.plan]), row.states])
    return {
        "vectors": vectors.astype("<f2").tobytes(),
        "steps": row.steps.astype("<i4").tobytes(),
        "mentions": row.mentions.astype("<f4").tobytes(),
        "content_sha256": row.content_sha256,
        "goal": literal(row.goal),
    }


def unpacked(columns: Mapping[str, Any], dimension: int) -> Indexed:
    """What ``packed`` has packed.

    Raises:
        RetrievalError: The columns do not belong together.
    """
    steps = np.frombuffer(columns["steps"], dtype="<i4").astype(np.int32)
    mentions = np.frombuffer(columns["mentions"], dtype="<f4").astype(np.float32)
    vectors = np.frombuffer(columns["vectors"], dtype="<f2")
    if len(vectors) != (_KEYS + len(steps)) * dimension or len(mentions) != 2 * len(steps):
        raise RetrievalError(
            f"the vectors of trajectory {columns['id']!r} are damaged: delete its rows from the"
            " tables demonstration_vectors_…, and run `tutelage demos reindex`"
        )
    rows = vectors.reshape(-1, dimension)
    return Indexed(
        goal=rows[0],
        category=rows[1],
        plan=rows[2],
        states=rows[_KEYS:],
        steps=steps,
        mentions=mentions.reshape(-1, 2),
        content_sha256=columns["content_sha256"],
    )


def literal(vector: NDArray[Any]) -> str:
    """A vector as pgvector reads it, shape (dimension,)."""
    return "[" + ",".join([f"{value:.6g}" for value in vector.tolist()]) + "]"


class KeptRows:
    """The trajectories that were found last, by tenant and id; safe to use from several threads.

    A trajectory never changes under its id, so what is kept never goes stale.

    Args:
        capacity: Most trajectories kept; about 15 kB each at ten steps and 384 dimensions.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._rows: OrderedDict[tuple[str, str], Found] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, tenant: str, ids: Sequence[str]) -> dict[str, Found]:
        """Those of the trajectories that are kept, by id."""
        found: dict[str, Found] = {}
        with self._lock:
            for id in ids:
                row = self._rows.get((tenant, id))
                if row is not None:
                    self._rows.move_to_end((tenant, id))
                    found[id] = row
        return found

    def put(self, tenant: str, rows: Mapping[str, Found]) -> None:
        """Keeps trajectories, and drops those unused for longest when there are too many."""
        with self._lock:
            for id, row in rows.items():
                self._rows[tenant, id] = row
            while len(self._rows) > self._capacity:
                self._rows.popitem(last=False)
