"""``tutelage bench``: what our own code costs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.options import Json
from tutelage.cli.output import print_json, print_table

if TYPE_CHECKING:
    from tutelage.overhead.figure import Figure

SKIPPED = "skipped: no --student-url; `tutelage student start` prints one"


def bench(
    student_url: Annotated[
        str | None,
        typer.Option(
            help="An idle vLLM, for prefix-cache hits and our share of a step.", show_default=False
        ),
    ] = None,
    student_model: Annotated[
        str | None,
        typer.Option(help="Its name there (default: the first it lists).", show_default=False),
    ] = None,
    demonstrations: Annotated[int, typer.Option(min=1, help="Size of the bank.")] = 10_000,
    steps: Annotated[int, typer.Option(min=2, help="Steps timed.")] = 300,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of embedding.")] = 10,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes sent for the layouts.")] = 6,
    out: Annotated[
        Path, typer.Option(help="Folder for overhead.json, and overhead.md for a log.")
    ] = Path("out/bench"),
    json: Json = False,
) -> None:
    """Measure step overhead, embedding and prompt layouts, side by side in one run."""
    import shlex
    import sys

    import orjson

    from tutelage.overhead.report import BenchReport, Machine, share_of_step

    # Before the work, which is a load itself.
    machine = Machine.here()
    model = student_model
    if student_url is not None and model is None:
        from tutelage.overhead.layouts import served_model

        model = served_model(student_url)
    measured = asyncio.run(
        _measure(student_url, model or "", demonstrations, steps, rounds, episodes)
    )
    command = shlex.join(["tutelage", *sys.argv[1:]])
    report = BenchReport(command, machine, (share_of_step(measured), *measured))
    out.mkdir(parents=True, exist_ok=True)
    (out / "overhead.json").write_bytes(
        orjson.dumps(report.document(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )
    (out / "overhead.md").write_text(report.markdown(), encoding="utf-8")
    if json:
        print_json(report.document())
        return
    print_table(
        f"What our own code costs (one machine, load {machine.load:.1f}; ratios carry over)",
        ["part", "measure", "value", "note"],
        [[figure.part, figure.name, figure.text, figure.note] for figure in report.figures],
    )
    typer.echo(f"{out / 'overhead.json'}\n{out / 'overhead.md'}")


async def _measure(
    student_url: str | None,
    student_model: str,
    demonstrations: int,
    steps: int,
    rounds: int,
    episodes: int,
) -> list[Figure]:
    from tempfile import TemporaryDirectory

    from tutelage.overhead.embedding import measure_embedding
    from tutelage.overhead.figure import Figure
    from tutelage.overhead.layouts import measure_layouts
    from tutelage.overhead.setting import open_setting
    from tutelage.overhead.steps import measure_steps

    with TemporaryDirectory() as folder:
        typer.echo(f"bank of {demonstrations:,} demonstrations …", err=True)
        async with open_setting(Path(folder), demonstrations=demonstrations) as setting:
            typer.echo(f"{steps} steps …", err=True)
            figures = await measure_steps(setting, steps=steps)
            typer.echo("embedding …", err=True)
            figures += await measure_embedding(rounds)
            if student_url is None:
                return [*figures, Figure("layout", "hit rate", None, "", SKIPPED)]
            typer.echo("layouts …", err=True)
            figures += await measure_layouts(setting, student_url, student_model, episodes=episodes)
    return figures
