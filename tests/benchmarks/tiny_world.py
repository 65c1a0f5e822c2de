"""A corridor with a goal at one end, an erring student, and a runtime that joins them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

from tutelage.benchmarks.arms import Arm
from tutelage.benchmarks.environment import Opening, OracleAction, Outcome, Task
from tutelage.benchmarks.episode import EpisodeRuntime, World
from tutelage.benchmarks.manifest import RunSettings
from tutelage.benchmarks.oracle_teacher import OracleTeacher
from tutelage.benchmarks.replay import Replay
from tutelage.benchmarks.results import EpisodeResult
from tutelage.benchmarks.results_folder import ResultsFolder
from tutelage.runtime.prefix_cache import PrefixCacheMeter
from tutelage.runtime.protocols import Model
from tutelage.runtime.types import (
    Answer,
    ChatRequest,
    Choice,
    Completion,
    Decision,
    Message,
    Reason,
    Served,
    Trace,
    Usage,
)

PRICES_USD: dict[Served, tuple[float, float, float]] = {
    "student": (0.4e-6, 0.1e-6, 1.6e-6),
    "teacher": (3e-6, 0.3e-6, 15e-6),
}
"""Input, cached read and output, per token."""


def settings(**changes: Any) -> RunSettings:
    """Settings of a run in the corridor."""
    given = {
        "world": "corridor",
        "split": "test",
        "teacher": "the corridor's oracle",
        "teacher_kind": "oracle",
        "student": "a coin",
        "teacher_priced_as": "big",
        "student_priced_as": "small",
        "prices_date": "2025-10-01",
        "max_steps": 8,
        "max_tokens": 24,
        "bank_episodes": 10,
    }
    return RunSettings.model_validate({**given, **changes})


def tasks(count: int) -> list[Task]:
    """Corridors of 1 to 4 rooms."""
    return [Task(f"corridor-{i}", "test", f"length-{1 + i % 4}") for i in range(count)]


class Corridor:
    """The goal is ``length`` rooms to the right; ``go right`` and ``go left`` move."""

    instructions = "Walk to the goal. Commands: go right | go left"

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.left = 0
        self.resets: list[str] = []
        self.prefetched: list[str] = []
        self.actions: list[str] = []
        self.closed = False

    async def reset(self, task: Task) -> Opening:
        self.left = int(task.category.removeprefix("length-"))
        self.resets.append(task.id)
        return Opening("reach the goal", f"The goal is {self.left} rooms away.")

    async def step(self, action: str) -> Outcome:
        await asyncio.sleep(self.delay_s)
        self.actions.append(action)
        if action not in ("go right", "go left"):
            return Outcome("Nothing happens.", done=False, success=False)
        self.left += -1 if action == "go right" else 1
        done = self.left == 0
        return Outcome(f"The goal is {self.left} rooms away.", done=done, success=done)

    async def oracle(self) -> OracleAction:
        return OracleAction("go right", "planner" if self.left == 1 else "expert")

    def prefetch(self, task: Task) -> None:
        self.prefetched.append(task.id)

    async def aclose(self) -> None:
        self.closed = True


def words(text: str) -> int:
    """Tokens of a text."""
    return len(text.split())


def oracle(world: World) -> OracleTeacher:
    """The corridor's oracle as a teacher with a fresh prompt cache."""
    return OracleTeacher(world, count_tokens=words, meter=PrefixCacheMeter(min_tokens=0))


def cost_usd(role: Served, usage: Usage, *, cached: bool = True) -> float:
    """Price of tokens."""
    full, read, output = PRICES_USD[role]
    reads = usage.cache_read_tokens * (read if cached else full)
    return (
        (usage.prompt_tokens - usage.cache_read_tokens) * full
        + reads
        + (usage.output_tokens * output)
    )


