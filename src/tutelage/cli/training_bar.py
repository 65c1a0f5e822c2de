"""What a person sees while a student is trained: stages, a bar with tokens/s, the canary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from tutelage.loop import Listeners
    from tutelage.training.canary import CanaryState
    from tutelage.training.recipes.recipe import TrainingProgress


class TrainingBar:
    """A bar that appears with the first optimizer step.

    Args:
        progress: Draws it.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def __call__(self, now: TrainingProgress) -> None:
        """Takes note of an optimizer step."""
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task("train", total=now.steps)
        told = f"loss {now.loss:.3f}, {now.tokens_per_s:.0f} tokens/s, {now.remaining_s:.0f} s left"
        self._progress.update(
            self._task, total=now.steps, completed=now.step, description=f"train, {told}"
        )


@contextmanager
def listeners(*, quiet: bool) -> Iterator[Listeners]:
    """Who hears of a run: lines and a bar on stderr, or nobody."""
    from tutelage.loop import Listeners

    if quiet:
        yield Listeners()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    progress = Progress(*columns, console=Console(stderr=True))
    last: list[str] = []

    def stage(name: str, text: str) -> None:
        progress.console.print(f"{name}: {text}", highlight=False)

    def canary(state: CanaryState) -> None:
        if last != [str(state)]:
            last[:] = [str(state)]
            progress.console.print(f"canary: {state}", highlight=False)

    try:
        yield Listeners(stage=stage, training=TrainingBar(progress), canary=canary)
    finally:
        # Ending what was never begun would print an empty line.
        if progress.live.is_started:
            progress.stop()


def say(line: str) -> None:
    """A line on stderr."""
    typer.echo(line, err=True)
