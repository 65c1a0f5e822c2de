"""``tutelage bench policies``: every policy and baseline on the same tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tutelage.cli.options import ConfigFile, Data, Jobs, Json, MaxSteps, MaxUsd, Setting, World
from tutelage.cli.output import print_json, print_table
from tutelage.cli.playing import STOPPED, exit_with, names, play_with
from tutelage.runtime.errors import ConfigError

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.benchmarks.progress import Watcher
    from tutelage.benchmarks.replay import Stopped
    from tutelage.policy_study import Study


def policies(
    world: World,
    fit: Annotated[str, typer.Option(help="Split that scores are fitted on.")] = "train:200-320",
    on: Annotated[str, typer.Option("--on", help="Split that is compared on.")] = "test:200",
    student: Annotated[
        str, typer.Option(help="Who acts: copying, a fast stand-in, or student.")
    ] = "copying",
    arms: Annotated[
        str | None,
        typer.Option(
            help="Families or arms to compare, separated by commas, for example "
            "paper,calibrated,random-0.4; the teacher is always one.",
            show_default="all",
        ),
    ] = None,
    points: Annotated[int, typer.Option(min=1, help="Thresholds of a family.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="Repeats of every task.")] = 5,
    out: Annotated[Path, typer.Option(help="Folder of the episodes; run again to go on.")] = Path(
        "out/policies"
    ),
    jobs: Jobs = 2,
    max_steps: MaxSteps = 30,
    max_usd: MaxUsd = None,
    data: Data = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Compare policies and baselines: cost of an episode against success, oracle teacher.

    The bank of the configured store is used: fill it first with `tutelage collect`.
    """
    from tutelage.policy_study import Study, compare, play_study
    from tutelage.rehearsal import Play

    if student not in ("copying", "student"):
        raise ConfigError(f"--student {student!r} is unknown: copying or student")
    play = Play(
        world=world,
        split=on,
        out=out,
        data=data,
        teacher="oracle",
        seeds=seeds,
        jobs=jobs,
        max_steps=max_steps,
        max_usd=max_usd,
        samples=out / "samples.sqlite" if student == "student" else None,
    )

    def say(line: str) -> None:
        if not json:
            typer.echo(line, err=True)

    async def run(assembly: Assembly, watcher: Watcher, stop: asyncio.Event) -> Study | Stopped:
        return await play_study(
            assembly, play, fit, cast(Any, student), points, watcher, stop, say, names(arms or "")
        )

    study = play_with(config, setting, run, quiet=json, world=world)
    if not isinstance(study, Study):
        typer.echo(STOPPED[study], err=True)
        exit_with(study)
        return
    found = compare(study)
    _keep(found, out)
    if json:
        print_json(found)
        return
    _print(found)
    typer.echo(f"wrote {out / 'policies.json'}")


def _keep(found: dict[str, Any], out: Path) -> None:
    import orjson

    from tutelage.benchmarks.frontier_plot import draw_frontier
    from tutelage.runtime.errors import MissingExtra

    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    try:
        (out / "policies.json").write_bytes(orjson.dumps(found, option=options))
        (out / "policies.png").write_bytes(draw_frontier(found["arms"]))
    except MissingExtra as error:
        typer.echo(f"no plot: {error}", err=True)
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be written: {error.strerror}") from None


def _print(found: dict[str, Any]) -> None:
    print_table(
        "Cost of an episode against success; oracle teacher",
        [
            "arm",
            "episodes",
            "success",
            "teacher share",
            "cost cached",
            "uncached",
            "student tokens",
        ],
        [
            [
                row["arm"],
                str(row["episodes"]),
                f"{row['success']:.3f}",
                f"{row['teacher_share']:.2f}",
                f"${row['cost_usd']:.5f}",
                f"${row['uncached_cost_usd']:.5f}",
                f"{row['student_output_tokens']:.0f}",
            ]
            for row in found["arms"]
        ],
    )
    for pricing, gaps in found["gaps"].items():
        print_table(
            f"Success of calibrated and benefit minus the arm's, at its cost ({pricing})",
            ["arm", "gap", "95 % interval"],
            [
                [one["arm"], f"{one['gap']:+.3f}", f"{one['low']:+.3f} to {one['high']:+.3f}"]
                for one in gaps
            ],
        )
