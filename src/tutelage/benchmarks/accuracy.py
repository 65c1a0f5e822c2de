"""Step accuracy, teacher-forced: does the student name the action that the teacher took?"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tutelage.benchmarks.statistics import wilson_interval
from tutelage.runtime.errors import BenchmarkError, ContextTooLong
from tutelage.runtime.types import Answer, ChatRequest, Trace

Canonical = Callable[[str], str | None]
Ask = Callable[["ExpertStep"], Awaitable[Answer]]
Kind = Literal["go", "handle", "other"]

_HANDLE = frozenset({"take", "move", "put", "clean", "heat", "cool", "use", "slice"})


@dataclass(frozen=True, slots=True)
class ExpertStep:
    """A state on the teacher's own path, and what the teacher did there."""

    episode_id: str
    index: int
    goal: str
    task_id: str
    request: ChatRequest
    action: str


@dataclass(frozen=True, slots=True)
class AccuracyArm:
    """One way to answer a step."""

    name: str
    greedy: Ask
    """The single answer that exact match is counted on."""
    sampled: Ask | None = None
    """Several samples, for agreement; ``None`` where sampling means nothing."""


class StepScore(BaseModel):
    """One arm on one expert step, a line of ``steps.jsonl``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: str
    episode_id: str
    index: int
    expected: str
    named: str | None
    """Canonical action of the greedy answer."""
    agreed: bool | None = None
    """Whether all samples name one action; ``None`` where nothing was sampled."""
    voted: str | None = None
    """Canonical action of the agreed sample."""
    prompt_tokens: int = 0
    latency_s: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether the greedy answer is the teacher's action."""
        return self.named == self.expected


def expert_steps(traces: Sequence[Trace], task_ids: Mapping[str, str]) -> list[ExpertStep]:
    """The steps of teacher-served traces, in episode order.

    Args:
        traces: Traces of whole teacher episodes.
        task_ids: The environment's task of each episode id.
    """
    ordered = sorted(traces, key=lambda trace: (trace.episode_id, trace.step_index))
    return [
        ExpertStep(
            episode_id=trace.episode_id,
            index=trace.step_index,
            goal=trace.goal,
            task_id=task_ids[trace.episode_id],
            request=ChatRequest.model_validate(
                {
                    "model": trace.model,
                    "messages": list(trace.prompt),
                    "stop": ["\n"],
                    "max_tokens": 24,
                }
            ),
            action=trace.answer,
        )
        for trace in ordered
        if trace.decision.served == "teacher"
    ]


def drawn(steps: Sequence[ExpertStep], count: int, seed: int) -> list[ExpertStep]:
    """A random subset in stable order; a smaller ``count`` is nested in a larger one."""
    order = list(range(len(steps)))
    random.Random(seed).shuffle(order)
    return [steps[position] for position in sorted(order[:count])]


async def score_step(arm: AccuracyArm, step: ExpertStep, canonical: Canonical) -> StepScore:
    """Asks one arm at one step.

    Raises:
        BenchmarkError: Student or retrieval failed, so that there is nothing to score.
    """
    answer = _measured(await arm.greedy(step), arm, step)
    named = canonical(answer.text)
    agreed = voted = None
    if arm.sampled is not None:
        sampled = _measured(await arm.sampled(step), arm, step)
        names = [sample.action for sample in sampled.trace.samples]
        agreed = bool(names) and names[0] is not None and len(set(names)) == 1
        voted = names[0] if agreed else None
    usage = answer.trace.usage.get("student")
    return StepScore(
        arm=arm.name,
        episode_id=step.episode_id,
        index=step.index,
        expected=canonical(step.action) or step.action,
        named=named,
        agreed=agreed,
        voted=voted,
        prompt_tokens=usage.prompt_tokens if usage else 0,
        latency_s=answer.trace.latency_s.get("student", 0.0),
    )


def _measured(answer: Answer, arm: AccuracyArm, step: ExpertStep) -> Answer:
    """The answer itself; a prompt that is too long for the student is one, a broken part is not."""
    error = answer.trace.error
    if error is not None and not error.startswith(ContextTooLong.__name__):
        raise BenchmarkError(
            f"arm {arm.name}, task {step.task_id}, step {step.index}: {error} "
            "(finished steps are kept; run again to go on)"
        )
    return answer


class ScoreFile:
    """``steps.jsonl``: scores that survive a stop; a step that is there is not asked again.

    Args:
        path: The file; a torn last line is cut off.

    Raises:
        BenchmarkError: A line before the last is not a score.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.scores: list[StepScore] = []
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        whole = 0
        for number, line in enumerate(lines, 1):
            try:
                score = StepScore.model_validate_json(line) if line.endswith(b"\n") else None
            except ValidationError:
                raise BenchmarkError(
                    f"{path} line {number} is not a step score: remove it"
                ) from None
            if score is not None:
                self.scores.append(score)
                whole += len(line)
        if lines and whole < path.stat().st_size:
            os.truncate(path, whole)

    def has(self, arm: str, step: ExpertStep) -> bool:
        """Whether this arm was asked at this step."""
        return any(
            (one.arm, one.episode_id, one.index) == (arm, step.episode_id, step.index)
            for one in self.scores
        )

    def append(self, score: StepScore) -> None:
        """Writes one score durably."""
        with self._path.open("ab") as file:
            file.write(score.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.scores.append(score)


class AccuracyRow(BaseModel):
    """What the scores of one arm add up to."""

    model_config = ConfigDict(frozen=True)

    arm: str
    steps: int
    exact: float
    exact_low: float
    exact_high: float
    exact_by_kind: dict[Kind, tuple[int, int]]
    """Right and all steps: moving about, handling objects, anything else."""
    agreed_share: float | None
    exact_if_agreed: tuple[int, int] | None
    exact_if_split: tuple[int, int] | None
    """Greedy answers that are right where the samples differ."""
    prompt_tokens: float
    latency_s: float


def summarise(scores: Sequence[StepScore]) -> list[AccuracyRow]:
    """One row an arm, in the order of first appearance."""
    by_arm: dict[str, list[StepScore]] = defaultdict(list)
    for score in scores:
        by_arm[score.arm].append(score)
    return [_row(arm, found) for arm, found in by_arm.items()]


def _row(arm: str, scores: Sequence[StepScore]) -> AccuracyRow:
    right = sum(score.exact for score in scores)
    interval = wilson_interval(right, len(scores))
    kinds: dict[Kind, tuple[int, int]] = {}
    for score in scores:
        kind = _kind(score.expected)
        hit, seen = kinds.get(kind, (0, 0))
        kinds[kind] = (hit + score.exact, seen + 1)
    sampled = [score for score in scores if score.agreed is not None]
    agreed = [score for score in sampled if score.agreed]
    split = [score for score in sampled if not score.agreed]
    hits = sum(score.voted == score.expected for score in agreed)
    return AccuracyRow(
        arm=arm,
        steps=len(scores),
        exact=right / len(scores),
        exact_low=interval.low,
        exact_high=interval.high,
        exact_by_kind=kinds,
        agreed_share=len(agreed) / len(sampled) if sampled else None,
        exact_if_agreed=(hits, len(agreed)) if sampled else None,
        exact_if_split=(sum(score.exact for score in split), len(split)) if sampled else None,
        prompt_tokens=sum(score.prompt_tokens for score in scores) / len(scores),
        latency_s=sum(score.latency_s for score in scores) / len(scores),
    )


def _kind(action: str) -> Kind:
    verb = action.split(" ", 1)[0]
    if verb == "go":
        return "go"
    return "handle" if verb in _HANDLE else "other"
