"""A household that was replayed, reported, and is looked at in a browser."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.headless_chromium import Page
from tests.small_household import a_play, with_bank

from tutelage.benchmarks.arms import ARMS, Arm
from tutelage.benchmarks.failed_episodes import failed_episode, failures
from tutelage.benchmarks.progress import Unwatched
from tutelage.benchmarks.report import Report, load_report
from tutelage.benchmarks.results import read_results
from tutelage.rehearsal import replay

_CONTRASTS = """(() => {
  const channels = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const luminance = rgb => {
    const [r, g, b] = rgb.map(c => c / 255)
      .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const told = channels(getComputedStyle(one).backgroundColor);
      if (told.length === 3 || told[3] > 0) return told.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.body.querySelectorAll('*')) {
    const text = [...element.childNodes].filter(n => n.nodeType === 3 && n.data.trim());
    const box = element.getBoundingClientRect();
    if (!text.length || !box.width || element.closest('title')) continue;
    const style = getComputedStyle(element);
    const ink = channels(element.closest('svg') ? style.fill : style.color).slice(0, 3);
    const [a, b] = [luminance(ink), luminance(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([text[0].data.trim().slice(0, 40), contrast]);
  }
  return found;
})()"""
_OVERFLOWING = """[...document.body.querySelectorAll('*')].filter(element => {
  const box = element.getBoundingClientRect();
  return (box.right > innerWidth + 1 || box.left < -1) && !element.closest('.scroll');
}).map(element => element.tagName + ' ' + element.textContent.slice(0, 40))"""
UNFOLD = "document.querySelectorAll('details').forEach(one => { one.open = true; })"


def copying_arms(*names: str) -> list[Arm]:
    """Arms by name, played by a student without a model."""
    return [replace(ARMS[name], student="copying") for name in names]


def played_report(folder: Path, *arms: str, tasks: str = "test:6", **changes: Any) -> Report:
    """Plays a household in ``folder`` and reports it with failed episodes."""

    async def play() -> Report:
        results = folder / "results"
        url = f"sqlite:///{folder}/store.sqlite"
        async with with_bank(folder, "train:6", store__url=url, **changes) as assembly:
            settings = a_play(results, tasks, max_steps=12)
            await replay(assembly, settings, copying_arms(*arms), Unwatched())
            found = []
            for result in failures(read_results(results), 1):
                traces = await assembly.traces.traces("default", episode_id=result.episode_id)
                found.append(failed_episode(result, traces))
        examples = tuple(one for one in found if one is not None)
        return replace(load_report(results), examples=examples)

    return asyncio.run(play())


async def overflowing(page: Page) -> list[str]:
    """Elements that reach past the window without being in a part that scrolls."""
    found: list[str] = await page.evaluate(_OVERFLOWING)
    if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append("the page itself")
    return found


async def contrasts(page: Page) -> dict[str, float]:
    """Contrast of every text that is seen, by WCAG 2, between 1 and 21."""
    return dict(await page.evaluate(_CONTRASTS))


async def colour_of(page: Page, selector: str) -> tuple[int, ...]:
    """Red, green and blue of an element's text."""
    told = await page.evaluate(f"getComputedStyle(document.querySelector({selector!r})).color")
    return tuple(int(part) for part in told.removeprefix("rgb(").removesuffix(")").split(","))
