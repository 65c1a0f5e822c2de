"""Replays that build on one another, each in a folder of its own, under one spending cap."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.assembly import Assembly
from tutelage.rehearsal import Play, replay, split_tasks
from tutelage.runtime.errors import ConfigError

if TYPE_CHECKING:
    from tutelage.benchmarks.arms import Arm
    from tutelage.benchmarks.environment import Task
    from tutelage.benchmarks.progress import Watcher
    from tutelage.benchmarks.replay import Stopped
    from tutelage.benchmarks.results import EpisodeResult


class StagedPlay:
    """Plays arms stage by stage, and gives back what they did on the tasks that were asked for.

    Args:
        assembly: Student, bank, store.
        play: The world and its limits; each stage is a folder in that of the play, and the
            spending cap is that of all stages. Labels of the teacher are outside of it.
        watcher: Told of finished episodes.
        stop: Once set, nothing new begins.
    """

    def __init__(
        self, assembly: Assembly, play: Play, watcher: Watcher, stop: asyncio.Event
    ) -> None:
        self._assembly = assembly
        self._play = play
        self._watcher = watcher
        self._stop = stop
        self._tasks: dict[str, Sequence[Task]] = {}
        self._spent_usd: dict[Path, float] = {}
        self.stopped: Stopped = "finished"
        """How the latest stage ended."""

    async def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of a split.

        Raises:
            BenchmarkError: There is no such split.
        """
        if split not in self._tasks:
            self._tasks[split] = await split_tasks(replace(self._play, split=split))
        return self._tasks[split]

    async def results(
        self, stage: str, arms: Sequence[Arm], *, split: str | None = None, seeds: int | None = None
    ) -> list[EpisodeResult] | None:
        """Plays what is missing of a stage.

        Args:
            stage: Name of its folder.
            arms: Who plays.
            split: Absent: that of the play.
            seeds: Repeats of every task; absent: those of the play.

        Returns:
            The episodes of these arms, tasks and seeds, whatever else the folder holds; ``None``
            where it was stopped before its end.

        Raises:
            ConfigError: The configuration does not fit an arm.
            BenchmarkError: An episode failed; finished ones are kept.
        """
        from tutelage.benchmarks.results import read_results

        play = replace(
            self._play,
            split=split or self._play.split,
            seeds=seeds or self._play.seeds,
            out=self._play.out / stage,
        )
        if play.max_usd is not None:
            others = sum(usd for folder, usd in self._spent_usd.items() if folder != play.out)
            play = replace(play, max_usd=max(0.0, play.max_usd - others))
        summary = await replay(self._assembly, play, arms, self._watcher, self._stop)
        self._spent_usd[play.out] = summary.spent_usd
        self.stopped = summary.stopped
        if summary.stopped != "finished":
            return None
        wanted = {
            (arm.name, task.id, seed)
            for arm in arms
            for task in await self.tasks(play.split)
            for seed in range(play.seeds)
        }
        return [one for one in read_results(play.out) if one.key in wanted]

    async def check_disjoint(self, fit_split: str) -> None:
        """Refuses to compare or certify on tasks that a score was fitted on.

        Raises:
            ConfigError: A split shares tasks with that of the play.
        """
        split = self._play.split
        seen = {task.id for task in await self.tasks(fit_split)}
        shared = [task.id for task in await self.tasks(split) if task.id in seen]
        if shared:
            name = split.partition(":")[0]
            raise ConfigError(
                f"--fit {fit_split} and --on {split} share {len(shared)} tasks, {shared[0]} for "
                "one: a score must not be judged on what it was fitted on; give parts such as "
                f"{name}:0-200 and {name}:200-500"
            )
