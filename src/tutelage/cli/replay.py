"""``tutelage replay``: arms x tasks x seeds on a benchmark world, or recorded traffic again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
    settings,
)
from tutelage.cli.output import print_json
from tutelage.cli.playing import exit_with, names, play_with

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.benchmarks.progress import Watcher
    from tutelage.benchmarks.recorded_replay import RecordedReplay
    from tutelage.benchmarks.replay import ReplaySummary

Rerun = Literal["policy", "prices", "both"]
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
    recorded: Annotated[
        bool,
        typer.Option("--recorded", help="Decide or price the traffic in the store again."),
    ] = False,
    rerun: Annotated[
        Rerun, typer.Option("--rerun", help="With --recorded: what is as configured now.")
    ] = "policy",
    p_teacher: Annotated[
        float | None,
        typer.Option(
            "--p-teacher",
            help="With --recorded: chance of the teacher in recorded random steps.",
            show_default=False,
        ),
    ] = None,
    since_s: Annotated[float, typer.Option(help="With --recorded: Unix time from which on.")] = 0.0,
    tenant: Tenant = None,
) -> None:
    """Play benchmark episodes with several arms, side by side and resumable.

    With --recorded: tell what recorded traffic would have cost and won with the configured policy
    or prices; exactly where the record determines it, else as an estimate with its interval.
    """
    if recorded:
        if world is not None:
            raise typer.BadParameter(f"--recorded replays the store: leave out {world!r}")
        _again(tenant, since_s, rerun, p_teacher, config, setting, json)
        return
    if world is None:
        raise typer.BadParameter("name a world, for example household, or give --recorded")
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


def _again(
    tenant: str | None,
    since_s: float,
    rerun: Rerun,
    p_teacher: float | None,
    config: Path | None,
    setting: list[str] | None,
    as_json: bool,
) -> None:
    from tutelage.assembly import open_assembly
    from tutelage.benchmarks.recorded_replay import lines, to_json
    from tutelage.cli.stored import without_policy_file
    from tutelage.recorded import replay_recorded
    from tutelage.runtime.config import load_config

    given = settings(setting)
    if rerun == "policy":
        # Costs are those of the record, so that prices may be unknown.
        free = {"input": 0.0, "output": 0.0}
        chosen = load_config(
            config, overrides={**given, "teacher.price": free, "student.price": free}
        )
    else:
        chosen = load_config(config, overrides=given)
    if rerun == "prices":
        chosen = without_policy_file(chosen)

    async def run() -> RecordedReplay:
        async with open_assembly(chosen, open_bank=False) as assembly:
            return await replay_recorded(
                assembly,
                tenant or chosen.tenant,
                since_s=since_s,
                rerun=rerun,
                p_teacher=p_teacher,
            )

    found = asyncio.run(run())
    if as_json:
        print_json(to_json(found))
        return
    for line in lines(found):
        typer.echo(line)
