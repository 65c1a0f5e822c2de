from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import pytest
from tests.benchmarks.browsed import UNFOLD, colour_of, contrasts, overflowing, played_report
from tests.headless_chromium import open_chromium
from tests.isolation import isolate

from tutelage.benchmarks.comparison_page import write_comparison
from tutelage.benchmarks.report import Report
from tutelage.benchmarks.report_page import write_report
from tutelage.benchmarks.results import read_results
from tutelage.benchmarks.run_comparison import compare_runs

pytestmark = pytest.mark.slow
ARMS = ("teacher", "student", "demos-cascade", "random-mix")
Scheme = Literal["light", "dark"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browsed")


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        return played_report(folder, *ARMS)


@pytest.fixture(scope="module")
def path(report: Report, folder: Path) -> Path:
    return write_report(report, folder / "written").page


async def test_a_report_opens_offline_and_without_errors(path: Path, tmp_path: Path) -> None:
    async with (
        open_chromium(tmp_path / "profile") as browser,
        browser.page(path, width=1280) as page,
    ):
        assert page.messages == []
        assert page.requests == [path.as_uri()]
        assert await page.evaluate("document.title") == "household: cost against success"
        told = await page.evaluate("document.body.innerText")
        assert "student: demonstrations" in told
        assert "student: task and history" in told
        assert await page.evaluate("document.images.length + document.scripts.length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_plot_is_drawn_where_the_figures_say(
    path: Path, report: Report, tmp_path: Path, scheme: Scheme
) -> None:
    async with (
        open_chromium(tmp_path / "profile") as browser,
        browser.page(path, width=1280) as page,
    ):
        await page.colours(scheme)
        paper = await page.screenshot(await page.region(".chart svg"))
        seen = Counter(paper.get_flattened_data())
        assert seen.most_common(1)[0][1] < 0.98 * paper.width * paper.height
        assert len(seen) > 20
        heights = {}
        for place, row in enumerate(report.rows):
            mark = await page.region(f".chart svg .series{place} > g:last-child")
            picture = await page.screenshot(mark)
            ink = await colour_of(page, f".chart svg .series{place}")
            share = Counter(picture.get_flattened_data())[ink] / (picture.width * picture.height)
            # Another arm may lie on top; the last one lies on all.
            assert share > (0.3 if place == len(report.rows) - 1 else 0), row.arm
            heights[row.arm] = mark.y + mark.height / 2
        assert heights["student"] > heights["teacher"] + 100


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844), (320, 568)])
async def test_nothing_reaches_past_the_window(
    path: Path, tmp_path: Path, width: int, height: int
) -> None:
    async with (
        open_chromium(tmp_path / "profile") as browser,
        browser.page(path, width=width, height=height) as page,
    ):
        await page.evaluate(UNFOLD)
        assert await overflowing(page) == []
        assert await page.evaluate("innerWidth") == width
        drawn = await page.region(".chart svg")
        assert drawn.width > 0.4 * min(width, 1280) - 60
        whole = await page.screenshot()
        assert (whole.width, whole.height > height) == (width, True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_is_legible(path: Path, tmp_path: Path, scheme: Scheme) -> None:
    async with (
        open_chromium(tmp_path / "profile") as browser,
        browser.page(path, width=1280) as page,
    ):
        await page.colours(scheme)
        await page.evaluate(UNFOLD)
        found = await contrasts(page)
        paper = (await page.screenshot()).getpixel((2, 2))
    assert len(found) > 100
    assert {text: ratio for text, ratio in found.items() if ratio < 4.5} == {}
    assert isinstance(paper, tuple)
    assert (sum(paper) > 600) is (scheme == "light")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_comparison_is_a_page_of_the_same_kind(
    report: Report, folder: Path, tmp_path: Path, width: int, scheme: Scheme
) -> None:
    results = read_results(folder / "results")
    found = compare_runs(*[(name, results, report.settings) for name in "ab"])
    compared = write_comparison(found, tmp_path / "out").page
    async with (
        open_chromium(tmp_path / "profile") as browser,
        browser.page(compared, width=width) as page,
    ):
        assert page.messages == []
        assert page.requests == [compared.as_uri()]
        await page.colours(scheme)
        assert await overflowing(page) == []
        texts = await contrasts(page)
        assert {text: ratio for text, ratio in texts.items() if ratio < 4.5} == {}
        assert "What changed" in texts
        picture = await page.screenshot(await page.region(".chart svg"))
        seen = Counter(picture.get_flattened_data())
        # The arm drawn last lies on all others.
        last = f".chart svg .series{len(found.rows) - 1}"
        assert seen[await colour_of(page, last)] > 20


async def test_a_failed_episode_unfolds_to_prompt_votes_and_decision(
    path: Path, report: Report, tmp_path: Path
) -> None:
    async with (
        open_chromium(tmp_path / "profile") as browser,
        browser.page(path, width=1280) as page,
    ):
        folded = "document.body.innerText"
        assert "votes" not in await page.evaluate(folded)
        summaries = "[...document.querySelectorAll('summary')]"
        await page.evaluate(
            f"{summaries}.find(one => one.innerText.startsWith('student:')).click()"
        )
        told = await page.evaluate(folded)
        step = next(one for one in report.examples if one.result.arm == "student").steps[-1]
        for text in ("seen", "samples", "votes", "decision", "student (always)", step.answer):
            assert text in told
        assert str(step.prompt[0]["content"]).splitlines()[0] not in told
        await page.evaluate(UNFOLD)
        assert str(step.prompt[0]["content"]).splitlines()[0] in await page.evaluate(folded)
