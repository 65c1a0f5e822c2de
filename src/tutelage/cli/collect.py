"""``tutelage collect``: the teacher plays, its successful episodes become demonstrations."""

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
from tutelage.cli.playing import exit_with, play_with

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.benchmarks.progress import Watcher
    from tutelage.rehearsal import Collected


def collect(
    world: World,
    split: Annotated[str, typer.Option(help="Split, with a size if wanted: train:60.")] = "train",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the results; run again to go on.", show_default="out/WORLD-bank"
        ),
    ] = None,
    teacher: Teacher = "oracle",
    detours: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.9,
            help="Share of steps that the unaided student takes, so that"
            " the bank shows how to recover.",
        ),
    ] = 0.0,
    jobs: Jobs = 2,
    max_steps: MaxSteps = 50,
    max_usd: MaxUsd = None,
    data: Data = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Let the teacher play, and keep its successful episodes as demonstrations."""
    from tutelage.rehearsal import Play, teacher_kind
    from tutelage.rehearsal import collect as collect_episodes

    play = Play(
        world=world,
        split=split,
        out=out or Path("out") / f"{world}-bank",
        data=data,
        teacher=teacher_kind(teacher),
        jobs=jobs,
        max_steps=max_steps,
        max_usd=max_usd,
    )

    async def run(assembly: Assembly, watcher: Watcher, stop: asyncio.Event) -> Collected:
        return await collect_episodes(assembly, play, watcher, stop, detours=detours)

    collected = play_with(config, setting, run, quiet=json, world=world)
    if json:
        print_json(
            {
                "stopped": collected.summary.stopped,
                "episodes": collected.summary.done,
                "added": collected.added,
                "duplicates": collected.duplicates,
                "rejected": collected.rejected,
                "demonstrations": collected.demonstrations,
                "spent_usd": collected.summary.spent_usd,
            }
        )
    else:
        typer.echo(collected.summary.line("the same command"))
        typer.echo(
            f"bank: {collected.added} trajectories added, {collected.duplicates} already there; "
            f"{collected.demonstrations} demonstrations in all"
        )
    exit_with(collected.summary.stopped)
