"""One episode of a replay: an agent loop over a world, served by a runtime."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from tutelage.benchmarks.arms import Arm
from tutelage.benchmarks.budget import Budget
from tutelage.benchmarks.environment import Opening, OracleAction, Outcome, Task
from tutelage.benchmarks.manifest import RunSettings
from tutelage.benchmarks.manner import Manner
from tutelage.benchmarks.oracle_teacher import KNOWLEDGE_FIELD
from tutelage.benchmarks.results import EpisodeResult
from tutelage.runtime.errors import BenchmarkError, ContextTooLong
from tutelage.runtime.steps import action_text, tool_calls
from tutelage.runtime.types import Answer, ChatRequest, Served, Usage

_ACTION_PREFIX = re.compile(r"^\s*action\s*:\s*", re.IGNORECASE)
_Key = TypeVar("_Key", bound=str)
_REFUSAL = re.compile(r"^\s*nothing happens\b", re.IGNORECASE)


class World(Protocol):
    """A world in a process of its own, as a replay uses it."""

    @property
    def instructions(self) -> str:
        """The system message an agent gets."""
        ...

    async def reset(self, task: Task) -> Opening:
        """Starts a task."""
        ...

    async def step(self, action: str) -> Outcome:
        """Takes an action."""
        ...

    async def oracle(self) -> OracleAction:
        """The action to take now."""
        ...

    def prefetch(self, task: Task) -> None:
        """Says which task is likely to be reset next."""
        ...

    async def aclose(self) -> None:
        """Ends the process."""
        ...


class ServedEpisode(Protocol):
    """An open episode of a runtime."""

    async def complete(self, request: ChatRequest) -> Answer:
        """Serves one step."""
        ...

    async def feedback(self, *, success: bool) -> object:
        """Records how the episode ended."""
        ...


class EpisodeRuntime(Protocol):
    """What a replay needs of a runtime."""

    def episode(
        self, *, goal: str, tenant: str, task_id: str, id: str
    ) -> AbstractAsyncContextManager[ServedEpisode]:
        """Opens an episode."""
        ...


def clean_action(text: str) -> str:
    """The action that an answer names: no space around it, no leading ``Action:``."""
    return _ACTION_PREFIX.sub("", text).strip()


def is_refusal(observation: str) -> bool:
    """Whether a household world's observation says that the action was not accepted."""
    return _REFUSAL.match(observation) is not None


