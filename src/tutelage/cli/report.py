"""``tutelage report``: table, plot and page of a replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.options import ConfigFile, Json, Setting
from tutelage.cli.output import console, print_json
from tutelage.cli.stored import with_assembly

SAVINGS = "savings"


def report(
    folder: Annotated[
        Path, typer.Argument(help="Folder of a replay; or `savings`, of recorded traffic.")
    ],
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    since_s: Annotated[float, typer.Option(help="For savings: Unix time from which on.")] = 0.0,
    tenant: Annotated[
        str | None, typer.Option(help="For savings: whose traffic.", show_default="as configured")
    ] = None,
    config: ConfigFile = None,
    setting: Setting = None,
) -> None:
    """Compare the arms of a replay, or estimate what recorded traffic saves.

    Of a folder: a table here, a plot and report.html in it. `tutelage report savings` estimates
    savings, quality and risk from episodes that were held out and steps that were audited.
    """
    if str(folder) == SAVINGS and not folder.is_dir():
        _savings(tenant, since_s, config, setting, json)
        return
    from tutelage.benchmarks import report_table
    from tutelage.benchmarks.report import load_report, to_json
    from tutelage.benchmarks.report_page import write_report

    found = load_report(folder)
    if json:
        print_json(to_json(found))
        return
    if markdown:
        typer.echo(report_table.markdown(found))
        return
    written = write_report(found, folder)
    console().print(report_table.rich_table(found))
    for note in found.notes:
        typer.echo(f"- {note}")
    for path in (written.page, written.plot):
        if path is not None:
            typer.echo(f"wrote {path}")
    if written.missing:
        typer.echo(f"no plot: {written.missing}", err=True)


def _savings(
    tenant: str | None,
    since_s: float,
    config: Path | None,
    setting: list[str] | None,
    as_json: bool,
) -> None:
    from tutelage.savings import lines, savings_report, to_json

    found = with_assembly(
        config,
        setting,
        tenant,
        lambda assembly, owner: savings_report(assembly, owner, since_s=since_s),
        open_bank=False,
    )
    if as_json:
        print_json(to_json(found))
        return
    for line in lines(found):
        typer.echo(line)
