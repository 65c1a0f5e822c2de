"""The report as one self-contained web page, and all its files in a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tutelage.benchmarks.cost_chart import ChartPoint, cost_chart
from tutelage.benchmarks.failed_episodes import example_list
from tutelage.benchmarks.page_style import html_page
from tutelage.benchmarks.plot import draw
from tutelage.benchmarks.report import STUDENT_ARM, Report, to_json
from tutelage.benchmarks.report_breakdown import TEACHER_ARM, CategoryShare, share_table
from tutelage.benchmarks.report_table import COLUMNS, markdown, usd
from tutelage.benchmarks.summary import PRICINGS, ArmSummary
from tutelage.benchmarks.token_bars import token_bars
from tutelage.runtime.errors import BenchmarkError, MissingExtra


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """The files of a report."""

    page: Path
    table: Path
    figures: Path
    plot: Path | None
    missing: str | None
    """Why there is no picture of its own beside the page, with the command that mends it."""


def page(report: Report) -> str:
    """The report as HTML that loads nothing else."""
    settings = report.settings
    title = f"{settings.world}: cost against success"
    lead = f"split {settings.split}; teacher {settings.teacher}; student {settings.student}"
    oracle = ""
    if settings.teacher_kind == "oracle":
        oracle = (
            '<p class="caution">The teacher of this run is an oracle, not a language model: its '
            "tokens are priced as if a model had read the same prompt and written the same "
            "answer.</p>"
        )
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    columns = "".join(
        f"<dt>{escape(column.header)}</dt><dd>{escape(column.explanation)}</dd>"
        for column in COLUMNS
    )
    body = f"""<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
{oracle}
{cost_chart(_points(report), _mix(report))}
<p class="about">Bars are 95 % intervals: of the share of solved episodes (Wilson) and of the cost \
of an episode (Student's t over tasks). An arm above the dashed line earns its keep.</p>
<h2>Arms</h2>
<p class="about">Dollars in two lines: with prompt caches, and with every prompt token in full. \
Tokens in two lines: prompt+output of the student, and of the teacher.</p>
<div class="scroll">{_table(report)}</div>
{_shares(report)}
<h2>Where tokens went</h2>
<p class="about">Tokens of a mean episode. The student's cost less each.</p>
{token_bars(report.rows)}
<details><summary>Cost and tokens by component, an episode</summary>
<div class="scroll">{_components(report)}</div></details>
{_examples(report)}
<h2>Notes</h2>
<ul>{notes}</ul>
<h2>Columns</h2>
<dl>{columns}</dl>"""
    return html_page(title, body)


def _points(report: Report) -> list[ChartPoint]:
    return [
        ChartPoint(
            title=f"{row.title} (n = {row.episodes})",
            success=row.share_solved,
            success_interval=row.success,
            episode_usd={pricing: row.costs[pricing].episode_usd for pricing in PRICINGS},
            episode_usd_interval=row.episode_usd_interval,
        )
        for row in report.rows
    ]


def _mix(report: Report) -> tuple[int, int] | None:
    places = {row.arm: place for place, row in enumerate(report.rows)}
    if STUDENT_ARM in places and TEACHER_ARM in places:
        return places[STUDENT_ARM], places[TEACHER_ARM]
    return None


def _shares(report: Report) -> str:
    titles = {row.arm: row.title for row in report.rows}
    about = "Share of steps that the teacher took, and episodes solved with a 95 % interval."
    parts = [f'<h2>Teacher share by difficulty</h2>\n<p class="about">{about}</p>']

    def table(title: str, rows: tuple[CategoryShare, ...]) -> str:
        return f'<h3>{title}</h3>\n<div class="scroll">{share_table(rows, titles)}</div>'

    if report.difficulties:
        parts.append(table("By the steps that the teacher alone needed", report.difficulties))
    if report.categories:
        parts.append(table("By kind of task", report.categories))
    return "\n".join(parts) if len(parts) > 1 else ""


def _examples(report: Report) -> str:
    if report.examples:
        about = "The last steps of each: what the student saw, what it said, and who decided."
        told = f'<p class="about">{about}</p>\n{example_list(report.examples)}'
        return f"<h2>Episodes that failed</h2>\n{told}"
    if all(row.solved == row.episodes for row in report.rows):
        return ""
    how = "tutelage report FOLDER --failures 2"
    return (
        f'<h2>Episodes that failed</h2>\n<p class="about">Shown, with the store that the replay '
        f"wrote to, by <code>{how}</code>.</p>"
    )


def _arm(row: ArmSummary) -> str:
    return f"<td>{escape(row.title)}<small>{escape(row.arm)}</small></td>"


def _table(report: Report) -> str:
    head = "".join(
        f'<th title="{escape(column.explanation)}">{escape(column.header)}</th>'
        for column in COLUMNS
    )
    body = []
    for row in report.rows:
        verdict = row.against_teacher.verdict if row.against_teacher else ""
        cells = []
        for column in COLUMNS:
            kind = f' class="{verdict}"' if column.header == "vs teacher" and verdict else ""
            cells.append(f"<td{kind}>{_stacked(column.cell(row))}</td>")
        body.append(f"<tr>{_arm(row)}{''.join(cells)}</tr>")
    return (
        f"<table><thead><tr><th>arm</th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def _stacked(cell: str) -> str:
    """Two values of one cell below each other, intervals in small type."""
    parts = []
    for value, _, interval in (part.partition(" [") for part in cell.split(" / ")):
        small = f"<small>[{escape(interval)}</small>" if interval else ""
        parts.append(f"<div>{escape(value)}{small}</div>")
    return "".join(parts)


def _components(report: Report) -> str:
    heads = (
        "component",
        "prompt tokens in full",
        "cache reads",
        "cache writes",
        "output tokens",
        *(f"USD, {pricing}" for pricing in PRICINGS),
        "actions refused",
    )
    body = []
    for row in report.rows:
        for role, usage in row.tokens.items():
            refused = row.refused_share[role]
            cells = (
                role,
                *(
                    f"{count / row.episodes:,.0f}"
                    for count in (
                        usage.input_tokens,
                        usage.cache_read_tokens,
                        usage.cache_write_tokens,
                        usage.output_tokens,
                    )
                ),
                *(usd(row.costs[pricing].components_usd[role]) for pricing in PRICINGS),
                "-" if refused is None else f"{refused:.0%}",
            )
            body.append(f"<tr>{_arm(row)}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = "".join(f"<th>{cell}</th>" for cell in ("arm", *heads))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def write_report(report: Report, folder: Path) -> WrittenReport:
    """Writes ``report.html``, ``report.md``, ``report.json`` and, with matplotlib, ``plot.png``.

    Raises:
        BenchmarkError: The folder cannot be written.
    """
    missing: str | None = None
    plot: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            drawing = draw(report, "png")
            plot = folder / "plot.png"
            plot.write_bytes(drawing)
        except MissingExtra as error:
            missing = str(error)
        table, figures, html = (folder / f"report.{form}" for form in ("md", "json", "html"))
        table.write_text(markdown(report), encoding="utf-8")
        figures.write_text(json.dumps(to_json(report), indent=2) + "\n", encoding="utf-8")
        html.write_text(page(report), encoding="utf-8")
    except OSError as error:
        raise BenchmarkError(f"{folder} cannot be written: {error.strerror}") from error
    return WrittenReport(html, table, figures, plot, missing)