@dataclass
class TinyRuntime:
    """Serves by the arm's policy with a student that errs; demonstrations make it err less."""

    arm: Arm
    teacher: Model
    seed: int
    requests: list[ChatRequest] = field(default_factory=list)
    feedback: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    def episode(self, *, goal: str, tenant: str, task_id: str, id: str) -> TinyEpisode:
        return TinyEpisode(self, goal=goal, tenant=tenant, task_id=task_id, id=id)

    def student_action(self) -> str:
        right = 0.8 if self.arm.demonstrations else 0.4
        return "Action: go right " if self.random.random() < right else "dance"

    def decision(self, samples: Sequence[str]) -> Decision:
        match self.arm.policy:
            case "always-teacher":
                return Decision(served="teacher", reason=Reason.ALWAYS)
            case "always-student":
                return Decision(served="student", reason=Reason.ALWAYS)
            case "paper":
                if len(set(samples)) == 1:
                    return Decision(served="student", reason=Reason.AGREED)
                return Decision(served="teacher", reason=Reason.DISAGREED)
            case "random":
                assert self.arm.p_teacher is not None
                teacher = self.random.random() < self.arm.p_teacher
                return Decision(served="teacher" if teacher else "student", reason=Reason.RANDOM)
            case policy:
                raise AssertionError(policy)


@dataclass
class TinyEpisode:
    runtime: TinyRuntime
    goal: str
    tenant: str
    task_id: str
    id: str

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    async def feedback(self, *, success: bool) -> None:
        self.runtime.feedback[self.id] = success

    async def complete(self, request: ChatRequest) -> Answer:
        runtime = self.runtime
        runtime.requests.append(request)
        samples = [runtime.student_action() for _ in range(3)]
        decision = runtime.decision(samples)
        usage: dict[Served, Usage] = {}
        if runtime.arm.policy != "always-teacher":
            prompt = sum(words(message.text) for message in request.messages)
            usage["student"] = Usage(input_tokens=prompt, output_tokens=6)
        if decision.served == "teacher":
            completion = await runtime.teacher.complete(request)
            usage["teacher"] = completion.usage
        else:
            choice = Choice(index=0, message=Message(role="assistant", content=samples[0]))
            completion = Completion(id="s", model="small", choices=[choice])
        trace = Trace(
            id="t",
            tenant=self.tenant,
            episode_id=self.id,
            step_index=0,
            created_at_s=0.0,
            model=request.model,
            goal=self.goal,
            observation=request.messages[-1].text,
            answer=completion.text,
            decision=decision,
            demonstrations=("d:0",) if runtime.arm.demonstrations else (),
            usage=usage,
            cost_usd={role: cost_usd(role, used) for role, used in usage.items()},
            uncached_cost_usd={
                role: cost_usd(role, used, cached=False) for role, used in usage.items()
            },
            latency_s={"total": 0.5},
        )
        return Answer(completion, decision, "t", trace)


def tiny_runtime(arm: Arm, teacher: Model, seed: int) -> EpisodeRuntime:
    """Builds the runtime of an arm."""
    return TinyRuntime(arm, teacher, seed)


def tiny_replay(folder: ResultsFolder, arms: Sequence[Arm], **parts: Any) -> Replay:
    """A replay of four corridors with one seed."""
    given: dict[str, Any] = {
        "tasks": tasks(4),
        "seeds": [0],
        "world": Corridor,
        "build_teacher": oracle,
        "build_runtime": tiny_runtime,
    }
    return Replay(folder=folder, arms=arms, **{**given, **parts})


def result(arm: str = "teacher", task: int = 0, seed: int = 0, **changes: Any) -> EpisodeResult:
    """An episode's result."""
    given = {
        "arm": arm,
        "task_id": f"corridor-{task}",
        "category": "length-1",
        "seed": seed,
        "episode_id": f"{arm}-{task}-{seed}",
        "success": True,
        "steps": 4,
        "teacher_steps": 4,
        "student_steps": 0,
        "wall_s": 1.0,
        "finished_at_s": 0.0,
        "run": "r",
    }
    return EpisodeResult.model_validate({**given, **changes})


def lasting(results: Sequence[EpisodeResult]) -> list[dict[str, Any]]:
    """What of results does not depend on when they were played."""
    passing = {"episode_id", "wall_s", "latency_s", "finished_at_s"}
    return sorted(
        (one.model_dump(exclude=passing) for one in results),
        key=lambda one: (one["arm"], one["task_id"], one["seed"]),
    )


def results_file(folder: Path) -> Path:
    """Where a folder's results are."""
    return folder / "results.jsonl"
