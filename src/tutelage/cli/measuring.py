"""What a person sees while servers are measured: a bar, or a line a stage without a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer


@contextmanager
def measuring(calls: int, *, quiet: bool) -> Iterator[Callable[[str, int], None]]:
    """Told the stage and how many of the calls are done, it shows them on stderr.

    Args:
        calls: All of them.
        quiet: Whether nothing is shown.
    """
    if quiet:
        yield lambda *_: None
        return
    if not sys.stderr.isatty():
        yield _Lines(calls)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=calls)
        yield lambda stage, done: progress.update(task, description=stage, completed=done)


class _Lines:
    def __init__(self, calls: int) -> None:
        self._calls = calls
        self._stage = ""

    def __call__(self, stage: str, done: int) -> None:
        if stage != self._stage:
            self._stage = stage
            typer.echo(f"{stage} ({done} of {self._calls} calls) …", err=True)
