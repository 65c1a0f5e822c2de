from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from tests.benchmarks.tiny_world import result, settings, tiny_replay

from tutelage.benchmarks.arms import ARMS, find_arms
from tutelage.benchmarks.progress import progress_bars
from tutelage.benchmarks.results_folder import open_results


def console() -> Console:
    return Console(file=io.StringIO(), width=120, force_terminal=True)


def output(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def test_a_bar_counts_success_and_cost_so_far() -> None:
    shown = console()
    with progress_bars(shown) as bars:
        bars.planned(ARMS["teacher"], 4, [result(cost_usd={"teacher": 0.5})])
        bars.planned(ARMS["demos"], 4, [])
        bars.finished(result(task=1, success=False, cost_usd={"teacher": 0.25}))
    last = output(shown).split("teacher")[-1]
    assert "2/4" in last
    assert "50% won" in last
    assert "$0.7500" in last
    assert "- won" in last


async def test_the_bars_follow_a_replay(tmp_path: Path) -> None:
    shown = console()
    arms = find_arms(["teacher"])
    with open_results(tmp_path, settings(), arms) as folder, progress_bars(shown) as bars:
        await tiny_replay(folder, arms, watcher=bars).run()
    assert "4/4" in output(shown)
    assert "100% won" in output(shown)
