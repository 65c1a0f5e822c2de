"""``tutelage replay``: arms x tasks x seeds on a benchmark world, or recorded traffic again."""

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
    Tenant,
)
from tutelage.cli.output import print_json
from tutelage.cli.playing import exit_with, names, play_with
from tutelage.cli.recorded import Recorded, Rerun, run_recorded

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.benchmarks.progress import Watcher
    from tutelage.benchmarks.replay import ReplaySummary

SAMPLES_FILE = "samples.sqlite"
DEFAULT_ARMS = "teacher,student,demos,cascade,demos-cascade,random-mix"


def replay(
    world: Annotated[
        str | None,
        typer.Argument(
            help="household, alfworld, office, office-tools, or module:attribute; "
            "none with --recorded.",
            show_default=False,
        ),
    ] = None,
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
    share_samples: Annotated[
        bool,
        typer.Option(
            "--share-samples",
            help="Draw a sample that several arms ask for once, and bill it to each.",
        ),
    ] = False,
    keep_teacher: Annotated[
        bool,
        typer.Option(
            "--keep-teacher",
            help="With --share-samples and --teacher model: its greedy answers, too.",
        ),
    ] = False,
    recorded: Annotated[
        bool,
        typer.Option("--recorded", help="Decide or price the traffic in the store again."),
    ] = False,
    rerun: Annotated[
        Rerun, typer.Option("--rerun", help="With --recorded: what is as configured now.")
    ] = "policy",
    bank: Annotated[
        str | None,
        typer.Option(
            "--bank",
            help="With --rerun bank: database of the other bank.",
            show_default="store.url",
        ),
    ] = None,
    p_teacher: Annotated[
        float | None,
        typer.Option(
            "--p-teacher",
            help="With --recorded: chance of the teacher in older random steps, which lack it.",
            show_default=False,
        ),
    ] = None,
    since_s: Annotated[float, typer.Option(help="With --recorded: Unix time from which on.")] = 0.0,
    tenant: Tenant = None,
) -> None:
    """Play benchmark episodes with several arms, side by side and resumable.

    With --recorded: tell what recorded traffic would have cost and won with the configured policy,
    prices, bank or student; exactly where the record determines it, else as an estimate with its
    interval, or not at all. --rerun student asks the configured student at the recorded prompts.
    """
    if recorded:
        if world is not None:
            raise typer.BadParameter(f"--recorded replays the store: leave out {world!r}")
        asked = Recorded(tenant, since_s, rerun, p_teacher, bank, jobs)
        run_recorded(asked, config, setting, json)
        return
    if world is None:
        raise typer.BadParameter("name a world, for example household, or give --recorded")
    from tutelage.benchmarks.arms import find_arms
    from tutelage.rehearsal import Play, teacher_kind
    from tutelage.rehearsal import replay as replay_arms

    if keep_teacher and not share_samples:
        raise typer.BadParameter("--keep-teacher is for use with --share-samples: add it")
    chosen = find_arms(names(arms))
    folder = out or Path("out") / world
    play = Play(
        world=world,
        split=split,
        out=folder,
        data=data,
        teacher=teacher_kind(teacher),
        seeds=seeds,
        jobs=jobs,
        max_steps=max_steps,
        max_usd=max_usd,
        samples=folder / SAMPLES_FILE if share_samples else None,
        keep_teacher=keep_teacher,
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
