"""``tutelage calibrate``: the cheapest policy that the evidence certifies."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tutelage.cli.options import ConfigFile, Data, Jobs, Json, MaxSteps, MaxUsd, Setting, Teacher
from tutelage.cli.output import console, print_json
from tutelage.cli.playing import STOPPED, exit_with, play_with
from tutelage.cli.stored import with_assembly
from tutelage.runtime.errors import ConfigError

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.benchmarks.progress import Watcher
    from tutelage.calibrating import Calibration, Goal

NOTHING_CERTIFIED = 5


def calibrate(
    world: Annotated[
        str | None,
        typer.Argument(help="World to play; absent: recorded traces of the tenant."),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Risk that is allowed.")] = 0.05,
    delta: Annotated[
        float, typer.Option(help="Chance that the risk may be higher all the same.")
    ] = 0.05,
    fit: Annotated[
        str | None, typer.Option("--fit", help="Split that the score is fitted on.")
    ] = None,
    on: Annotated[str | None, typer.Option("--on", help="Split that certifies.")] = None,
    score: Annotated[str, typer.Option(help="Score model: logistic or isotonic.")] = "logistic",
    adaptive: Annotated[
        float | None,
        typer.Option(
            "--adaptive",
            help="Draw one sample where it decides otherwise than all of them in at most this "
            "share of steps.",
            show_default=False,
        ),
    ] = None,
    unit: Annotated[str, typer.Option(help="Whose risk, of traces: episode or step.")] = "episode",
    thresholds: Annotated[int, typer.Option(min=1, help="Thresholds in the grid.")] = 10,
    student: Annotated[
        str, typer.Option(help="Who acts: student, or copying for a fast stand-in.")
    ] = "student",
    policy_file: Annotated[Path, typer.Option("--write", help="Where the policy goes.")] = Path(
        "policy.json"
    ),
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the episodes; run again to go on.", show_default="out/calibrate-WORLD"
        ),
    ] = None,
    since_s: Annotated[float, typer.Option(help="Unix time from which traces count.")] = 0.0,
    teacher: Teacher = "oracle",
    jobs: Jobs = 2,
    max_steps: MaxSteps = 30,
    max_usd: MaxUsd = None,
    data: Data = None,
    tenant: Annotated[
        str | None, typer.Option(help="Whose traces.", show_default="as configured")
    ] = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Find the cheapest policy whose risk is certified, and write it to a file.

    Exits with 5 where nothing can be certified yet, and says how many episodes are missing.
    """
    from tutelage.calibrating import Goal, calibrate_by_play, calibrate_from_traces
    from tutelage.rehearsal import Play, teacher_kind

    for name, given in (("--fit", fit), ("--on", on), ("--out", out), ("--max-usd", max_usd)):
        if world is None and given is not None:
            raise ConfigError(f"{name} is for calibrating in a world: name one, or leave it out")
    if score not in ("logistic", "isotonic"):
        raise ConfigError(f"--score {score!r} is unknown: logistic or isotonic")
    if unit not in ("episode", "step"):
        raise ConfigError(f"--unit {unit!r} is unknown: episode or step")
    if world is None and student == "copying":
        raise ConfigError("--student copying is for calibrating in a world: name one")
    if student not in ("student", "copying"):
        raise ConfigError(f"--student {student!r} is unknown: student or copying")
    goal = Goal(alpha, delta, cast(Any, score), thresholds, cast(Any, student), adaptive)
    bounded = cast(Any, unit)
    _check_writable(policy_file)
    # The old policy is what is replaced: it must not stand in the way.
    settings = [*(setting or ()), "cascade.policy=paper", 'cascade.policy_file=""']
    if world is None:
        found = with_assembly(
            config,
            settings,
            tenant,
            lambda assembly, owner: calibrate_from_traces(assembly, owner, goal, bounded, since_s),
        )
    else:
        if fit is None or on is None:
            raise ConfigError(
                "--fit and --on name the splits, without a task in common, for example --fit "
                "train:200-300 --on train:300-500"
            )
        play = Play(
            world=world,
            split=on,
            out=out or Path("out") / f"calibrate-{world}",
            data=data,
            teacher=teacher_kind(teacher),
            seeds=1,
            jobs=jobs,
            max_steps=max_steps,
            max_usd=max_usd,
        )
        fitted = fit

        async def run(assembly: Assembly, watcher: Watcher, stop: asyncio.Event) -> Calibration:
            def say(line: str) -> None:
                typer.echo(line, err=True)

            return await calibrate_by_play(
                assembly, play, fitted, goal, watcher, stop, (lambda line: None) if json else say
            )

        found = play_with(config, settings, run, quiet=json, world=world)
    _tell(found, goal, policy_file, json)


