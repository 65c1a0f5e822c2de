from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

import pytest

from tutelage.overhead.episodes import oracle_episodes
from tutelage.overhead.layouts import play_layout
from tutelage.overhead.steps import TENANT, Remembered
from tutelage.retrieval.bank import Bank
from tutelage.runtime.prompt import PromptSettings
from tutelage.runtime.store.database import migrate, open_engine

pytestmark = pytest.mark.vllm


class Endpoint(Protocol):
    base_url: str
    model: str


async def test_a_pinned_prompt_is_served_from_the_prefix_cache_and_a_per_step_one_is_not(
    vllm_server: Endpoint, tmp_path: Path
) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'bank.sqlite'}")
    migrate(engine)
    bank = Bank(engine, Remembered(), tmp_path, time.time)
    await bank.add(list(oracle_episodes("train:30", TENANT)))
    moved = {}
    for layout in (PromptSettings(), PromptSettings(layout="pinned", max_prompt_tokens=1900)):
        counters, _, steps = await play_layout(
            bank,
            vllm_server.base_url,
            vllm_server.model,
            layout,
            lambda text: len(text) // 3,
            split="test:2",
        )
        assert steps >= 6
        moved[layout.layout] = counters
    engine.dispose()
    assert moved["pinned"].prefix_cache_hits > 0
    assert moved["pinned"].hit_rate > 0.5
    assert moved["per-step"].hit_rate < moved["pinned"].hit_rate / 2
