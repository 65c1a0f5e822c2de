"""``tutelage report``: table, plot and page of a replay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tutelage.cli.options import ConfigFile, Json, Setting
from tutelage.cli.output import console, print_json
from tutelage.cli.stored import with_assembly

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.benchmarks.report import Report

SAVINGS = "savings"
COSTS = "costs"
TABLE = "table"


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER",
            help="Folder of a replay; or `savings` or `costs`, of recorded traffic; or `table` and "
            "the folders of several replays.",
        ),
    ],
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    arms: Annotated[
        str | None,
        typer.Option(help="For a table: arms, separated by commas.", show_default="all"),
    ] = None,
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
    --against: what changed since another replay, on the tasks and seeds that both played, here and
    in comparison.html. `tutelage report table FOLDER...` puts the arms of several replays, for
    example of several worlds, into one Markdown table.
    """
    folder, *others = folders
    if str(folder) == TABLE and (others or not folder.is_dir()):
        _table(others, arms, json)
        return
    if others:
        raise typer.BadParameter(
            f"one folder at a time: compare two with `report {others[0]} --against {folder}`, or "
            "put several into one table with `report table`"
        )
    if str(folder) == SAVINGS and not folder.is_dir():
        _savings(tenant, since_s, config, setting, json)
        return
    if str(folder) == COSTS and not folder.is_dir():
        training = (training_usd, gpu_hours, gpu_usd_per_hour)
        _costs(tenant, since_s, training, episodes, config, setting, json)
        return
    if against is not None:
        _comparison(against, folder, "json" if json else "markdown" if markdown else "files")
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


def _table(folders: list[Path], arms: str | None, as_json: bool) -> None:
    from tutelage.benchmarks.results_table import markdown, results_table, to_json
    from tutelage.cli.playing import names

    if not folders:
        raise typer.BadParameter("name the folders of the replays: report table out/household")
    found = results_table(folders, names(arms) if arms else ())
    if as_json:
        print_json(to_json(found))
        return
    typer.echo(markdown(found), nl=False)


def _with_failures(
    report: Report,
    folder: Path,
    an_arm: int,
    tenant: str | None,
    config: Path | None,
    setting: list[str] | None,
) -> Report:
    """The report with failed episodes, as far as the store holds them."""
    from tutelage.benchmarks.failed_episodes import FailedEpisode, failed_episode
    from tutelage.benchmarks.failed_episodes import failures as failed
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


def _comparison(first: Path, second: Path, form: Literal["json", "markdown", "files"]) -> None:
    from tutelage.benchmarks import run_comparison
    from tutelage.benchmarks.comparison_page import write_comparison

    found = run_comparison.compare_folders(first, second)
    if form == "json":
        print_json(run_comparison.to_json(found))
        return
    if form == "markdown":
        typer.echo(run_comparison.markdown(found))
        return
    written = write_comparison(found, second)
    console().print(run_comparison.rich_table(found))
    for note in found.notes:
        typer.echo(f"- {note}")
    typer.echo(f"wrote {written.page}")


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
