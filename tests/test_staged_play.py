from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate
from tests.small_household import a_play, with_bank

from tutelage.assembly import Assembly
from tutelage.benchmarks.arms import Arm
from tutelage.benchmarks.progress import Unwatched
from tutelage.benchmarks.results import read_results
from tutelage.rehearsal import Play
from tutelage.runtime.errors import ConfigError
from tutelage.staged_play import StagedPlay

TEACHER = Arm("teacher", "teacher alone", "always-teacher")
COPIER = Arm("copier", "copier alone", "always-student", student="copying")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture
async def assembly(tmp_path: Path) -> AsyncIterator[Assembly]:
    async with with_bank(tmp_path, "train:3") as opened:
        yield opened


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return a_play(tmp_path / "out", "train:10-13", max_steps=5)


def staged(
    assembly: Assembly, play: Play, stop: asyncio.Event | None = None, watcher: Any = None
) -> StagedPlay:
    return StagedPlay(assembly, play, watcher or Unwatched(), stop or asyncio.Event())


async def test_a_stage_is_a_folder_and_gives_back_what_its_arms_did(
    assembly: Assembly, play: Play
) -> None:
    found = await staged(assembly, play).results("one", [TEACHER, COPIER])

    assert found is not None
    assert sorted(one.key for one in found) == [
        (arm, f"train-000{n}", 0) for arm in ("copier", "teacher") for n in (10, 11, 12)
    ]
    assert read_results(play.out / "one") == found


async def test_what_else_a_folder_holds_is_left_out(assembly: Assembly, play: Play) -> None:
    wide = replace(play, split="train:9-14", seeds=2)
    await staged(assembly, wide).results("one", [TEACHER, COPIER])

    found = await staged(assembly, play).results("one", [TEACHER])

    assert found is not None
    assert sorted(one.key for one in found) == [
        ("teacher", f"train-000{n}", 0) for n in (10, 11, 12)
    ]
    assert len(read_results(play.out / "one")) == 20


async def test_a_stage_may_have_its_own_tasks_and_repeats(assembly: Assembly, play: Play) -> None:
    parts = staged(assembly, replace(play, seeds=2))

    found = await parts.results("fit", [TEACHER], split="train:5-6", seeds=1)
    more = await parts.results("more", [TEACHER], split="train:5-6")

    assert found is not None
    assert more is not None
    assert [one.key for one in found] == [("teacher", "train-00005", 0)]
    assert len(more) == 2


async def test_the_cap_is_that_of_all_stages(assembly: Assembly, play: Play) -> None:
    free = staged(assembly, play)
    first = await free.results("one", [TEACHER])
    assert first is not None
    spent_usd = sum(one.total_cost_usd for one in first)

    capped = staged(assembly, replace(play, max_usd=1.01 * spent_usd))
    again = await capped.results("one", [TEACHER])
    stopped = await capped.results("two", [TEACHER])

    assert again == first
    assert (stopped, capped.stopped) == (None, "budget")
    assert len(read_results(play.out / "two")) < 3


async def test_a_stage_may_go_on_within_the_cap(assembly: Assembly, play: Play) -> None:
    first = await staged(assembly, play).results("one", [TEACHER])
    assert first is not None
    spent_usd = sum(one.total_cost_usd for one in first)

    parts = staged(assembly, replace(play, max_usd=2.5 * spent_usd))
    await parts.results("one", [TEACHER])
    other = await parts.results("two", [TEACHER])
    # The copier costs next to nothing, and what its own stage has spent counts once.
    more = await parts.results("two", [COPIER])

    assert other is not None
    assert more is not None
    assert parts.stopped == "finished"


async def test_a_stop_keeps_what_is_finished_and_begins_nothing_new(
    assembly: Assembly, play: Play
) -> None:
    stop = asyncio.Event()

    class Stops(Unwatched):
        def finished(self, result: Any) -> None:
            stop.set()

    parts = staged(assembly, replace(play, jobs=1), stop, Stops())
    stopped = await parts.results("one", [TEACHER])
    after = await parts.results("two", [TEACHER])

    assert (stopped, after, parts.stopped) == (None, None, "interrupted")
    assert len(read_results(play.out / "one")) == 1
    assert read_results(play.out / "two") == []
    resumed = await staged(assembly, play).results("one", [TEACHER])
    assert resumed is not None
    assert len(resumed) == 3


@pytest.mark.parametrize("fit", ["train:11", "train", "train:12-20"])
async def test_tasks_in_common_are_refused(assembly: Assembly, play: Play, fit: str) -> None:
    first = "train-00010" if fit != "train:12-20" else "train-00012"

    with pytest.raises(ConfigError, match=f"--fit {fit} and --on train:10-13 share .*{first}"):
        await staged(assembly, play).check_disjoint(fit)


@pytest.mark.parametrize("fit", ["train:10", "train:13-20", "test"])
async def test_splits_without_a_task_in_common_are_not(
    assembly: Assembly, play: Play, fit: str
) -> None:
    parts = staged(assembly, play)

    await parts.check_disjoint(fit)

    assert not {one.id for one in await parts.tasks(fit)} & {
        one.id for one in await parts.tasks(play.split)
    }
