"""``tutelage replay``: arms x tasks x seeds on a benchmark world."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.options import (
    ConfigFile,
    Data,
    Jobs,
    Json,
    MaxSteps,
    MaxUsd,
    Setting,
    Teacher,
    World,
)
from tutelage.cli.output import print_json
from tutelage.cli.playing import exit_with, names, play_with

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.benchmarks.progress import Watcher
    from tutelage.benchmarks.replay import ReplaySummary

DEFAULT_ARMS = "teacher,student,demos,cascade,demos-cascade,random-mix"


def replay(
    world: World,
    split: Annotated[str, typer.Option(help="Split, with a size if wanted: test:20.")] = "test",
    arms: Annotated[str, typer.Option(help="Who plays, separated by commas.")] = DEFAULT_ARMS,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the results; run again to go on.", show_default="out/WORLD"),
    ] = None,
    teacher: Teacher = "oracle",
    seeds: Annotated[int, typer.Option(min=1, help="Repeats of every task.")] = 1,
    jobs: Jobs = 2,
    max_steps: MaxSteps = 30,
    max_usd: MaxUsd = None,
    data: Data = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Play benchmark episodes with several arms, side by side and resumable."""
    from tutelage.benchmarks.arms import find_arms
    from tutelage.rehearsal import Play, teacher_kind
    from tutelage.rehearsal import replay as replay_arms

    chosen = find_arms(names(arms))
    play = Play(
        world=world,
        split=split,
        out=out or Path("out") / world,
        data=data,
        teacher=teacher_kind(teacher),
        seeds=seeds,
        jobs=jobs,
        max_steps=max_steps,
        max_usd=max_usd,
    )

    async def run(assembly: Assembly, watcher: Watcher, stop: asyncio.Event) -> ReplaySummary:
        return await replay_arms(assembly, play, chosen, watcher, stop)

    summary = play_with(config, setting, run, quiet=json, world=world)
    if json:
        print_json(
            {
                "stopped": summary.stopped,
                "done": summary.done,
                "planned": summary.planned,
                "spent_usd": summary.spent_usd,
                "out": str(play.out),
            }
        )
    else:
        typer.echo(summary.line("the same command"))
        typer.echo(f"next: tutelage report {play.out}")
    exit_with(summary.stopped)
