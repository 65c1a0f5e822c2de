"""The report as one self-contained web page, and all its files in a folder."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tutelage.benchmarks.plot import draw
from tutelage.benchmarks.report import Report, to_json
from tutelage.benchmarks.report_breakdown import category_table, example_list
from tutelage.benchmarks.report_table import COLUMNS, markdown, usd
from tutelage.benchmarks.summary import PRICINGS, ArmSummary
from tutelage.runtime.errors import BenchmarkError, MissingExtra

_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #5b6676; --line: #dfe4ea; --tint: #f5f7f9; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1480px; padding: 2rem 1.5rem 4rem; color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; background: #fff; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p.lead { color: var(--soft); margin: 0 0 1.2rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { padding: .55rem .7rem; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
thead th { background: var(--tint); color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
thead th:first-child { background: var(--tint); }
tbody tr:last-child > * { border-bottom: 0; }
tbody tr:hover > * { background: var(--tint); }
td small, th small { display: block; color: var(--soft); font-weight: 400; }
.better { color: #17693a; } .worse { color: #a1271b; } .insignificant { color: var(--soft); }
figure { margin: 0; } figure svg { width: 100%; height: auto; }
ul { padding-left: 1.2rem; } li { margin: .25rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: 13px; }
details { margin: .4rem 0; } summary { cursor: pointer; font-weight: 600; }
h3 { font-size: .95rem; margin: .8rem 0 .2rem; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
dt { font-weight: 600; } dd { margin: 0; color: var(--soft); }
"""


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """The files of a report."""

    page: Path
    table: Path
    figures: Path
    plot: Path | None
    missing: str | None
    """Why there is no plot, with the command that mends it."""


def page(report: Report, plot_svg: bytes | None) -> str:
    """The report as HTML that loads nothing else.

    Args:
        report: What is shown.
        plot_svg: The picture; ``None`` leaves it out.
    """
    settings = report.settings
    title = f"{settings.world}: cost against success"
    lead = f"{settings.split}; teacher {settings.teacher}; student {settings.student}"
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    columns = "".join(
        f"<dt>{escape(column.header)}</dt><dd>{escape(column.explanation)}</dd>"
        for column in COLUMNS
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
{_figure(plot_svg)}
<h2>Arms</h2>
<div class="scroll">{_table(report)}</div>
<h2>Cost and tokens by component, an episode</h2>
<div class="scroll">{_components(report)}</div>
{_breakdown(report)}
<h2>Notes</h2>
<ul>{notes}</ul>
<h2>Columns</h2>
<dl>{columns}</dl>
</body>
</html>
"""


def _breakdown(report: Report) -> str:
    parts = []
    if report.categories:
        table = category_table(report.categories)
        parts.append(f'<h2>Kinds of tasks</h2>\n<div class="scroll">{table}</div>')
    if report.examples:
        parts.append(f"<h2>Episodes that failed</h2>\n{example_list(report.examples)}")
    return "\n".join(parts)


def _figure(plot_svg: bytes | None) -> str:
    if plot_svg is None:
        return ""
    text = plot_svg.decode()
    # Prolog and metadata only name addresses; inside HTML neither is wanted.
    drawing = _METADATA.sub("", text[text.index("<svg") :])
    label = "Cost of an episode against the share of solved episodes, by arm"
    return f'<figure role="img" aria-label="{label}">{drawing}</figure>'


def _arm(row: ArmSummary) -> str:
    return f"<td>{escape(row.title)}<small>{escape(row.arm)}</small></td>"


def _table(report: Report) -> str:
    head = "".join(f"<th>{escape(column.header)}</th>" for column in COLUMNS)
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
    return "<br>".join(
        f"{escape(value)}<small>[{escape(interval)}</small>" if interval else escape(value)
        for value, _, interval in (part.partition(" [") for part in cell.split(" / "))
    )


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
    drawing: bytes | None = None
    plot: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            drawing = draw(report, "svg")
            plot = folder / "plot.png"
            plot.write_bytes(draw(report, "png"))
        except MissingExtra as error:
            missing = str(error)
        table, figures, html = (folder / f"report.{form}" for form in ("md", "json", "html"))
        table.write_text(markdown(report), encoding="utf-8")
        figures.write_text(json.dumps(to_json(report), indent=2) + "\n", encoding="utf-8")
        html.write_text(page(report, drawing), encoding="utf-8")
    except OSError as error:
        raise BenchmarkError(f"{folder} cannot be written: {error.strerror}") from error
    return WrittenReport(html, table, figures, plot, missing)
