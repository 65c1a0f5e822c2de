"""``tutelage bench``: what our own code costs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.bench_bank import bank
from tutelage.cli.bench_drafting import drafting
from tutelage.cli.bench_generations import generations
from tutelage.cli.bench_layouts import layouts
from tutelage.cli.bench_parallel_agent import parallel_agent
from tutelage.cli.bench_policies import policies
from tutelage.cli.options import Json
from tutelage.cli.output import print_json, print_table

if TYPE_CHECKING:
    from tutelage.overhead.figure import Figure
    from tutelage.overhead.gateway.run import Measured, Plan

SKIPPED = "skipped: no --student-url; `tutelage student start` prints one"


app = typer.Typer(help="Measure what our own code costs, side by side in one run.")
app.command("policies")(policies)
app.command("bank")(bank)
app.command("layouts")(layouts)
app.command("drafting")(drafting)
app.command("parallel-agent")(parallel_agent)
app.command("generations")(generations)


@app.callback(invoke_without_command=True)
def bench(
    invoked: typer.Context,
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
    if invoked.invoked_subcommand is not None:
        return
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


@app.command("gateway")
def gateway(
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="pass-through, cascade or soak; repeatable (default: all).", show_default=False
        ),
    ] = None,
    contender: Annotated[
        list[str] | None,
        typer.Option(
            help="direct, reference, tutelage, 'tutelage, tracing off', litellm or portkey; "
            "repeatable (default: all).",
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of windows.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.05, help="Length of a window.")] = 2.0,
    connections: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Clients at once; repeatable (default: 1, 16, 64).", show_default=False
        ),
    ] = None,
    demonstrations: Annotated[
        int, typer.Option(min=1, help="Size of the bank in cascade mode.")
    ] = 100_000,
    steps: Annotated[int, typer.Option(min=1, help="Steps in each window of cascade mode.")] = 400,
    soak_requests: Annotated[
        int, typer.Option(min=1, help="Requests under which memory is watched.")
    ] = 50_000,
    seed: Annotated[int, typer.Option(help="Of the random orders.")] = 0,
    install: Annotated[
        bool,
        typer.Option(help="Install LiteLLM's proxy (800 MB) and Portkey (25 MB) if missing."),
    ] = True,
    hash_embedder: Annotated[
        bool, typer.Option("--hash-embedder", help="Without MiniLM, for trials.")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Folder for gateway.json, gateway.md and gateway.png.")
    ] = Path("out/bench"),
    json: Json = False,
) -> None:
    """Measure the gateway beside other gateways and a bare reference, in one run."""
    import os
    import shlex
    import sys

    import orjson

    from tutelage.overhead.gateway.cascade import CascadePlan
    from tutelage.overhead.gateway.contenders import NAMES
    from tutelage.overhead.gateway.report import (
        BAR_COLUMNS,
        CASCADE_COLUMNS,
        COLUMNS,
        GatewayReport,
    )
    from tutelage.overhead.gateway.run import PARTS, Plan
    from tutelage.overhead.gateway.windows import CONNECTIONS
    from tutelage.overhead.report import Machine

    plan = Plan(
        parts=tuple(part or PARTS),
        contenders=tuple(contender or NAMES),
        connections=tuple(connections or CONNECTIONS),
        rounds=rounds,
        seconds=seconds,
        cascade=CascadePlan(demonstrations, steps, hash_embedder=hash_embedder),
        soak_requests=soak_requests,
        seed=seed,
        install=install,
    )
    # Before the work, which is a load itself.
    machine = Machine.here()
    measured = asyncio.run(_measure_gateway(plan))
    command = shlex.join(["tutelage", *sys.argv[1:]])
    report = GatewayReport(command, machine, os.getloadavg()[0], measured)
    out.mkdir(parents=True, exist_ok=True)
    (out / "gateway.json").write_bytes(
        orjson.dumps(report.document(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )
    (out / "gateway.md").write_text(report.markdown(), encoding="utf-8")
    picture = _draw(measured, out / "gateway.png")
    if json:
        print_json(report.document())
        return
    for title, columns, rows in (
        (report.title(), COLUMNS, report.rows()),
        ("cascade mode", CASCADE_COLUMNS, report.cascade_rows()),
        ("bars", BAR_COLUMNS, report.bar_rows()),
    ):
        if rows:
            print_table(title, columns, rows)
    for note in report.notes():
        typer.echo(f"- {note}")
    typer.echo(f"{out / 'gateway.json'}\n{out / 'gateway.md'}\n{picture}")


async def _measure_gateway(plan: Plan) -> Measured:
    import signal
    import sys
    from tempfile import TemporaryDirectory

    from tutelage.overhead.gateway.run import measure_gateway
    from tutelage.runtime.cache_dir import cache_dir

    def progress(line: str) -> None:
        typer.echo(f"{line} …", err=True)

    def end(*_: object) -> None:
        sys.exit(128 + signal.SIGTERM)

    # Ends by way of every `finally`, so that no gateway is left running.
    before = signal.signal(signal.SIGTERM, end)
    try:
        with TemporaryDirectory(prefix="tutelage-bench-") as folder:
            return await measure_gateway(plan, Path(folder), cache_dir(), progress=progress)
    finally:
        signal.signal(signal.SIGTERM, before)


def _draw(measured: Measured, path: Path) -> str:
    from tutelage.overhead.gateway.picture import draw
    from tutelage.runtime.errors import MissingExtra

    try:
        path.write_bytes(draw(measured))
    except MissingExtra as error:
        return f"no plot: {error}"
    return str(path)


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
