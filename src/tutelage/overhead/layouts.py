"""Prefix-cache hits of the pinned and the per-step layout, in a real vLLM."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from tutelage.overhead.episodes import oracle_episodes, requests
from tutelage.overhead.figure import Figure
from tutelage.overhead.steps import TENANT, Remembered
from tutelage.retrieval.bank import Bank
from tutelage.retrieval.selection import KeyedRetriever, Selection
from tutelage.runtime.models.openai import OpenAIModel
from tutelage.runtime.models.vllm import ServerMetrics, read_metrics
from tutelage.runtime.prompt import CountTokens, PromptSettings, render
from tutelage.runtime.steps import read_step
from tutelage.runtime.store.database import migrate, open_engine

WHOLE = 64


async def play_layout(
    bank: Bank,
    base_url: str,
    model: str,
    layout: PromptSettings,
    count_tokens: CountTokens,
    *,
    split: str,
) -> tuple[ServerMetrics, float, int]:
    """Sends every step of oracle episodes to the student, in order.

    Returns:
        What the server's counters moved by, wall seconds of the calls, and the number of steps.
    """
    pinned = layout.layout == "pinned"
    whole = KeyedRetriever(bank, Selection(k=1, before=0, after=WHOLE))
    near = KeyedRetriever(bank, Selection(k=3))
    # A line of its own keeps the layouts from sharing a prefix.
    system = f"You play a household game. Run {uuid.uuid4().hex}."
    before = read_metrics(base_url)
    seconds, count = 0.0, 0
    async with OpenAIModel(base_url, model) as student:
        for episode in oracle_episodes(split, TENANT):
            shown = None
            for request in requests(episode, system):
                step = read_step(request, tenant=TENANT, episode_id=episode.id)
                if shown is None or not pinned:
                    shown = await (whole if pinned else near).search(step)
                rendered = render(
                    request,
                    step,
                    () if pinned else shown,
                    layout,
                    count_tokens,
                    pinned=shown if pinned else (),
                )
                started = time.perf_counter()
                await student.complete(rendered.request)
                seconds += time.perf_counter() - started
                count += 1
    return read_metrics(base_url) - before, seconds, count


async def measure_layouts(
    folder: Path, base_url: str, model: str, count_tokens: CountTokens, *, episodes: int
) -> list[Figure]:
    """Hit rate, prompt tokens and seconds a step of both layouts, one after the other.

    Args:
        folder: For the database and the index.
        base_url: The student's vLLM; nothing else may use it meanwhile.
        model: Its name there.
        count_tokens: The student's tokenizer.
        episodes: Oracle episodes that are sent.
    """
    engine = open_engine(f"sqlite:///{folder / 'layouts.sqlite'}")
    migrate(engine)
    bank = Bank(engine, Remembered(), folder, time.time)
    await bank.add(list(oracle_episodes("train:60", TENANT)))
    figures: list[Figure] = []
    speeds: dict[str, float] = {}
    for name, settings in (
        ("per-step", PromptSettings()),
        ("pinned", PromptSettings(layout="pinned", max_prompt_tokens=3000)),
    ):
        moved, seconds, steps = await play_layout(
            bank, base_url, model, settings, count_tokens, split=f"test:{episodes}"
        )
        speeds[name] = seconds / steps
        tokens = f"{moved.prompt_tokens / steps:.0f} prompt tokens a step, {steps} steps"
        figures.append(Figure("layout", f"{name}, cache hits", moved.hit_rate, "", tokens))
        figures.append(Figure("layout", f"{name}, student call", seconds / steps, "s"))
    engine.dispose()
    ratio = speeds["per-step"] / speeds["pinned"]
    figures.append(Figure("layout", "per-step over pinned, time", ratio, "x"))
    return figures
