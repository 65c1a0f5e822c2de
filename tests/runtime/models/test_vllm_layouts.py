from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Protocol

import pytest

from tutelage.overhead.episodes import oracle_episodes
from tutelage.overhead.layouts import LayoutPlay, play_episode, salted
from tutelage.overhead.setting import TENANT, open_setting
from tutelage.policies import Choice
from tutelage.retrieval.embedding import HashEmbedder
from tutelage.runtime.models.openai import OpenAIModel
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.store.memory import MemoryTraceStore

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


class Endpoint(Protocol):
    base_url: str
    model: str


def hit_rate(play: LayoutPlay) -> float:
    """By the server's counters; by our own answers where somebody else moved those too."""
    if play.is_shared:
        return play.usage.cache_read_tokens / play.usage.prompt_tokens
    return play.moved.hit_rate


async def test_a_pinned_prompt_is_read_from_the_prefix_cache_and_a_per_step_one_is_not(
    vllm_server: Endpoint, tmp_path: Path
) -> None:
    episode = next(one for one in oracle_episodes("test:60", TENANT) if len(one.turns) >= 8)
    plays: dict[str, LayoutPlay] = {}
    read: dict[str, list[float]] = {}
    async with (
        open_setting(tmp_path, demonstrations=200, make_embedder=HashEmbedder) as setting,
        OpenAIModel(vllm_server.base_url, vllm_server.model) as student,
    ):
        for name, assembly in (
            ("per-step", setting.with_layout("per-step")),
            ("pinned", setting.with_layout("pinned", delta_k=1)),
        ):
            traces = MemoryTraceStore()
            runtime = assembly.runtime(
                teacher=ScriptedModel("look"),
                student=student,
                choice=Choice(policy="always-student", guards=(), bare=True),
                traces=traces,
            )
            # The world's instructions would be shared by all steps of either layout.
            system = salted().splitlines()[0]
            plays[name] = await play_episode(runtime, episode, vllm_server.base_url, system)
            asked = sorted(await traces.traces(TENANT), key=lambda trace: trace.step_index)
            # In both layouts the demonstrations of a step are not those of the step before.
            assert len({one.demonstrations for one in asked}) == len(episode.turns)
            usages = [one.usage["student"] for one in asked]
            read[name] = [usage.cache_read_tokens / usage.prompt_tokens for usage in usages]
    per_step, pinned = plays["per-step"], plays["pinned"]
    assert pinned.steps == per_step.steps == len(episode.turns)
    assert pinned.moved.prefix_cache_hits > 0
    assert hit_rate(pinned) > 0.5
    assert hit_rate(per_step) < 0.15
    assert hit_rate(pinned) > 5 * hit_rate(per_step)
    # The transcript grows behind the pinned trajectory, and the step's own part does not.
    assert fmean(read["pinned"][-3:]) > fmean(read["pinned"][1:4]) + 0.05
    assert max(read["per-step"]) < min(read["pinned"][1:])
