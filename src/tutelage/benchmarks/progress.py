"""What a person sees while a replay runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tutelage.benchmarks.arms import Arm
from tutelage.benchmarks.results import EpisodeResult


class Watcher(Protocol):
    """Told what a replay does."""

    def planned(self, arm: Arm, episodes: int, done: Iterable[EpisodeResult]) -> None:
        """An arm is about to be played; ``done`` holds its episodes that are finished already."""
        ...

    def finished(self, result: EpisodeResult) -> None:
        """An episode ended and is on disk."""
        ...


class Unwatched:
    """Shows nothing."""

    def planned(self, arm: Arm, episodes: int, done: Iterable[EpisodeResult]) -> None:
        """Does nothing."""

    def finished(self, result: EpisodeResult) -> None:
        """Does nothing."""


class ProgressBars:
    """One bar an arm: episodes, success so far, cost so far, time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}
        self._won: dict[str, int] = {}
        self._cost_usd: dict[str, float] = {}

    def planned(self, arm: Arm, episodes: int, done: Iterable[EpisodeResult]) -> None:
        """Adds the bar of an arm."""
        listed = list(done)
        self._won[arm.name] = sum(result.success for result in listed)
        self._cost_usd[arm.name] = sum(result.total_cost_usd for result in listed)
        self._bars[arm.name] = self._progress.add_task(
            arm.name,
            total=episodes,
            completed=len(listed),
            won=self._share_won(arm.name, len(listed)),
            cost=self._cost(arm.name),
        )

    def finished(self, result: EpisodeResult) -> None:
        """Moves the bar of the result's arm."""
        bar = self._bars[result.arm]
        self._won[result.arm] += result.success
        self._cost_usd[result.arm] += result.total_cost_usd
        self._progress.advance(bar)
        completed = next(task.completed for task in self._progress.tasks if task.id == bar)
        won = self._share_won(result.arm, int(completed))
        self._progress.update(bar, won=won, cost=self._cost(result.arm))

    def _share_won(self, arm: str, completed: int) -> str:
        return f"{self._won[arm] / completed:.0%} won" if completed else "- won"

    def _cost(self, arm: str) -> str:
        return f"${self._cost_usd[arm]:.4f}"


@contextmanager
def progress_bars(console: Console) -> Iterator[ProgressBars]:
    """Progress bars that are live on a terminal and printed once at the end elsewhere."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[won]}"),
        TextColumn("{task.fields[cost]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield ProgressBars(progress)