def episode_seed(task: Task, seed: int) -> int:
    """A seed in [0, 2**31) that is the same for all arms, so that they are paired."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{task.id}".encode()).digest()[:4]) >> 1


@dataclass(slots=True)
class Tally:
    """Running sums of one episode."""

    steps: int = 0
    expert_steps: int = 0
    planner_steps: int = 0
    served: Counter[Served] = field(default_factory=Counter)
    refused: Counter[Served] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    demonstrations: int = 0
    usage: dict[Served, Usage] = field(default_factory=dict)
    prompt_parts: Counter[str] = field(default_factory=Counter)
    cost_usd: dict[Served, float] = field(default_factory=dict)
    uncached_cost_usd: dict[Served, float] = field(default_factory=dict)
    latency_s: dict[str, float] = field(default_factory=dict)

    def add(self, answer: Answer) -> float:
        """Counts one answer; returns its cost in USD, all components together."""
        trace, decision = answer.trace, answer.decision
        self.steps += 1
        self.served[decision.served] += 1
        self.reasons[decision.reason.value] += 1
        self.demonstrations += len(trace.demonstrations)
        self.prompt_parts.update(trace.prompt_parts)
        for role, usage in trace.usage.items():
            self.usage[role] = self.usage.get(role, Usage()) + usage
        _add(self.cost_usd, trace.cost_usd)
        _add(self.uncached_cost_usd, trace.uncached_cost_usd)
        _add(self.latency_s, trace.latency_s)
        knowledge = (answer.completion.model_extra or {}).get(KNOWLEDGE_FIELD)
        if decision.served == "teacher" and knowledge is not None:
            self.expert_steps += knowledge == "expert"
            self.planner_steps += knowledge == "planner"
        return sum(trace.cost_usd.values())


@dataclass(frozen=True, slots=True)
class EpisodePlay:
    """Plays one task with one arm.

    Args:
        arm: Who acts.
        task: What is played.
        seed: Which repeat of it.
        settings: Limits of the episode and its requests.
        run: Fingerprint that the result carries.
        tenant: Whose demonstrations are retrieved, and whose traces are written.
        clock: Unix time in seconds.
        timer: A monotonic clock in seconds.
        command: The command that an answer names, as the world gets it.
        manner: How the world is played.
    """

    arm: Arm
    task: Task
    seed: int
    settings: RunSettings
    run: str
    tenant: str
    clock: Callable[[], float]
    timer: Callable[[], float]
    command: Callable[[str], str] = clean_action
    manner: Manner = field(default_factory=Manner)

    async def play(
        self,
        world: World,
        runtime: EpisodeRuntime,
        episode_id: str,
        budget: Budget,
    ) -> EpisodeResult:
        """Plays until the world is done or the steps are used up.

        Args:
            world: Where the task is played.
            runtime: Who answers.
            episode_id: New at each attempt, so that traces of an attempt that was cut stay apart.
            budget: Told the cost of each step, and asked before the next one.

        Raises:
            ModelError: The teacher was needed and failed.
            WorkerDied: The world ended early.
            BudgetSpent: The dollars ran out before the episode ended.
            BenchmarkError: A part failed and the teacher stood in for it.
        """
        tally = Tally()
        started = self.timer()
        opening = await world.reset(self.task)
        _add(tally.latency_s, {"world": self.timer() - started})
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": world.instructions},
            {"role": "user", "content": f"Task: {opening.goal}\n{opening.observation}"},
        ]
        outcome = Outcome(opening.observation, done=False, success=False)
        async with runtime.episode(
            goal=opening.goal, tenant=self.tenant, task_id=self.task.id, id=episode_id
        ) as episode:
            while not outcome.done and tally.steps < self.settings.max_steps:
                budget.check()
                answer = await episode.complete(self._request(messages, tally.steps))
                budget.spend(tally.add(answer))
                _check_measured(answer)
                action = self.command(action_text(answer.completion.choices[0].message))
                asked = self.timer()
                outcome = await world.step(action)
                _add(tally.latency_s, {"world": self.timer() - asked})
                tally.refused[answer.decision.served] += is_refusal(outcome.observation)
                messages += _turn(action, outcome.observation, tally.steps)
            wall_s = self.timer() - started
            await episode.feedback(success=outcome.success)
        return self._result(tally, episode_id, success=outcome.success, wall_s=wall_s)

    def _request(self, messages: list[dict[str, Any]], index: int) -> ChatRequest:
        body: dict[str, Any] = {
            "model": "tutelage",
            "messages": list(messages),
            "temperature": self.settings.temperature,
            "max_tokens": self.settings.max_tokens,
            "seed": (episode_seed(self.task, self.seed) + index) % 2**31,
        }
        if self.manner.stop:
            body["stop"] = list(self.manner.stop)
        if self.manner.tools:
            body["tools"] = list(self.manner.tools)
        return ChatRequest.model_validate(body)

    def _result(
        self, tally: Tally, episode_id: str, *, success: bool, wall_s: float
    ) -> EpisodeResult:
        return EpisodeResult(
            arm=self.arm.name,
            task_id=self.task.id,
            category=self.task.category,
            seed=self.seed,
            episode_id=episode_id,
            success=success,
            steps=tally.steps,
            teacher_steps=tally.served["teacher"],
            student_steps=tally.served["student"],
            expert_steps=tally.expert_steps,
            planner_steps=tally.planner_steps,
            refused_steps=dict(+tally.refused),
            reasons=dict(tally.reasons),
            demonstrations=tally.demonstrations,
            usage=tally.usage,
            prompt_parts=dict(tally.prompt_parts),
            cost_usd=tally.cost_usd,
            uncached_cost_usd=tally.uncached_cost_usd,
            latency_s=tally.latency_s,
            wall_s=wall_s,
            finished_at_s=self.clock(),
            run=self.run,
        )


def _turn(action: str, observation: str, number: int) -> Iterator[dict[str, Any]]:
    """An action and what it led to, as messages; calls of tools get results of their own."""
    calls = tool_calls(action)
    if not calls:
        yield {"role": "assistant", "content": action}
        yield {"role": "user", "content": observation}
        return
    calls = [{**call, "id": f"{number}_{call['id']}"} for call in calls]
    yield {"role": "assistant", "content": None, "tool_calls": calls}
    for place, call in enumerate(calls):
        text = observation if place == 0 else "(see above)"
        yield {"role": "tool", "content": text, "tool_call_id": call["id"]}


def _check_measured(answer: Answer) -> None:
    """A broken part is no result; a prompt that is too long for the student is one.

    Raises:
        BenchmarkError: Student, retrieval or policy failed, and the teacher stood in.
    """
    error = answer.trace.error
    if error is not None and not error.startswith(ContextTooLong.__name__):
        raise BenchmarkError(f"{answer.decision.reason.value}: {error}")


def _add(sums: dict[_Key, float], more: Mapping[_Key, float]) -> None:
    for name, amount in more.items():
        sums[name] = sums.get(name, 0.0) + amount