def _tell(found: Calibration, goal: Goal, path: Path, as_json: bool) -> None:
    from tutelage.calibrating import to_json
    from tutelage.cascade.certificate import Certificate
    from tutelage.cascade.watch import alarm_path

    told: dict[str, Any] = {**to_json(found), "policy_file": None, "plot": None}
    if found.file is not None:
        found.file.write(path)
        # The level of an alarm was about the policy that stood here.
        alarm_path(path).unlink(missing_ok=True)
        told["policy_file"] = str(path)
    missing = None
    if found.curve is not None:
        told["plot"], missing = _draw(found, goal, path.with_suffix(".png"))
    if as_json:
        print_json(told)
    else:
        if found.draws:
            console().print(_draws(found))
        if found.curve is not None:
            console().print(_table(found))
        if found.stopped != "finished":
            typer.echo(STOPPED[found.stopped])
        elif isinstance(found.outcome, Certificate):
            typer.echo(found.outcome.statement)
            typer.echo(f'wrote {path}: set cascade.policy = "calibrated" and cascade.policy_file')
        elif found.outcome is not None:
            typer.echo(f"nothing is certified: {found.outcome.reason}")
        if told["plot"]:
            typer.echo(f"wrote {told['plot']}")
        elif missing:
            typer.echo(f"no plot: {missing}", err=True)
    exit_with(found.stopped)
    if found.file is None:
        raise typer.Exit(NOTHING_CERTIFIED)


def _check_writable(path: Path) -> None:
    """Finds out before hours of play whether the policy can be written.

    Raises:
        ConfigError: It cannot.
    """
    folder = next(one for one in path.absolute().parents if one.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"--write {path} cannot be written: name a file in a folder of your own")


def _draw(found: Calibration, goal: Goal, path: Path) -> tuple[str | None, str | None]:
    from tutelage.cascade.risk_plot import draw_curve
    from tutelage.runtime.errors import MissingExtra

    assert found.curve is not None
    chosen = found.file.threshold if found.file is not None else None
    try:
        path.write_bytes(draw_curve(found.curve, goal.alpha, chosen))
    except MissingExtra as error:
        return None, str(error)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from None
    return str(path), None


def _table(found: Calibration) -> Any:
    from rich.table import Table

    assert found.curve is not None
    table = Table(title=f"{found.curve.units} episodes, strict to permissive")
    for name in ("threshold", "risk", "bound", "teacher share", "cost an episode"):
        table.add_column(name, justify="right")
    for point in found.curve.points:
        table.add_row(
            f"{point.threshold:.4f}",
            f"{point.risk:.3f}",
            f"{point.bound:.3f}",
            "" if point.teacher_share is None else f"{point.teacher_share:.2f}",
            "" if point.cost_usd is None else f"${point.cost_usd:.5f}",
        )
    return table


def _draws(found: Calibration) -> Any:
    from rich.table import Table

    table = Table(title=f"samples drawn at {found.draws[0].steps} labelled steps")
    table.add_column("drawn one by one until")
    for name in ("samples a step", "output tokens", "same decisions"):
        table.add_column(name, justify="right")
    for one in found.draws:
        table.add_row(
            one.name, f"{one.samples:.2f}", f"{one.token_share:.1%}", f"{one.same_share:.1%}"
        )
    return table
