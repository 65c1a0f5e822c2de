from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.scripted_endpoint import ScriptedEndpoint
from tests.small_household import a_play, household

from tutelage.benchmarks.environment import Task
from tutelage.benchmarks.household.world import HouseholdWorld
from tutelage.benchmarks.progress import Unwatched
from tutelage.benchmarks.results import read_results
from tutelage.generations import Plan, Row, Serve, arms_of, rows, run_generations
from tutelage.loop import Listeners
from tutelage.runtime.config import Config
from tutelage.runtime.errors import ConfigError
from tutelage.training.data.example import TrainingExample
from tutelage.training.recipes.recipe import TrainedStudent, Watch


@dataclass(frozen=True)
class Noting:
    """A recipe that only notes what it was given."""

    name: str = "noted"

    def train(
        self,
        examples: Sequence[TrainingExample],
        checkpoint: Path,
        out: Path,
        watch: Watch | None = None,
    ) -> TrainedStudent:
        made = out / "student"
        made.mkdir(parents=True, exist_ok=True)
        (made / "model.safetensors").write_bytes(checkpoint.name.encode())
        told = "".join(f"{one.task_id}\n" for one in examples)
        (out / "tasks.txt").write_text(told, encoding="utf-8")
        (out / "start.txt").write_text(str(checkpoint), encoding="utf-8")
        return TrainedStudent(made, None, (1.0,), len(examples), len(examples), 1.0, 0)


class Small(HouseholdWorld):
    """A household with few tasks."""

    def __init__(self, data: Path | None) -> None:
        super().__init__()

    def tasks(self, split: str) -> Sequence[Task]:
        return super().tasks(f"{split.partition(':')[0]}:5")


def _plan(folder: Path, **changes: Any) -> Plan:
    play = a_play(folder / "out", "test:3", max_steps=8)
    return Plan(play, **{"tasks": 4, "generations": 2, "demonstrations": False, **changes})


def _config(folder: Path) -> Config:
    start = folder / "base"
    start.mkdir(exist_ok=True)
    (start / "model.safetensors").write_bytes(b"base")
    return household(training__recipe=f"{__name__}:Noting", training__checkpoint=str(start))


def _at(endpoint: ScriptedEndpoint, asked: list[Path]) -> Serve:
    @asynccontextmanager
    async def serve(config: Config, checkpoint: Path) -> AsyncIterator[Config]:
        asked.append(checkpoint)
        changes = {"base_url": endpoint.base_url, "model": endpoint.model}
        yield config.model_copy(update={"student": config.student.model_copy(update=changes)})

    return serve


async def _run(
    plan: Plan, folder: Path, served: list[Path], stop: asyncio.Event | None = None
) -> list[Row] | None:
    with ScriptedEndpoint("look") as endpoint:
        return await run_generations(
            _config(folder),
            plan,
            Unwatched(),
            Listeners(),
            stop or asyncio.Event(),
            serve=_at(endpoint, served),
        )


async def test_each_generation_starts_from_the_one_before_and_learns_from_all_traffic(
    tmp_path: Path,
) -> None:
    plan, served = _plan(tmp_path), list[Path]()
    found = await _run(plan, tmp_path, served)
    first, second = (tmp_path / "out" / f"generation-{n}" / "training" for n in (1, 2))
    learnt = [set((one / "training/tasks.txt").read_text().split()) for one in (first, second)]
    assert learnt[0] < learnt[1]
    starts = [Path((one / "training/start.txt").read_text()) for one in (first, second)]
    assert starts == [tmp_path / "base", first / "training/student"]
    assert served == [tmp_path / "base", first / "training/student", second / "training/student"]
    assert found is not None
    assert [(row.generation, row.arm) for row in found if row.arm == "student"] == [
        (1, "student"),
        (2, "student"),
    ]


async def test_held_out_tasks_are_played_and_never_learnt(tmp_path: Path) -> None:
    plan = _plan(tmp_path, generations=1)
    found = await _run(plan, tmp_path, [])
    folder = tmp_path / "out" / "generation-1"
    played = {one.task_id for one in read_results(folder / "held-out")}
    learnt = set((folder / "training/training/tasks.txt").read_text().split())
    assert len(played) == 3
    assert learnt
    assert not played & learnt
    assert found is not None
    assert {row.episodes for row in found} == {3}


async def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    plan = _plan(tmp_path, generations=1)
    once = await _run(plan, tmp_path, [])
    results = tmp_path / "out/generation-1/held-out/results.jsonl"
    before = results.read_bytes()
    assert await _run(plan, tmp_path, []) == once
    assert results.read_bytes() == before


async def test_a_stopped_run_has_no_rows_yet_and_goes_on_later(tmp_path: Path) -> None:
    plan, stop = _plan(tmp_path, generations=1), asyncio.Event()
    stop.set()
    assert await _run(plan, tmp_path, [], stop) is None
    assert await _run(plan, tmp_path, []) == rows(plan)


async def test_traffic_that_is_too_little_is_refused_before_anything_is_played(
    tmp_path: Path,
) -> None:
    plan = _plan(tmp_path)
    plan = replace(plan, play=replace(plan.play, world=f"{__name__}:Small"))
    with pytest.raises(ConfigError, match=r"train has 5 tasks.*need 8: lower --tasks"):
        await _run(plan, tmp_path, [])
    assert not (tmp_path / "out").exists()


async def test_traffic_that_holds_held_out_tasks_is_refused(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    plan = replace(plan, play=replace(plan.play, split="train:3"))
    with pytest.raises(ConfigError, match="3 tasks are both in train and in train:3"):
        await _run(plan, tmp_path, [])


@pytest.mark.parametrize("name", ["tasks", "generations"])
def test_a_plan_of_nothing_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is 0"):
        _plan(tmp_path, **{name: 0})


async def test_demonstrations_are_shown_to_the_last_student_and_to_the_first(
    tmp_path: Path,
) -> None:
    plan, served = _plan(tmp_path, generations=1, demonstrations=True), list[Path]()
    found = await _run(plan, tmp_path, served)
    assert found is not None
    shown = [row.generation for row in found if row.arm == "demos-cascade"]
    assert shown == [0, 1]
    assert served[-1] == served[0] == tmp_path / "base"
    played = read_results(tmp_path / "out/generation-0/demonstrated")
    assert sum(one.demonstrations for one in played) > 0


def test_chance_hands_over_as_much_as_the_cascade_did(tmp_path: Path) -> None:
    mixed = arms_of(1, _plan(tmp_path))[-1]
    assert (mixed.policy, mixed.mix_of, mixed.demonstrations) == ("random", "cascade", False)
