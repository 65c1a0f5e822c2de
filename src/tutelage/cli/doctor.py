"""``tutelage doctor``: what is ready, what is not, and the command that mends it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.options import ConfigFile, Json, Setting, Tenant, settings
from tutelage.cli.output import print_json

if TYPE_CHECKING:
    from tutelage.overhead.drafters import DrafterScore
    from tutelage.runtime.config import Config


def doctor(
    config: ConfigFile = None,
    setting: Setting = None,
    student: Annotated[
        bool,
        typer.Option(
            "--student",
            help="Measure instead how the student's vLLM should guess ahead, on recorded steps.",
        ),
    ] = False,
    steps: Annotated[
        int, typer.Option(min=1, help="With --student: newest steps that are measured.")
    ] = 30,
    tenant: Tenant = None,
    json: Json = False,
) -> None:
    """Check configuration, prices, store, embedder, bank, student and teacher.

    With --student: a vLLM server of the student's weights is started for each way of guessing
    ahead, one after another, and asked what the student was asked in recorded steps.
    """
    from tutelage.checkup import examine
    from tutelage.runtime.config import load_config

    loaded = load_config(config, overrides=settings(setting))
    if student:
        _measure_student(loaded, tenant or loaded.tenant, steps, json)
        return
    found = asyncio.run(examine(loaded))
    if json:
        print_json([asdict(finding) for finding in found])
    else:
        for finding in found:
            mark = typer.style("ok  ", "green") if finding.ok else typer.style("FAIL", "red")
            typer.echo(f"{mark} {finding.part:<10} {finding.text}")
    if not all(finding.ok for finding in found):
        raise typer.Exit(3)


def _measure_student(config: Config, tenant: str, steps: int, json: bool) -> None:
    from tutelage.cli.measuring import measuring
    from tutelage.cli.output import print_table
    from tutelage.overhead.drafters import COLUMNS, DRAFTERS, advise, compare_drafters
    from tutelage.overhead.drafters import document as as_document
    from tutelage.overhead.drafters import rows as as_rows
    from tutelage.overhead.recorded_steps import recorded_steps, student_servers

    async def measured() -> tuple[int, list[DrafterScore]]:
        from tutelage.assembly import open_assembly
        from tutelage.checkup import priced

        async with open_assembly(priced(config), open_bank=False) as assembly:
            requests = await recorded_steps(assembly, tenant, steps)
        make_server = student_servers(config)
        calls = 2 * len(requests) * (len(DRAFTERS) + 1)
        with measuring(calls, quiet=json) as told:
            return len(requests), await compare_drafters(
                make_server,
                requests,
                samples=config.cascade.samples,
                temperature=config.cascade.temperature,
                told=told,
            )

    count, scores = asyncio.run(measured())
    if json:
        print_json({"steps": count, "samples": config.cascade.samples, **as_document(scores)})
        return
    title = f"{count} recorded steps of {tenant}, {config.cascade.samples} samples a step"
    print_table(title, COLUMNS, as_rows(scores))
    typer.echo(advise(scores).text)
