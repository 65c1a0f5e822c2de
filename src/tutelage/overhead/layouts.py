"""Prefix-cache hits and seconds of the prompt layouts, in a real vLLM."""

from __future__ import annotations

import asyncio
import json
import statistics
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from tutelage.assembly import Assembly
from tutelage.benchmarks.household.world import INSTRUCTIONS
from tutelage.overhead.episodes import oracle_episodes, requests
from tutelage.overhead.figure import Figure
from tutelage.overhead.setting import TENANT, Setting
from tutelage.policies import Choice
from tutelage.runtime.errors import ModelError
from tutelage.runtime.models.openai import OpenAIModel
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.models.vllm import ServerMetrics, read_metrics
from tutelage.runtime.pipeline import Runtime
from tutelage.runtime.store.memory import MemoryTraceStore
from tutelage.runtime.types import Trajectory, Usage

FOREIGN_TOKENS = 1.02
"""The server's prompt tokens over ours from which somebody else must have used it."""


@dataclass(frozen=True, slots=True)
class LayoutPlay:
    """What playing episodes with one layout took; two can be added."""

    moved: ServerMetrics
    """Counters of the server, whoever used it."""
    usage: Usage
    """Tokens of our own calls, as the answers tell them."""
    call_s: tuple[float, ...]
    """Wall seconds of each student call."""

    def __add__(self, other: LayoutPlay) -> LayoutPlay:
        moved = ServerMetrics(
            self.moved.prefix_cache_queries + other.moved.prefix_cache_queries,
            self.moved.prefix_cache_hits + other.moved.prefix_cache_hits,
            self.moved.prompt_tokens + other.moved.prompt_tokens,
            self.moved.generation_tokens + other.moved.generation_tokens,
        )
        return LayoutPlay(moved, self.usage + other.usage, self.call_s + other.call_s)

    @property
    def steps(self) -> int:
        """Student calls."""
        return len(self.call_s)

    @property
    def step_s(self) -> float:
        """Mean wall seconds of a student call."""
        return statistics.fmean(self.call_s)

    @property
    def is_shared(self) -> bool:
        """Whether the server answered somebody else in the meantime."""
        return self.moved.prompt_tokens > FOREIGN_TOKENS * self.usage.prompt_tokens


def salted() -> str:
    """The world's instructions below a line that no other prompt starts with."""
    return f"Session {uuid.uuid4().hex}.\n{INSTRUCTIONS}"


async def play_episode(
    runtime: Runtime, episode: Trajectory, base_url: str, system: str
) -> LayoutPlay:
    """Asks the student at every step of a recorded episode, whatever it answers.

    Args:
        runtime: With the layout and the student.
        episode: Gives the transcript; its own task's demonstrations are not shown.
        base_url: The student's vLLM.
        system: The system message.

    Raises:
        ModelError: The server does not answer.
    """
    before = await asyncio.to_thread(read_metrics, base_url)
    usage, call_s = Usage(), []
    served = runtime.episode(tenant=TENANT, task_id=episode.task_id)
    for request in requests(episode, system):
        answer = await runtime.complete(request, episode=served, force="student")
        if "student" not in answer.trace.usage:
            raise ModelError(f"the student at {base_url} did not answer: {answer.trace.error}")
        usage += answer.trace.usage["student"]
        call_s.append(answer.trace.latency_s["student"])
    moved = await asyncio.to_thread(read_metrics, base_url) - before
    return LayoutPlay(moved, usage, tuple(call_s))


async def measure_layouts(
    setting: Setting, base_url: str, model: str, *, episodes: int
) -> list[Figure]:
    """Hit rate, prompt tokens and seconds a step of each layout, over the same recorded episodes.

    The layouts take turns, one episode each; a system line of its own keeps each from reading the
    others' prefixes. One greedy sample a step, so that samples of one prompt are no hits. At the
    end the call of a cascade's step, with its several samples, is timed too.

    Args:
        setting: Parts and bank.
        base_url: The student's vLLM; nothing else may use it meanwhile.
        model: Its name there.
        episodes: Recorded episodes that are played.

    Raises:
        ModelError: The server does not answer.
    """
    layouts = {
        "per-step": setting.with_layout("per-step"),
        "pinned": setting.with_layout("pinned"),
        "pinned + 1 of the step": setting.with_layout("pinned", delta_k=1),
        "pinned-delta": setting.with_layout("pinned-delta"),
    }
    recorded = list(oracle_episodes(f"test:{episodes}", TENANT))
    plays: dict[str, LayoutPlay] = {}
    async with OpenAIModel(base_url, model) as student:
        systems = {name: salted() for name in layouts}
        runtimes = {name: _runtime(one, student, "always-student") for name, one in layouts.items()}
        for episode in recorded:
            for name, runtime in runtimes.items():
                played = await play_episode(runtime, episode, base_url, systems[name])
                plays[name] = plays[name] + played if name in plays else played
        cascade = _runtime(layouts["per-step"], student, "paper")
        sampled = await play_episode(cascade, recorded[0], base_url, salted())
    return [*_figures(plays), _cascade_call(setting, sampled)]


def served_model(base_url: str) -> str:
    """The first model that the server lists.

    Raises:
        ModelError: The server does not answer, or lists none.
    """
    url = base_url.rstrip("/") + "/models"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=10.0) as answer:
            return str(json.load(answer)["data"][0]["id"])
    except (OSError, ValueError, LookupError, TypeError, urllib.error.URLError) as error:
        raise ModelError(f"{url} names no model: {error}") from error


def _runtime(assembly: Assembly, student: OpenAIModel, policy: str) -> Runtime:
    return assembly.runtime(
        teacher=ScriptedModel("look"),
        student=student,
        choice=Choice(policy=policy, guards=(), bare=True),
        traces=MemoryTraceStore(),
    )


def _figures(plays: Mapping[str, LayoutPlay]) -> list[Figure]:
    figures = []
    for name, play in plays.items():
        moved, usage = play.moved, play.usage
        hits = f"{moved.prefix_cache_hits:,} of {moved.prefix_cache_queries:,} tokens in /metrics"
        own = usage.cache_read_tokens / max(1, usage.prompt_tokens)
        hits += f"; {own:.1%} by our answers' usage"
        if play.is_shared:
            hits += "; the server was not idle: trust the latter"
        fresh = usage.input_tokens / play.steps
        figures += [
            Figure("layout", f"{name}, hit rate", moved.hit_rate, "", hits),
            Figure(
                "layout",
                f"{name}, prompt tokens a step",
                usage.prompt_tokens / play.steps,
                "tokens",
                f"{fresh:,.0f} of them not cached; {play.steps} steps",
            ),
            Figure("layout", f"{name}, student call", play.step_s, "s", "mean, one sample"),
        ]
    first, *others = plays
    for name in others:
        one, other = plays[first], plays[name]
        rates = (other.moved.hit_rate, one.moved.hit_rate)
        ratio = rates[0] / rates[1] if rates[1] else None
        figures += [
            Figure("layout", f"{name} over {first}, hit rate", ratio, "x"),
            Figure("layout", f"{first} over {name}, time", one.step_s / other.step_s, "x"),
        ]
    return figures


def _cascade_call(setting: Setting, play: LayoutPlay) -> Figure:
    samples = setting.assembly.config.cascade.samples
    note = f"median, {samples} samples, per-step layout, {play.steps} steps"
    return Figure("layout", "cascade call", statistics.median(play.call_s), "s", note)
