"""``tutelage bench generations``: a student that learns from its traffic, again and again."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.options import ConfigFile, Data, Jobs, Json, MaxSteps, Setting, World
from tutelage.cli.output import print_json, print_table
from tutelage.cli.playing import STOPPED, exit_with, play_with
from tutelage.cli.training_bar import listeners

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.benchmarks.progress import Watcher
    from tutelage.generations import Row


def generations(
    world: World,
    on: Annotated[str, typer.Option("--on", help="Held-out split, with a size.")] = "test:30",
    traffic: Annotated[str, typer.Option(help="Split that traffic comes from.")] = "train",
    tasks: Annotated[int, typer.Option(min=1, help="Tasks of traffic a generation.")] = 150,
    count: Annotated[int, typer.Option("--generations", min=1, help="How many.")] = 3,
    demonstrations: Annotated[
        bool, typer.Option(help="Whether first and last student also play with demonstrations.")
    ] = True,
    out: Annotated[Path, typer.Option(help="Folder of everything; run again to go on.")] = Path(
        "out/generations"
    ),
    jobs: Jobs = 2,
    max_steps: MaxSteps = 30,
    data: Data = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Train the student on traffic, let it serve new traffic, train again; oracle teacher.

    All generations play the same held-out tasks. `training.*` says how long each is trained.
    """
    from tutelage.generations import Plan, run_generations
    from tutelage.rehearsal import Play

    play = Play(world=world, split=on, out=out, data=data, jobs=jobs, max_steps=max_steps)
    plan = Plan(play, traffic, tasks, count, demonstrations)

    def say(line: str) -> None:
        if not json:
            typer.echo(line, err=True)

    with listeners(quiet=json) as heard:

        async def run(
            assembly: Assembly, watcher: Watcher, stop: asyncio.Event
        ) -> list[Row] | None:
            return await run_generations(assembly.config, plan, watcher, heard, stop, say)

        found = play_with(config, setting, run, quiet=json, world=world)
    if found is None:
        typer.echo(STOPPED["interrupted"], err=True)
        exit_with("interrupted")
        return
    _keep(found, out)
    if json:
        print_json([dataclasses.asdict(row) for row in found])
        return
    _print(found)
    typer.echo(f"wrote {out / 'generations.json'}")


def _keep(found: Sequence[Row], out: Path) -> None:
    import orjson

    from tutelage.benchmarks.generations_plot import draw_generations
    from tutelage.runtime.errors import ConfigError, MissingExtra

    told = [dataclasses.asdict(row) for row in found]
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    try:
        (out / "generations.json").write_bytes(orjson.dumps(told, option=options))
        (out / "generations.png").write_bytes(draw_generations(told))
    except MissingExtra as error:
        typer.echo(f"no plot: {error}", err=True)
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be written: {error.strerror}") from None


def _print(found: Sequence[Row]) -> None:
    print_table(
        "Held-out tasks after each generation; oracle teacher",
        [
            "generation",
            "arm",
            "solved",
            "95 %",
            "teacher share",
            "steps",
            "a solved task, cached",
            "uncached",
        ],
        [
            [
                str(row.generation),
                row.arm,
                f"{row.solved}/{row.episodes}",
                f"{row.low:.2f} to {row.high:.2f}",
                f"{row.teacher_share:.2f}",
                f"{row.steps:.1f}",
                _dollars(row.solved_usd),
                _dollars(row.uncached_solved_usd),
            ]
            for row in found
        ],
    )


def _dollars(amount: float | None) -> str:
    return "-" if amount is None else f"${amount:.5f}"
