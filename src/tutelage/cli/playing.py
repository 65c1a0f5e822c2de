"""What the verbs that play games share: opening the parts, progress, Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from tutelage.cli.options import settings
from tutelage.cli.stored import without_policy_file

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.benchmarks.progress import Watcher

Result = TypeVar("Result")

# An oracle or a local student has no price of its own.
ORACLE_PRICED_AS = "claude-sonnet-4-5"
STUDENT_PRICED_AS = "gpt-4.1-mini"

STOPPED = {
    "interrupted": "interrupted: run the same command to go on",
    "budget": "the spending cap is reached: raise it to go on with the same command",
}
"""What a person is told who has to run a command again."""


def play_with(
    config_file: Path | None,
    values: list[str] | None,
    play: Callable[[Assembly, Watcher, asyncio.Event], Awaitable[Result]],
    *,
    quiet: bool,
    world: str = "household",
) -> Result:
    """Opens the configured parts, shows progress on stderr, and stops cleanly at Ctrl-C.

    Raises:
        TutelageError: A part cannot be made, or the play failed.
    """
    from rich.console import Console

    from tutelage.assembly import open_assembly
    from tutelage.benchmarks.progress import Unwatched, progress_bars
    from tutelage.benchmarks.replay import stop_on_interrupt
    from tutelage.cascade.deferral import CALIBRATED
    from tutelage.runtime.config import load_config

    config = load_config(config_file, overrides=settings(values))
    config = load_config(config_file, overrides={**defaults(config, world), **settings(values)})
    if config.cascade.policy not in CALIBRATED:
        # A stale policy that nobody plays by must not stand in the way of a new calibration.
        config = without_policy_file(config)

    async def run() -> Result:
        async with open_assembly(config) as assembly:
            with stop_on_interrupt() as stop:
                console = Console(stderr=True)
                if quiet or not console.is_terminal:
                    return await play(assembly, Unwatched(), stop)
                with progress_bars(console) as bars:
                    return await play(assembly, bars, stop)

    with _failures_said_once():
        return asyncio.run(run())


@contextmanager
def _failures_said_once() -> Iterator[None]:
    """A part that fails ends a play with an error; the pipeline's warning would say it twice."""
    logger = logging.getLogger("tutelage.runtime.deliberation")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def defaults(config: Any, world: str) -> dict[str, Any]:
    """Settings that a benchmark needs and a configuration may leave open.

    Raises:
        BenchmarkError: No world has this name.
    """
    from tutelage.benchmarks.worlds import manner_of

    manner = manner_of(world)
    chosen: dict[str, Any] = {"cascade.grammar": "household"}
    if manner.canonical is not None:
        chosen = {"cascade.canonical": config.cascade.canonical or manner.canonical}
        chosen["cascade.effects"] = {**manner.effects, **config.cascade.effects}
    for role, priced_as in (("teacher", ORACLE_PRICED_AS), ("student", STUDENT_PRICED_AS)):
        model = getattr(config, role)
        if model.price is None and model.priced_as is None and model.model is None:
            chosen[f"{role}.priced_as"] = priced_as
    if config.student.base_url is not None and config.student.priced_as is None:
        chosen.setdefault("student.priced_as", STUDENT_PRICED_AS)
    return chosen


def names(text: str) -> list[str]:
    """``"a, b"`` as ``["a", "b"]``."""
    return [name.strip() for name in text.split(",") if name.strip()]


def exit_with(stopped: str) -> None:
    """Ends with the exit code of how a play stopped."""
    code = {"interrupted": 130, "budget": 4}.get(stopped, 0)
    if code:
        raise typer.Exit(code)
