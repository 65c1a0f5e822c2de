"""``tutelage report``: table, plot and page of a replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.options import Json
from tutelage.cli.output import console, print_json


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a replay.")],
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """Compare the arms of a replay: a table here, a plot and report.html in the folder."""
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
