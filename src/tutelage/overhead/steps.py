"""CPU of our own code at one step, on the path that every request takes."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tutelage.assembly import ledger, prompt_settings
from tutelage.benchmarks.household.world import INSTRUCTIONS
from tutelage.overhead.episodes import oracle_episodes, requests
from tutelage.overhead.figure import Figure, median_ms
from tutelage.overhead.setting import TENANT, Setting
from tutelage.policies import Choice
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.pipeline import Runtime
from tutelage.runtime.protocols import DeferralPolicy, TraceStore
from tutelage.runtime.steps import read_step
from tutelage.runtime.types import (
    Agreement,
    ChatRequest,
    Decision,
    EpisodeRecord,
    Retrieved,
    SamplePlan,
    Step,
    Trace,
)

AT_ONCE = 16
HOPS = ("retrieve", "render", "agree", "policy", "append")

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Material:
    """One step of an episode, and what the oracle does there."""

    episode_id: str
    task_id: str | None
    request: ChatRequest
    action: str


@dataclass(slots=True)
class Stopwatch:
    """Seconds spent by hop since it was last read."""

    clock: Clock
    hops: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def read(self) -> dict[str, float]:
        """The seconds so far; starts again at 0."""
        found, self.hops = dict(self.hops), defaultdict(float)
        return found


@dataclass(frozen=True, slots=True)
class TimedPolicy:
    """A policy whose time is noted."""

    policy: DeferralPolicy
    watch: Stopwatch

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The policy's plan."""
        started = self.watch.clock()
        try:
            return self.policy.plan(step, demonstrations)
        finally:
            self.watch.hops["policy"] += self.watch.clock() - started

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The policy's decision."""
        started = self.watch.clock()
        try:
            return self.policy.decide(step, agreement, demonstrations)
        finally:
            self.watch.hops["policy"] += self.watch.clock() - started


@dataclass(frozen=True, slots=True)
class TimedStore:
    """A trace store whose time is noted."""

    store: TraceStore
    watch: Stopwatch

    async def append(self, trace: Trace) -> None:
        """Appends to the store."""
        started = self.watch.clock()
        try:
            await self.store.append(trace)
        finally:
            self.watch.hops["append"] += self.watch.clock() - started

    async def record_episode(self, episode: EpisodeRecord) -> None:
        """Records in the store."""
        await self.store.record_episode(episode)


async def measure_steps(
    setting: Setting, *, steps: int, clock: Clock = time.process_time
) -> list[Figure]:
    """CPU milliseconds of each hop of ``Runtime.complete``, all threads, at real steps.

    Every text is embedded in a round before, which is reported apart; the student is scripted and
    its time left out. Medians over the steps one after the other, then the mean with 16 at once,
    where traces share commits.

    Args:
        setting: Parts and bank.
        steps: Steps that are timed.
        clock: CPU seconds of the process.
    """
    material = list(_material(steps))
    embedding = await _embed_all(setting, material, clock)
    watch = Stopwatch(clock)
    hops: defaultdict[str, list[float]] = defaultdict(list)
    runtime = _runtime(setting, material, watch)
    for one in material:
        started = clock()
        latency_s = await _serve(runtime, one)
        whole = clock() - started
        spent = {**latency_s, **watch.read()}
        own = whole - spent.get("student", 0.0) - spent.get("teacher", 0.0)
        hops["total"].append(own)
        hops["rest"].append(own - sum(spent.get(hop, 0.0) for hop in HOPS))
        for hop in HOPS:
            hops[hop].append(spent.get(hop, 0.0))
    shared_ms = await _at_once(setting, material, clock)
    size = f"{setting.demonstrations:,} demonstrations, {len(material)} steps"
    high = statistics.quantiles(hops["total"], n=20)[-1] * 1000
    notes = {
        "append": "SQLite with synchronous=FULL, one trace a commit",
        "rest": "reading the step, prices, building trace and answer",
        "total": f"{size}, embedding and student left out; 95 % of steps below {high:.3g} ms",
    }
    unit = "ms CPU"
    figures = [
        Figure("step", hop, median_ms(hops[hop]), unit, notes.get(hop, ""))
        for hop in (*HOPS, "rest", "total")
    ]
    return [
        *figures,
        Figure("step", f"total, {AT_ONCE} at once", shared_ms, unit, "mean; traces share commits"),
        Figure(
            "step",
            "embedding a step",
            statistics.fmean(embedding) * 1000,
            unit,
            "mean, apart from the total; texts seen before cost nothing",
        ),
    ]


def _material(steps: int) -> Iterator[Material]:
    count = 0
    for episode in oracle_episodes(f"test:{steps}", TENANT):
        asked = requests(episode, INSTRUCTIONS)
        for request, turn in zip(asked, episode.turns, strict=True):
            if count == steps:
                return
            yield Material(episode.id, episode.task_id, request, turn.action)
            count += 1


async def _embed_all(setting: Setting, material: Sequence[Material], clock: Clock) -> list[float]:
    """CPU seconds of embedding at each step; afterwards no text is new."""
    bank = setting.assembly.bank
    await bank.shard(TENANT)
    await bank.embedder.embed(["The model is loaded at its first text."])
    seconds = []
    for one in material:
        step = read_step(one.request, tenant=TENANT, episode_id=one.episode_id)
        started = clock()
        await bank.embedder.embed([step.goal, bank.state_key.of_step(step)])
        seconds.append(clock() - started)
    return seconds


def _runtime(setting: Setting, material: Sequence[Material], watch: Stopwatch) -> Runtime:
    assembly = setting.assembly
    # As students word it, so that the votes are counted over texts that differ.
    answers = [[one.action, f"Action: {one.action}", f"{one.action}."] for one in material]
    return Runtime(
        teacher=ScriptedModel("look"),
        student=ScriptedModel(answers),
        retriever=assembly.retriever(),
        agreement=assembly.policies.agreement(),
        policy=TimedPolicy(assembly.policies.policy(Choice()), watch),
        traces=TimedStore(assembly.traces, watch),
        ledger=ledger(assembly.config),
        prompt=prompt_settings(assembly.config),
        count_tokens=assembly.count_tokens,
        timer=watch.clock,
    )


async def _serve(runtime: Runtime, one: Material) -> dict[str, float]:
    episode = runtime.episode(tenant=TENANT, task_id=one.task_id, id=one.episode_id)
    answer = await runtime.complete(one.request, episode=episode)
    return answer.trace.latency_s


async def _at_once(setting: Setting, material: Sequence[Material], clock: Clock) -> float:
    """Mean CPU milliseconds a step with several in flight, the scripted student included."""
    runtime = _runtime(setting, material, Stopwatch(clock))
    queue = iter(material)

    async def work() -> None:
        for one in queue:
            await _serve(runtime, one)

    started = clock()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return (clock() - started) / len(material) * 1000
