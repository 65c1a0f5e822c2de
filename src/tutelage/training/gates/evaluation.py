"""What a gate is given: two students on the same held-out tasks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from math import isfinite

import orjson

from tutelage.runtime.errors import TrainingError


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step of a held-out task; ``None`` where nothing was measured."""

    agreement: float
    """Share of the student's samples that agree with the most frequent one, in [0, 1]."""
    right: bool | None = None
    """Whether that one was a right step, by the environment, a rule or the teacher."""
    entropy: float | None = None
    """Mean entropy of the student's next token, in nats."""
    same_as_teacher: bool | None = None
    """Whether student and teacher prefer the same action here."""
    probability_loyalty: float | None = None
    """Closeness of the student's distribution to the teacher's, as in ``fidelity``."""


@dataclass(frozen=True, slots=True)
class PlayedEpisode:
    """How one student did in one episode."""

    success: bool
    cost_usd: float
    """All components, cached tokens at their own price."""
    uncached_cost_usd: float
    """The same tokens with every prompt token at the full input price."""
    steps: int
    teacher_steps: int = 0
    output_tokens: int = 0
    """Tokens that the student wrote, losing samples included."""
    rows: tuple[StepRow, ...] = ()

    def __post_init__(self) -> None:
        for name in ("cost_usd", "uncached_cost_usd", "steps", "teacher_steps", "output_tokens"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise TrainingError(f"evaluation: {name} = {value}: give a finite number from 0 up")
        if self.teacher_steps > self.steps:
            raise TrainingError(
                f"evaluation: teacher_steps = {self.teacher_steps} exceeds steps = {self.steps}"
            )


@dataclass(frozen=True, slots=True)
class PairedEpisode:
    """One held-out task, played under the same conditions by both students."""

    task_id: str
    current: PlayedEpisode
    """The student so far."""
    candidate: PlayedEpisode
    seed: int = 0
    family: str = ""
    text: str = ""
    """What the agent sees first, goal and first observation: what similarity compares. Goals alone
    repeat between tasks that differ."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was measured of the candidate while it was trained."""

    step: int
    """Optimizer steps so far, from 1."""
    proxy: float
    """Distance from the teacher, such as the token KL or the share of other actions; above 0."""
    golden: float
    """Verified success on a frozen slice that the teacher never labelled; higher is better."""
    golden_error: float
    """Standard error of ``golden``."""

    def __post_init__(self) -> None:
        if self.step < 1 or not (isfinite(self.proxy) and self.proxy >= 0):
            raise TrainingError(
                f"evaluation: checkpoint at step {self.step} with proxy {self.proxy}: steps count "
                "from 1, and a distance is finite and not negative"
            )
        if not isfinite(self.golden) or not (
            isfinite(self.golden_error) and self.golden_error >= 0
        ):
            raise TrainingError(
                f"evaluation: checkpoint at step {self.step}: golden = {self.golden} and "
                f"golden_error = {self.golden_error} must be finite"
            )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that gates judge a candidate by.

    Raises:
        TrainingError: An episode is there twice, or checkpoints are out of order.
    """

    episodes: tuple[PairedEpisode, ...]
    training_tasks: frozenset[str] = frozenset()
    """Ids of all tasks that the candidate, or the bank that it is shown, was made from."""
    training_texts: tuple[str, ...] = ()
    """What the agent saw first in these tasks."""
    checkpoints: tuple[Checkpoint, ...] = ()

    def __post_init__(self) -> None:
        seen: set[tuple[str, int]] = set()
        for one in self.episodes:
            key = (one.task_id, one.seed)
            if key in seen:
                raise TrainingError(
                    f"evaluation: task {one.task_id!r}, seed {one.seed} is there twice"
                )
            seen.add(key)
        steps = [one.step for one in self.checkpoints]
        if any(later <= earlier for earlier, later in pairwise(steps)):
            raise TrainingError("evaluation: the steps of checkpoints must ascend")

    def by_task(self) -> tuple[tuple[PairedEpisode, ...], ...]:
        """Episodes of each task together: tasks are independent, repeats of one task are not."""
        grouped: dict[str, list[PairedEpisode]] = {}
        for one in self.episodes:
            grouped.setdefault(one.task_id, []).append(one)
        return tuple(tuple(episodes) for episodes in grouped.values())

    def rows(self, *, candidate: bool) -> Iterator[StepRow]:
        """All steps of one student."""
        for one in self.episodes:
            yield from (one.candidate if candidate else one.current).rows

    def digest(self) -> str:
        """SHA-256 over everything in it, as hexadecimal digits."""
        hashed = sha256()
        # One by one: an evaluation holds tens of thousands of steps.
        for one in self.episodes:
            hashed.update(orjson.dumps(one))
        rest = [sorted(self.training_tasks), self.training_texts, self.checkpoints]
        hashed.update(orjson.dumps(rest))
        return hashed.hexdigest()
