"""``tutelage report``: table, plot and page of a replay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.options import ConfigFile, Json, Setting
from tutelage.cli.output import console, print_json
from tutelage.cli.stored import with_assembly

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.benchmarks.report import Report

SAVINGS = "savings"
COSTS = "costs"


def report(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder of a replay; or `savings` or `costs`, of recorded traffic."),
    ],
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", help="Folder of an earlier replay to compare with.", show_default=False
        ),
    ] = None,
    since_s: Annotated[
        float, typer.Option(help="Of recorded traffic: Unix time from which on.")
    ] = 0.0,
    tenant: Annotated[
        str | None, typer.Option(help="Of recorded traffic: whose.", show_default="as configured")
    ] = None,
    failures: Annotated[
        int,
        typer.Option(
            "--failures", min=0, help="Failed episodes of each arm to show from the store."
        ),
    ] = 0,
    training_usd: Annotated[
        float | None,
        typer.Option(min=0, help="For costs: what training cost.", show_default=False),
    ] = None,
    gpu_hours: Annotated[
        float | None,
        typer.Option(min=0, help="For costs: GPU hours of training.", show_default=False),
    ] = None,
    gpu_usd_per_hour: Annotated[
        float | None,
        typer.Option(min=0, help="For costs: price of a GPU hour.", show_default=False),
    ] = None,
    episodes: Annotated[
        int, typer.Option(min=1, help="For costs: episodes that are projected.")
    ] = 1_000_000,
    config: ConfigFile = None,
    setting: Setting = None,
) -> None:
    """Compare the arms of a replay, or estimate what recorded traffic saves.

    Of a folder: a table here, a plot and report.html in it. `tutelage report savings` estimates
    savings, quality and risk from episodes that were held out and steps that were audited.
    `tutelage report costs` adds what is spent once, and projects when it is repaid. With
    --against: what changed since another replay, on the tasks and seeds that both played.
    """
    if str(folder) == SAVINGS and not folder.is_dir():
        _savings(tenant, since_s, config, setting, json)
        return
    if str(folder) == COSTS and not folder.is_dir():
        training = (training_usd, gpu_hours, gpu_usd_per_hour)
        _costs(tenant, since_s, training, episodes, config, setting, json)
        return
    if against is not None:
        _comparison(against, folder, json)
        return
    from tutelage.benchmarks import report_table
    from tutelage.benchmarks.report import load_report, to_json
    from tutelage.benchmarks.report_page import write_report

    found = load_report(folder)
    if failures:
        found = _with_failures(found, folder, failures, tenant, config, setting)
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


def _with_failures(
    report: Report,
    folder: Path,
    an_arm: int,
    tenant: str | None,
    config: Path | None,
    setting: list[str] | None,
) -> Report:
    """The report with failed episodes, as far as the store holds them."""
    from tutelage.benchmarks.report_breakdown import FailedEpisode, failed_episode
    from tutelage.benchmarks.report_breakdown import failures as failed
    from tutelage.benchmarks.results import read_results

    async def read(assembly: Assembly, owner: str) -> list[FailedEpisode]:
        found = []
        for result in failed(read_results(folder), an_arm):
            traces = await assembly.traces.traces(
                owner, episode_id=result.episode_id, limit=result.steps
            )
            example = failed_episode(result, traces)
            if example is not None:
                found.append(example)
        return found

    examples = with_assembly(config, setting, tenant, read, open_bank=False)
    if not examples:
        told = "The store holds none of the episodes that failed: name it with store.url."
        return replace(report, notes=(*report.notes, told))
    return replace(report, examples=tuple(examples))


def _comparison(first: Path, second: Path, as_json: bool) -> None:
    from tutelage.benchmarks.run_comparison import compare_folders, rich_table, to_json

    found = compare_folders(first, second)
    if as_json:
        print_json(to_json(found))
        return
    console().print(rich_table(found))
    for note in found.notes:
        typer.echo(f"- {note}")


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


def _costs(
    tenant: str | None,
    since_s: float,
    training: tuple[float | None, float | None, float | None],
    episodes: int,
    config: Path | None,
    setting: list[str] | None,
    as_json: bool,
) -> None:
    from tutelage.costs import Training, cost_report, lines, to_json

    found = with_assembly(
        config,
        setting,
        tenant,
        lambda assembly, owner: cost_report(
            assembly, owner, Training(*training), since_s=since_s, episodes=episodes
        ),
        open_bank=False,
    )
    if as_json:
        print_json(to_json(found))
        return
    for line in lines(found):
        typer.echo(line)
